"""Convolutions as matrix products equal the native ones, and train side by side as products."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from experiments.models import layers, products
from experiments.models.cpu.convolution import conv_general_dilated


@settings(deadline=None, max_examples=20)
@given(
    side=st.integers(4, 9),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
)
def test_product_and_its_gradients_equal_native(side, channels, kernel, strides, pads):
    rng = np.random.default_rng(0)
    # Small integers have exact sums, in any order.
    x = rng.integers(-3, 4, (2, side, side + 1, channels[0])).astype(np.float32)
    w = rng.integers(-3, 4, (*kernel, *channels)).astype(np.float32)

    def native(x, w):
        return lax.conv_general_dilated(
            x, w, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def product(x, w):
        return products.convolve(x, w, strides, pads, None)

    cotangent = rng.integers(-3, 4, jax.eval_shape(native, x, w).shape).astype(np.float32)

    @jax.jit  # one program, because most of the time goes into compiling
    def both(x, w, cotangent):
        values_and_gradients = []
        for convolve in (native, product):
            value, pull_back = jax.vjp(convolve, x, w)
            values_and_gradients.append((value, pull_back(cotangent)))
        return values_and_gradients

    expected, actual = both(x, w, cotangent)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


@pytest.mark.parametrize("in_context", [False, True])
def test_networks_side_by_side_have_products_only_in_the_context(in_context):
    conv = layers.Conv(4, (3, 3), conv_general_dilated=conv_general_dilated)
    images = jnp.ones((2, 4, 4, 3))
    variables = jax.vmap(lambda key: conv.init(key, images))(jax.random.split(jax.random.key(0)))

    def losses(variables):
        return jax.vmap(lambda each: conv.apply(each, images).sum())(variables)

    def gradient(variables):
        if in_context:
            with products.convolutions_as_products():
                return jax.grad(lambda each: losses(each).sum())(variables)
        return jax.grad(lambda each: losses(each).sum())(variables)

    assert ("conv_general_dilated" in str(jax.make_jaxpr(gradient)(variables))) != in_context
    assert not products.enabled()
