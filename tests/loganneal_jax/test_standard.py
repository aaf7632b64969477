"""Tests of the decays with parameters: equality with formulas in float64, and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import loganneal_jax as la
from loganneal_jax import shapes, standard
from loganneal_jax.standard import (
    cosine_decay_schedule,
    inverse_time_schedule,
    polynomial_decay_schedule,
    tanh_decay_schedule,
)

LAST = 2**31 - 1
STEPS = np.arange(60)


def x(decay_steps):
    return np.minimum(STEPS / decay_steps, 1)


def cycle_position(decay_steps):
    return STEPS / (decay_steps * np.maximum(1, np.ceil(STEPS / decay_steps)))


FORMULAS = {
    "cosine": (
        cosine_decay_schedule(0.1, 0.001, 40, exponent=1.5, k=2.0),
        0.001 + 0.099 * (0.5 * (1 + np.cos(np.pi * x(40) ** 2))) ** 1.5,
    ),
    "polynomial": (
        polynomial_decay_schedule(0.1, 0.001, 40, power=3.0, k=0.5),
        0.001 + 0.099 * (1 - x(40) ** 0.5) ** 3,
    ),
    "rising polynomial": (
        polynomial_decay_schedule(0.001, 0.1, 40, power=2.0),
        0.1 - 0.099 * (1 - x(40)) ** 2,
    ),
    "polynomial in cycles": (
        polynomial_decay_schedule(0.1, 0.001, 7, power=2.0, cycle=True),
        0.001 + 0.099 * (1 - cycle_position(7)) ** 2,
    ),
    "tanh": (
        tanh_decay_schedule(0.1, 0.001, 40, lower=-6.0, upper=4.0),
        0.001 + 0.099 * 0.5 * (1 - np.tanh(-6 * (1 - x(40)) + 4 * x(40))),
    ),
    "inverse time": (
        inverse_time_schedule(0.1, 10, decay_rate=0.5),
        0.1 / (1 + 0.5 * STEPS / 10),
    ),
    "inverse time, in stairs": (
        inverse_time_schedule(0.1, 10, decay_rate=0.5, staircase=True),
        0.1 / (1 + 0.5 * (STEPS // 10)),
    ),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_schedule_equals_formula(name):
    schedule, expected = FORMULAS[name]
    np.testing.assert_allclose(schedule(STEPS), expected, rtol=3e-6, atol=1e-9)


@pytest.mark.parametrize("name", FORMULAS)
def test_repr_rebuilds_an_equal_schedule(name):
    schedule, _ = FORMULAS[name]
    assert eval(repr(schedule), vars(standard)) == schedule


@pytest.mark.parametrize("k", [1.0, 1.5])
@pytest.mark.parametrize("exponent", [1.0, 2.0])
def test_cosine_and_polynomial_start_and_end_exactly(k, exponent):
    for schedule in (
        cosine_decay_schedule(0.1, 0.001, 41, exponent=exponent, k=k),
        polynomial_decay_schedule(0.1, 0.001, 41, power=exponent, k=k),
    ):
        values = jax.jit(schedule)(jnp.array([-5, 0, 41, LAST]))
        np.testing.assert_array_equal(values, np.float32([0.1, 0.1, 0.001, 0.001]))


def test_plain_exponents_build_the_plain_shapes():
    assert cosine_decay_schedule(0.1, 0.001, 40)(7) == la.anneal(shapes.cosine, 0.1, 0.001, 40)(7)
    linear = polynomial_decay_schedule(0.1, 0.001, 40)
    assert linear(7) == la.linear_decay_schedule(0.1, 0.001, 40)(7)


@pytest.mark.parametrize(
    "make", [cosine_decay_schedule, polynomial_decay_schedule, tanh_decay_schedule]
)
def test_end_fraction_is_relative_to_the_initial_value(make):
    by_fraction = make(0.5, None, 40, end_fraction=0.25)
    np.testing.assert_array_equal(by_fraction(STEPS), make(0.5, 0.125, 40)(STEPS))
    with pytest.raises(ValueError, match="exactly one of end_value and end_fraction"):
        make(0.5, 0.125, 40, end_fraction=0.25)
    with pytest.raises(ValueError, match="exactly one of end_value and end_fraction"):
        make(0.5, None, 40)


def test_polynomial_cycles_end_exactly_at_every_multiple_up_to_the_last_count():
    schedule = jax.jit(polynomial_decay_schedule(0.1, 0.001, 1000, power=2.0, cycle=True))
    multiples = np.array([1, 2, 3, 1000, LAST // 1000]) * 1000
    assert (schedule(multiples) == np.float32(0.001)).all()
    # The cycle that starts at step n * 1000 is n + 1 times as long as the first.
    np.testing.assert_allclose(
        schedule(multiples[:3] + 1),
        [0.001 + 0.099 * (1 - (1000 * n + 1) / (1000 * (n + 1))) ** 2 for n in (1, 2, 3)],
        rtol=1e-5,
    )
    long = jax.jit(polynomial_decay_schedule(0.1, 0.0, LAST, cycle=True))
    np.testing.assert_array_equal(long(jnp.array([0, LAST])), np.float32([0.1, 0.0]))


def test_inverse_time_in_stairs_changes_on_exact_steps_of_a_long_run():
    decay_steps = 2**24 + 1  # float32 cannot represent it
    schedule = inverse_time_schedule(1.0, decay_steps, decay_rate=1.0, staircase=True)
    steps = np.array([decay_steps - 1, decay_steps, 2 * decay_steps - 1, 2 * decay_steps])
    np.testing.assert_allclose(schedule(steps), [1, 1 / 2, 1 / 2, 1 / 3], rtol=1e-7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cosine_decay_schedule(0.1, 0.0, 40, exponent=0.0), "exponent must be above 0"),
        (lambda: cosine_decay_schedule(0.1, 0.0, 40, k=-1.0), "k must be above 0"),
        (lambda: cosine_decay_schedule(0.1, 0.0, 0), "decay_steps"),
        (lambda: polynomial_decay_schedule(0.1, 0.0, 40, power=0.0), "power must be above 0"),
        (lambda: tanh_decay_schedule(0.1, 0.0, 40, lower=3.0, upper=3.0), "lower must be below"),
        (lambda: inverse_time_schedule(0.1, 0, decay_rate=0.5), "decay_steps"),
        (lambda: inverse_time_schedule(0.1, 10, decay_rate=-0.5), "decay_rate must be at least 0"),
    ],
)
def test_value_outside_its_range_raises(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_flags_must_be_bools():
    with pytest.raises(TypeError, match="cycle must be True or False"):
        polynomial_decay_schedule(0.1, 0.0, 40, cycle=1)
    with pytest.raises(TypeError, match="staircase must be True or False"):
        inverse_time_schedule(0.1, 10, decay_rate=0.5, staircase="yes")


def test_values_may_be_mapped():
    def sweep(end_fraction, exponent):
        return cosine_decay_schedule(0.1, None, 40, end_fraction=end_fraction, exponent=exponent)(9)

    mapped = jax.vmap(sweep)(jnp.array([0.1, 0.2]), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(mapped, [sweep(0.1, 1.0), sweep(0.2, 2.0)], rtol=1e-6)
