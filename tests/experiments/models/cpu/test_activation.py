"""Compares ReLU and its gradient with Linen's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.models.cpu.activation import relu


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_relu_and_its_gradient_equal_linen(dtype):
    x = jnp.array([-1.5, -0.0, 0.0, 2.5, jnp.inf, -jnp.inf, jnp.nan], dtype)
    weights = jnp.arange(1, 8, dtype=dtype)
    (ours, pull_back), (linen, pull_back_linen) = (jax.vjp(f, x) for f in (relu, nn.relu))
    for actual, expected in (
        (ours, linen),
        (pull_back(weights)[0], pull_back_linen(weights)[0]),
    ):
        assert actual.dtype == dtype
        # NumPy does not take the NaNs of bfloat16 for equal.
        np.testing.assert_array_equal(*(np.asarray(a, np.float32) for a in (actual, expected)))
