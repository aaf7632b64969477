"""Compares Winograd's algorithm with jax.lax, for padding and for cropping."""

import jax
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

    @jax.jit
    def both(x, kernel, g):
        output, pull_back = jax.vjp(convolve, x, kernel)
        ours = (
            winograd.convolve(x, kernel, pads, None),
            winograd.image_gradient(kernel, g, pads, size, None),
            winograd.kernel_gradient(x, g, pads, None),
        )
        return ours, (output, *pull_back(g))

    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, kernel = rng.normal(size=(4, *size, 3)), rng.normal(size=(3, 3, 3, 5))
        g = rng.normal(size=jax.eval_shape(convolve, x, kernel).shape)
        for actual, wanted in zip(*both(x, kernel, g), strict=True):
            assert actual.dtype == np.float64
            np.testing.assert_allclose(actual, wanted, rtol=1e-12, atol=1e-12)
