"""Compares Winograd's algorithm with jax.lax, for padding and for cropping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from experiments.models.cpu import winograd


@pytest.mark.parametrize(
    "pads", [((1, 1), (1, 1)), ((0, 0), (0, 0)), ((2, 0), (0, 3)), ((-1, 0), (1, -2))]
)
@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_convolution_and_gradients_equal_lax_in_float64(size, pads):
    def convolve(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (4, *size, 3), jnp.float64)
        kernel = jax.random.normal(keys[1], (3, 3, 3, 5), jnp.float64)
        expected, pull_back = jax.vjp(convolve, x, kernel)
        g = jax.random.normal(keys[2], expected.shape, jnp.float64)
        for actual, wanted in zip(
            (
                winograd.convolve(x, kernel, pads, None),
                winograd.image_gradient(kernel, g, pads, size, None),
                winograd.kernel_gradient(x, g, pads, None),
            ),
            (expected, *pull_back(g)),
            strict=True,
        ):
            assert actual.dtype == jnp.float64
            np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-12)
