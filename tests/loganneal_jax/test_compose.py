"""Tests of the schedule transformations, and of schedules in optax chains."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loganneal_jax as la
from tests.loganneal_jax import peers
from tests.loganneal_jax.peers import PEAK

LAST = 2**31 - 1
STEPS = jnp.arange(24)
POLYNOMIAL = optax.polynomial_schedule(0.1, 0.01, power=2, transition_steps=12)


def polynomial(step):
    """Evaluates the formula of POLYNOMIAL in float64."""
    return 0.01 + 0.09 * (1 - np.minimum(step, 12) / 12) ** 2


def test_pytorch_rejects_warmup_from_zero():
    with pytest.raises(ValueError, match="Starting"):
        peers.pytorch_values(lambda lr, sgd: lr.LinearLR(sgd, 0.0, 1.0, 10), 1)


def test_per_epoch_matches_pytorch_schedule_stepped_once_per_epoch():
    theirs = peers.pytorch_values(lambda lr, sgd: lr.LinearLR(sgd, 1.0, 0.01, 5), 7)
    ours = la.tabulate(la.per_epoch(la.linear_decay_schedule(PEAK, 0.001, 5 * 40), 40), 7 * 40)
    np.testing.assert_allclose(ours, np.repeat(theirs, 40), rtol=2e-6)


def test_warmup_of_cyclical_schedule_equals_with_warmup():
    cyclic = {"init_decay_steps": 6, "restart_interval": 4}
    built_in = la.cyclical_log_annealing_schedule(
        0.1, 0.001, **cyclic, warmup_steps=5, warmup_init_value=0.01
    )
    wrapped = la.with_warmup(la.cyclical_log_annealing_schedule(0.1, 0.001, **cyclic), 5, 0.01)
    np.testing.assert_array_equal(built_in(STEPS), wrapped(STEPS))


def test_chain_starts_each_schedule_at_its_own_step_zero():
    lowest_counts = []

    def recording(count):
        lowest_counts.append(int(count.min()))
        return POLYNOMIAL(count)

    schedule = la.chain_schedules([optax.constant_schedule(0.5), recording], [5])
    step = np.arange(24)
    np.testing.assert_allclose(
        schedule(STEPS), np.where(step < 5, 0.5, polynomial(step - 5)), rtol=1e-6
    )
    assert min(lowest_counts) == 0


def test_inactive_schedule_does_not_affect_gradient():
    def chained(scale):
        # Undefined at negative counts, as many handwritten schedules are.
        root = lambda count: scale * jnp.sqrt(jnp.asarray(count, jnp.float32) + 0.5)  # noqa: E731
        return la.chain_schedules([optax.constant_schedule(0.1), root], [9])

    assert jax.grad(lambda scale: chained(scale)(3))(0.2) == 0
    np.testing.assert_allclose(
        jax.grad(lambda scale: chained(scale)(9))(0.2), np.sqrt(0.5), rtol=1e-6
    )


def test_repeat_per_epoch_scale_and_clip_match_their_formulas():
    step = np.arange(24)
    repeated = la.repeat_schedule(POLYNOMIAL, 5)(STEPS)
    np.testing.assert_allclose(repeated, polynomial(step % 5), rtol=1e-6)
    twice = la.repeat_schedule(POLYNOMIAL, 5, times=2)(STEPS)
    np.testing.assert_allclose(twice, polynomial(np.where(step < 5, step, step - 5)), rtol=1e-6)
    held = la.per_epoch(POLYNOMIAL, 5)(STEPS)
    np.testing.assert_allclose(held, polynomial(step // 5 * 5), rtol=1e-6)
    scaled = la.scale_for_batch_size(POLYNOMIAL, 64, base_batch_size=256)(STEPS)
    np.testing.assert_allclose(scaled, polynomial(step) / 4, rtol=1e-6)
    clipped = la.clip_schedule(POLYNOMIAL, 0.02, 0.05)(STEPS)
    np.testing.assert_allclose(clipped, np.clip(polynomial(step), 0.02, 0.05), rtol=1e-6)
    for schedule in (la.repeat_schedule(POLYNOMIAL, 5), la.per_epoch(POLYNOMIAL, 5)):
        assert np.isfinite(schedule(jnp.array([[-5, 0], [LAST - 1, LAST]]))).all()


@pytest.mark.parametrize("offset", [0, 1, 5, 40, -1, -5, -40, LAST, -LAST])
def test_shift_skips_or_delays_steps_without_overflow(offset):
    shifted = la.shift_schedule(POLYNOMIAL, offset)
    expected = polynomial(np.maximum(np.arange(24) + offset, 0))
    np.testing.assert_allclose(shifted(STEPS), expected, rtol=1e-6)
    line = la.shift_schedule(la.linear_decay_schedule(1.0, 0.0, LAST), offset)
    expected = np.clip(1 - (np.array([0, LAST - 1, LAST]) + offset) / LAST, 0, 1)
    np.testing.assert_allclose(line(jnp.array([0, LAST - 1, LAST])), expected, atol=1e-7)


def test_shifts_in_both_directions_cancel_from_the_delay_on():
    schedule = la.shift_schedule(la.shift_schedule(POLYNOMIAL, 5), -5)
    np.testing.assert_array_equal(schedule(STEPS)[5:], jax.jit(POLYNOMIAL)(STEPS)[5:])


def test_product_multiplies_values():
    step = np.arange(24)
    half = optax.constant_schedule(0.5)
    product = la.multiply_schedules(POLYNOMIAL, half, la.staircase_schedule(1.0, boundaries=[7]))
    expected = polynomial(step) * 0.5 * np.where(step < 7, 1, 0.1)
    np.testing.assert_allclose(product(STEPS), expected, rtol=1e-6)
    np.testing.assert_array_equal(la.multiply_schedules(half)(STEPS), np.full(24, 0.5))
    slope = jax.grad(lambda f: la.multiply_schedules(lambda _: f, POLYNOMIAL)(3))(0.2)
    np.testing.assert_allclose(slope, polynomial(3), rtol=1e-6)


def test_schedule_built_from_tabulated_values_equals_original():
    schedule = la.cyclical_cosine_schedule(0.1, 0.001, init_decay_steps=5, restart_interval=7)
    table = la.tabulate(schedule, 24)
    assert table.shape == (24,)
    assert table.dtype == jnp.float32
    rebuilt = la.from_values(table)
    np.testing.assert_array_equal(rebuilt(STEPS), table)
    # The table is computed operation by operation, a call in one compiled program.
    np.testing.assert_allclose(table, schedule(STEPS), rtol=2e-7)
    np.testing.assert_array_equal(rebuilt(jnp.array([-1, 24, LAST])), table[jnp.array([0, 23, 23])])
    np.testing.assert_array_equal(la.tabulate(optax.constant_schedule(0.5), 3), [0.5] * 3)


def test_one_compiled_program_accepts_any_table():
    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @chex.assert_max_traces(n=1)
    def lookup(row, count):
        return la.from_values(row)(count)

    tables = jnp.stack([la.tabulate(POLYNOMIAL, 24), la.tabulate(optax.constant_schedule(0.5), 24)])
    for count in (0, 3, 23):
        np.testing.assert_array_equal(lookup(tables, count), tables[:, count])


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd,
        lambda lr: optax.chain(optax.scale_by_schedule(lr), optax.scale(-1.0)),
        lambda lr: optax.inject_hyperparams(optax.sgd)(learning_rate=lr),
        lambda lr: optax.multi_transform(
            {"scheduled": optax.sgd(lr), "fixed": optax.sgd(0.5)}, {"w": "scheduled", "b": "fixed"}
        ),
    ],
    ids=["sgd", "scale_by_schedule", "inject_hyperparams", "multi_transform"],
)
def test_optax_chain_applies_schedule(optimizer):
    schedule = la.cyclical_log_annealing_schedule(
        0.1, 0.001, init_decay_steps=3, restart_interval=2, warmup_steps=2
    )
    rates = np.asarray(la.tabulate(schedule, 8), np.float64)
    params = {"w": jnp.ones(3), "b": jnp.ones(())}
    chain = optimizer(schedule)

    @jax.jit
    def step(params, state):
        gradients = {"w": jnp.full(3, 2.0), "b": jnp.float32(1.0)}
        updates, state = chain.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    state = chain.init(params)
    for _ in range(8):
        params, state = step(params, state)
    np.testing.assert_allclose(params["w"], 1 - 2 * rates.sum(), rtol=1e-5)


def test_adamw_applies_schedule():
    schedule = la.trapezoid_schedule(0.1, 0.0, 8, warmup_steps=2, cooldown_steps=3)
    rates = np.asarray(la.tabulate(schedule, 8), np.float64)
    chain = optax.adamw(schedule, weight_decay=0.5)
    weight = jnp.float32(1.0)
    state, expected = chain.init(weight), 1.0
    step = jax.jit(lambda w, s: chain.update(jnp.float32(2.0), s, w))
    for rate in rates:
        update, state = step(weight, state)
        weight = optax.apply_updates(weight, update)
        # With a constant gradient, Adam's update before scaling is 1. Weight decay is decoupled.
        expected -= rate * (1.0 + 0.5 * expected)
    np.testing.assert_allclose(weight, expected, rtol=1e-4)
