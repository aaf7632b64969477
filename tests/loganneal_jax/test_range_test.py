"""Tests of the learning-rate range test: equality with NumPy's spacings, and exact ends."""

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from loganneal_jax import tabulate
from loganneal_jax.range_test import range_test_schedule

SPACINGS = {"exponential": np.geomspace, "linear": np.linspace}


@pytest.mark.parametrize("spacing", SPACINGS)
@hypothesis.settings(max_examples=10, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    low=st.floats(1e-8, 1e-3), ratio=st.floats(1.0, 1e6), num_steps=st.integers(2, 200)
)
def test_values_equal_those_of_numpy(spacing, low, ratio, num_steps):
    values = tabulate(range_test_schedule(low, low * ratio, num_steps, spacing=spacing), num_steps)
    # exp(7) amplifies the rounding of its argument in float32.
    expected = SPACINGS[spacing](low, low * ratio, num_steps)
    np.testing.assert_allclose(values, expected, rtol=3e-6)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [2, 3, 50, 2**31 - 1])
def test_first_and_last_values_are_exact(spacing, num_steps):
    schedule = jax.jit(range_test_schedule(1e-6, 3.0, num_steps, spacing=spacing))
    values = schedule(np.array([0, num_steps - 1, 2**31 - 1]))
    np.testing.assert_array_equal(values, np.float32([1e-6, 3.0, 3.0]))


def test_linear_range_may_start_from_zero():
    np.testing.assert_array_equal(
        tabulate(range_test_schedule(0.0, 1.0, 5, spacing="linear"), 5), [0, 0.25, 0.5, 0.75, 1]
    )
    with pytest.raises(ValueError, match="min_value must be at least"):
        range_test_schedule(0.0, 1.0, 5)


def test_range_must_not_fall():
    with pytest.raises(ValueError, match="min_value must not be above max_value"):
        range_test_schedule(1.0, 0.1, 5)


def test_test_needs_two_steps():
    with pytest.raises(ValueError, match="num_steps"):
        range_test_schedule(0.1, 1.0, 1)


def test_unknown_spacing_lists_the_choices():
    with pytest.raises(ValueError, match="exponential, linear"):
        range_test_schedule(0.1, 1.0, 5, spacing="log")
