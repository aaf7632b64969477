"""The gradients of our convolution are those of jax.lax, alone, vmapped and inside a loop."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax

from experiments.models import convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")


def native(x, kernel, strides, pads):
    return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=LAYOUT)


def ours(x, kernel, strides, pads, groups=1):
    return convolution.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        lhs_dilation=(1, 1),
        rhs_dilation=(1, 1),
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
        precision=None,
    )


@partial(jax.jit, static_argnums=0)
def gradients(convolve, x, kernel, weights):
    return jax.grad(lambda x, kernel: (weights * convolve(x, kernel)).sum(), argnums=(0, 1))(
        x, kernel
    )


def relative_error(actual, expected):
    return jnp.abs(actual - expected).max() / jnp.maximum(jnp.abs(expected).max(), 1e-3)


@st.composite
def cases(draw):
    size = (draw(st.integers(5, 9)), draw(st.integers(5, 9)))
    window = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    pads = draw(
        st.sampled_from(["SAME", "VALID"])
        | st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)
    )
    # All sides of the numbers of channels from which matrix products are used.
    channels = draw(st.sampled_from([(1, 3), (3, 32), (5, 6), (20, 21)]))
    return size, window, strides, pads, channels


@given(cases())
# LeNet's: large kernels without padding, on one channel and on several.
@example(((8, 9), (5, 5), (1, 1), "VALID", (1, 3)))
@example(((9, 7), (5, 4), (1, 1), ((0, 1), (1, 0)), (5, 20)))
@settings(max_examples=16, deadline=None, derandomize=True)
def test_gradients_equal_the_native_ones_in_float64(case):
    size, window, strides, pads, (inputs, outputs) = case
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (2, *size, inputs), jnp.float64)
        kernel = jax.random.normal(keys[1], (*window, inputs, outputs), jnp.float64)
        expected_output = native(x, kernel, strides, pads)
        np.testing.assert_array_equal(ours(x, kernel, strides, pads), expected_output)
        weights = jax.random.normal(keys[2], expected_output.shape, jnp.float64)
        expected = gradients(partial(native, strides=strides, pads=pads), x, kernel, weights)
        actual = gradients(partial(ours, strides=strides, pads=pads), x, kernel, weights)
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == jnp.float64
            assert relative_error(a, e) < 1e-9


@pytest.mark.parametrize("channels", [(3, 16), (16, 16), (32, 64)])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_equal_the_native_ones_in_float32_inside_a_compiled_loop(channels, stride):
    keys = jax.random.split(jax.random.key(1), 3)
    x = jax.random.normal(keys[0], (4, 8, 8, channels[0]))
    kernel = jax.random.normal(keys[1], (3, 3, *channels))
    pads = ((1, 1), (1, 1))
    weights = jax.random.normal(keys[2], native(x, kernel, (stride, stride), pads).shape)

    @jax.jit
    def summed_over_a_loop(x, kernel):
        convolve = partial(ours, strides=(stride, stride), pads=pads)

        def body(_, carry):
            return jax.tree.map(jnp.add, carry, gradients(convolve, x, kernel, weights))

        return lax.fori_loop(0, 2, body, (jnp.zeros_like(x), jnp.zeros_like(kernel)))

    expected = gradients(partial(native, strides=(stride, stride), pads=pads), x, kernel, weights)
    for a, e in zip(summed_over_a_loop(x, kernel), expected, strict=True):
        assert relative_error(a, 2 * e) < 1e-5


def test_a_batch_of_kernels_by_vmap():
    x = jax.random.normal(jax.random.key(2), (3, 2, 6, 6, 4))
    kernels = jax.random.normal(jax.random.key(3), (3, 3, 3, 4, 5))
    weights = jnp.ones((2, 6, 6, 5))
    grads = partial(gradients, partial(ours, strides=(1, 1), pads="SAME"), weights=weights)
    expected = [grads(a, b) for a, b in zip(x, kernels, strict=True)]
    actual = jax.vmap(grads)(x, kernels)
    for index, one in enumerate(expected):
        for a, e in zip(actual, one, strict=True):
            assert relative_error(a[index], e) < 1e-5


def test_grouped_channels_take_the_native_convolution():
    x = jax.random.normal(jax.random.key(4), (2, 6, 6, 4))
    kernel = jax.random.normal(jax.random.key(5), (3, 3, 1, 4))
    expected = lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT, feature_group_count=4
    )
    np.testing.assert_array_equal(ours(x, kernel, (1, 1), "SAME", groups=4), expected)
