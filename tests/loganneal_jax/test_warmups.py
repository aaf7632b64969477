"""Tests of warmups and cooldowns: formulas, optax, PyTorch, and exact ends."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loganneal_jax as la
from loganneal_jax import shapes
from loganneal_jax.warmups import WARMUPS
from tests.loganneal_jax import peers
from tests.loganneal_jax.peers import END, PEAK, Comparison

STEPS = np.arange(24)
POLYNOMIAL = optax.polynomial_schedule(0.1, 0.01, power=2, transition_steps=12)
INIT = 0.001


def polynomial(step):
    """Evaluates the formula of POLYNOMIAL in float64."""
    return 0.01 + 0.09 * (1 - np.minimum(step, 12) / 12) ** 2


# The fraction of the rise at each step, with x = step / n.
FRACTIONS = {
    "linear": lambda x, n: x,
    "constant": lambda x, n: 0 * x,
    "cosine": lambda x, n: 0.5 * (1 - np.cos(np.pi * x)),
    "1-sqrt": lambda x, n: 1 - np.sqrt(1 - x),
    "exponential": lambda x, n: ((0.1 / INIT) ** x - 1) / (0.1 / INIT - 1),
    "1/n": lambda x, n: x + 1 / n,
}
COMPARISONS = {
    "constant with warmup": Comparison(
        la.with_warmup(optax.constant_schedule(PEAK), 10, 0.01),
        lambda step: peers.with_warmup(lambda t: np.full(t.shape, PEAK), step, 10, 0.01),
        50,
        optax.warmup_constant_schedule(0.01, PEAK, 10),
        lambda lr, sgd: lr.LinearLR(sgd, 0.1, 1.0, 10),
    ),
    # The first step has a tenth of the learning rate, the tenth has all of it.
    "first step at 1/n": Comparison(
        la.with_warmup(optax.constant_schedule(PEAK), 10, warmup="1/n"),
        lambda step: PEAK * np.minimum(step + 1, 10) / 10,
        50,
        from_pytorch=lambda lr, sgd: lr.LambdaLR(sgd, lambda step: min(step + 1, 10) / 10),
    ),
    "constant warmup": Comparison(
        la.with_warmup(optax.constant_schedule(PEAK), 10, PEAK / 4, warmup="constant"),
        lambda step: np.where(step < 10, PEAK / 4, PEAK),
        50,
        optax.join_schedules([lambda _: PEAK / 4, lambda _: PEAK], [10]),
        lambda lr, sgd: lr.ConstantLR(sgd, 0.25, 10),
    ),
    "linear cooldown": Comparison(
        la.with_cooldown(optax.constant_schedule(PEAK), 30, 20, END),
        lambda step: PEAK + (END - PEAK) * np.clip((step - 30) / 20, 0, 1),
        80,
        optax.linear_schedule(PEAK, END, 20, transition_begin=30),
        lambda lr, sgd: lr.SequentialLR(
            sgd, [lr.ConstantLR(sgd, 1.0), lr.LinearLR(sgd, 1.0, END / PEAK, 20)], [30]
        ),
    ),
    "1-sqrt cooldown": Comparison(
        la.with_cooldown(POLYNOMIAL, 6, 10, END, shape=shapes.one_minus_sqrt),
        lambda step: np.where(
            step < 6,
            polynomial(step),
            END + (polynomial(6) - END) * (1 - np.sqrt(np.clip((step - 6) / 10, 0, 1))),
        ),
        40,
    ),
}


@pytest.mark.parametrize(("name", "peer"), peers.pairs(COMPARISONS))
def test_schedule_matches_peer(name, peer):
    peers.assert_matches(COMPARISONS[name], peer)


@pytest.mark.parametrize("num_steps", [1, 7, 41])
@pytest.mark.parametrize("warmup", WARMUPS)
def test_warmup_equals_its_formula_and_ends_at_first_value_of_schedule(warmup, num_steps):
    schedule = jax.jit(la.with_warmup(POLYNOMIAL, num_steps, INIT, warmup=warmup))
    step = np.arange(num_steps + 20)
    x = np.minimum(step / num_steps, 1)
    rise = INIT + (0.1 - INIT) * FRACTIONS[warmup](x, num_steps)
    expected = np.where(step < num_steps, rise, polynomial(step - num_steps))
    np.testing.assert_allclose(schedule(step), expected, rtol=2e-6)
    assert schedule(num_steps) == np.float32(0.1)
    if warmup == "1/n":
        assert schedule(num_steps - 1) == np.float32(0.1)
    else:
        assert schedule(0) == schedule(-5) == np.float32(INIT)


def test_every_warmup_has_a_formula():
    assert set(FRACTIONS) == set(WARMUPS)


def test_warmups_match_those_of_transformers():
    """The formulas are those of `get_wsd_schedule` in transformers 4.57, with min_lr_ratio 0.1."""
    progress = np.arange(7) / 7
    factors = {"linear": progress, "cosine": 0.5 * (1 - np.cos(np.pi * progress))}
    factors["1-sqrt"] = 1 - np.sqrt(1 - progress)
    for warmup, factor in factors.items():
        expected = PEAK * (factor * 0.9 + 0.1)
        ours = la.with_warmup(optax.constant_schedule(PEAK), 7, 0.1 * PEAK, warmup=warmup)
        np.testing.assert_allclose(la.tabulate(ours, 7), expected, rtol=2e-6)


def test_one_minus_sqrt_warmup_is_accurate_at_the_start_of_a_long_warmup():
    schedule = la.with_warmup(optax.constant_schedule(1.0), 10**6, warmup="1-sqrt")
    np.testing.assert_allclose(schedule([1, 2, 3]), np.arange(1, 4) * 5e-7, rtol=3e-6)


def test_zero_warmup_steps_leave_schedule_unchanged():
    unchanged = la.with_warmup(POLYNOMIAL, 0)
    np.testing.assert_array_equal(unchanged(STEPS), jax.jit(POLYNOMIAL)(STEPS))


@pytest.mark.parametrize("shape", [shapes.linear, shapes.cosine, shapes.one_minus_sqrt])
def test_cooldown_starts_at_schedule_and_ends_exactly(shape):
    schedule = jax.jit(la.with_cooldown(POLYNOMIAL, 5, 41, END, shape=shape))
    # Until the first step of the cooldown, the values are those of the schedule, bit for bit.
    np.testing.assert_array_equal(schedule(STEPS[:6]), jax.jit(POLYNOMIAL)(STEPS[:6]))
    assert (schedule(jnp.array([46, 47, 2**31 - 1])) == np.float32(END)).all()
    assert schedule(45) > np.float32(END)
    at_once = la.with_cooldown(POLYNOMIAL, 0, 41, END, shape=shape)
    assert at_once(0) == np.float32(0.1)


def test_cooldown_equals_the_trapezoid():
    plateau = la.with_warmup(optax.constant_schedule(0.1), 5, 0.01)
    for cooldown, shape in (("linear", shapes.linear), ("1-sqrt", shapes.one_minus_sqrt)):
        trapezoid = la.trapezoid_schedule(
            0.1,
            END,
            50,
            warmup_steps=5,
            cooldown_steps=20,
            warmup_init_value=0.01,
            cooldown=cooldown,
        )
        ours = la.with_cooldown(plateau, 30, 20, END, shape=shape)
        np.testing.assert_array_equal(la.tabulate(ours, 60), la.tabulate(trapezoid, 60))


def test_gradients_of_warmups_and_cooldowns_are_finite():
    def value(init_value, end_value, warmup, count):
        schedule = la.with_warmup(optax.constant_schedule(0.1), 7, init_value, warmup=warmup)
        return la.with_cooldown(schedule, 9, 4, end_value, shape=shapes.one_minus_sqrt)(count)

    for warmup in WARMUPS:
        gradient = jax.grad(value, (0, 1))
        slopes = jax.vmap(lambda c, w=warmup: gradient(0.01, 0.001, w, c))(jnp.arange(20))  # noqa: B023
        assert all(np.isfinite(slope).all() for slope in slopes)
        assert slopes[1][15] == 1.0
