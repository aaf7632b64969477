"""Compares the image gradient by groups of columns with XLA's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from experiments.models.cpu import columns


@pytest.mark.parametrize(
    ("window", "size", "pads"),
    [
        ((5, 5), (12, 12), ((0, 0), (0, 0))),  # two complete groups
        ((5, 5), (11, 13), ((0, 0), (0, 0))),  # a last group that lacks columns
        ((4, 5), (6, 7), ((0, 0), (0, 0))),  # fewer columns than a group has
        ((3, 1), (7, 5), ((1, 0), (0, 0))),
        ((5, 4), (9, 9), ((1, 2), (3, 0))),
    ],
)
def test_image_gradient_equals_native(window, size, pads):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.standard_normal((3, *size, 2)))
        kernel = jnp.asarray(rng.standard_normal((*window, 2, 5)))
        convolve = partial(
            lax.conv_general_dilated,
            window_strides=(1, 1),
            padding=pads,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        result, pull_back = jax.vjp(lambda x: convolve(x, kernel), x)
        g = jnp.asarray(rng.standard_normal(result.shape))
        (expected,) = pull_back(g)
        actual = columns.image_gradient(kernel, g, pads, size, None)
        assert actual.dtype == expected.dtype
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)
