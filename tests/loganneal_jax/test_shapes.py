"""Tests that each shape equals its formula in float64 and is exact at both ends."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loganneal_jax import shapes

PERIODS = [1, 2, 10, 3910, 2**24 + 3]
SHAPES = {
    "constant": (shapes.constant, lambda x, period: np.ones_like(x)),
    "linear": (shapes.linear, lambda x, period: 1 - x),
    "polynomial": (
        lambda elapsed, remaining: shapes.polynomial(elapsed, remaining, power=1.5),
        lambda x, period: (1 - x) ** 1.5,
    ),
    "cosine": (shapes.cosine, lambda x, period: 0.5 * (1 + np.cos(np.pi * x))),
    "cosine power": (
        functools.partial(shapes.cosine_power, exponent=1.5),
        lambda x, period: (0.5 * (1 + np.cos(np.pi * x))) ** 1.5,
    ),
    "tanh": (shapes.tanh, lambda x, period: 0.5 * (1 - np.tanh(-7 * (1 - x) + 3 * x))),
    "k-decay of cosine": (
        functools.partial(shapes.k_decay, shape=shapes.cosine, k=1.5),
        lambda x, period: 0.5 * (1 + np.cos(np.pi * x**1.5)),
    ),
    "k-decay of linear": (
        functools.partial(shapes.k_decay, shape=shapes.linear, k=0.5),
        lambda x, period: 1 - x**0.5,
    ),
    "exponential": (
        lambda elapsed, remaining: shapes.exponential(elapsed, remaining, np.log(0.01)),
        lambda x, period: (0.01**x - 0.01) / (1 - 0.01),
    ),
    "sigmoid": (shapes.sigmoid, lambda x, period: 1 / (1 + np.exp(5 * (2 * x - 1)))),
    "1-sqrt": (shapes.one_minus_sqrt, lambda x, period: 1 - np.sqrt(x)),
    "rex": (shapes.rex, lambda x, period: (1 - x) / (1 - x / 2)),
    "log": (
        lambda elapsed, remaining: shapes.log(elapsed, remaining, np.log(10.0), 2),
        lambda x, period: 0.5 * (1 + np.log10(np.pi / np.minimum(x + 2 / period, 1))),
    ),
    "normalized log": (
        shapes.normalized_log,
        lambda x, period: np.log(1 / np.minimum(x + 1 / period, 1)) / np.log(max(period, 1.5)),
    ),
}


def steps(period):
    """Returns a few steps at both ends of the period and some in between."""
    chosen = {0, 1, 2, period // 3, period // 2, period - 2, period - 1, period}
    return np.array(sorted(step for step in chosen if 0 <= step <= period), np.int64)


@pytest.mark.parametrize("name", SHAPES)
def test_shape_equals_formula_up_to_last_step(name):
    shape, formula = SHAPES[name]
    for period in PERIODS:
        if name == "normalized log" and period == 1:
            continue  # the formula is 0/0; a separate test covers this case
        elapsed = steps(period)
        got = shape(jnp.float32(elapsed), jnp.float32(period - elapsed))
        assert got.dtype == jnp.float32
        expected = formula(elapsed / period, period)
        # The error is relative even where the fraction is only 1e-14, because shapes take
        # `remaining`. The formula itself cancels there, with an error of about 1e-16.
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-15)


@pytest.mark.parametrize(
    "name",
    [
        "linear",
        "polynomial",
        "cosine",
        "cosine power",
        "k-decay of cosine",
        "k-decay of linear",
        "exponential",
        "1-sqrt",
        "rex",
    ],
)
def test_shape_is_exactly_one_at_start_and_zero_at_end(name):
    periods = jnp.float32([1, 2, 3, 5, 7, 49, 1e3, 3910, 2**24, 2.0**31])
    shape = jax.jit(SHAPES[name][0])
    assert (shape(jnp.zeros_like(periods), periods) == 1).all()
    assert (shape(periods, jnp.zeros_like(periods)) == 0).all()


@pytest.mark.parametrize("first_step", [1.0, 3.0])
def test_normalized_log_is_exact_at_first_and_last_step(first_step):
    periods = jnp.float32([4, 5, 7, 49, 1e3, 3910, 2**24])
    shape = jax.jit(
        lambda elapsed, remaining: shapes.normalized_log(elapsed, remaining, first_step)
    )
    assert (shape(jnp.zeros_like(periods), periods) == 1).all()
    assert (shape(periods - first_step, jnp.full_like(periods, first_step)) == 0).all()


def test_normalized_log_is_constant_if_cycle_is_not_longer_than_first_step():
    for first_step, period in [(1, 1), (3, 3), (5, 2)]:
        elapsed = jnp.arange(period + 1, dtype=jnp.float32)
        assert (shapes.normalized_log(elapsed, period - elapsed, first_step) == 1).all()


def test_exponential_with_zero_rate_is_linear():
    elapsed = jnp.arange(5, dtype=jnp.float32)
    got = shapes.exponential(elapsed, 4 - elapsed, 0.0)
    np.testing.assert_array_equal(got, [1, 0.75, 0.5, 0.25, 0])
    slope = jax.grad(lambda c: shapes.exponential(jnp.float32(1), jnp.float32(3), c))(0.0)
    assert np.isfinite(slope)


def test_log_is_finite_at_any_base_and_close_to_base_one():
    log_bases = jnp.float32([-87.0, -1e-30, 0.0, 1e-30, 87.0])
    value = jax.vmap(jax.value_and_grad(lambda b: shapes.log(jnp.float32(0), jnp.float32(9), b)))
    assert all(np.isfinite(part).all() for part in value(log_bases))


@pytest.mark.parametrize("shape", [shapes.linear, shapes.cosine, shapes.one_minus_sqrt])
def test_k_decay_with_k_of_one_leaves_the_shape_unchanged(shape):
    elapsed = jnp.arange(101, dtype=jnp.float32)
    got = shapes.k_decay(elapsed, 100 - elapsed, shape=shape, k=1.0)
    np.testing.assert_allclose(got, shape(elapsed, 100 - elapsed), rtol=2e-6)


@hypothesis.settings(max_examples=50, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    k=st.floats(0.125, 8.0, width=32),
    exponent=st.floats(0.125, 8.0, width=32),
    period=st.integers(1, 2**31 - 1),
)
def test_k_decay_and_cosine_power_are_monotonic_and_have_finite_gradients(k, exponent, period):
    elapsed = jnp.float32(np.linspace(0, period, 9).round())
    remaining = jnp.float32(period - np.linspace(0, period, 9).round())
    for fall in (_k_decay_of_linear, shapes.cosine_power):
        parameter = k if fall is _k_decay_of_linear else exponent
        values, slopes = _values_and_slopes(fall)(elapsed, remaining, jnp.float32(parameter))
        assert (values[0], values[-1]) == (1, 0)
        assert (np.diff(values) <= 1e-6).all()
        assert np.isfinite(slopes).all()


def _k_decay_of_linear(elapsed, remaining, k):
    return shapes.k_decay(elapsed, remaining, shapes.linear, k)


@functools.cache
def _values_and_slopes(shape):
    return jax.jit(jax.vmap(jax.value_and_grad(shape, argnums=2), (0, 0, None)))


def test_tanh_is_accurate_where_the_formula_cancels():
    # 1/2 (1 - tanh(9)) is 1.5e-8, which float32 cannot tell from 0 next to 1.
    got = shapes.tanh(jnp.float32(10), jnp.float32(0), -9.0, 9.0)
    np.testing.assert_allclose(got, 1 / (1 + np.exp(18.0)), rtol=2e-6)
