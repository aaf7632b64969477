"""Compares the convolution and its gradients with jax.lax: alone, vmapped, and inside a loop."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax

from experiments.models.cpu import chunks, convolution
from experiments.program import parallel
from experiments.topology import hlo

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


@partial(jax.jit, static_argnames=("convolve", "strides", "pads"))
def output_and_gradients(convolve, x, kernel, weights, *, strides, pads):
    output, pull_back = jax.vjp(partial(convolve, strides=strides, pads=pads), x, kernel)
    return output, *pull_back(weights)


def relative_error(actual, expected):
    # NumPy compiles nothing for a new shape.
    actual, expected = np.asarray(actual), np.asarray(expected)
    return np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-3)


def normal(*shapes, dtype=np.float32):
    """Returns arrays of normal numbers, for whose shapes nothing is compiled."""
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape).astype(dtype) for shape in shapes]


@st.composite
def cases(draw):
    size = (draw(st.integers(5, 9)), draw(st.integers(5, 9)))
    window = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    pads = draw(
        st.sampled_from(["SAME", "VALID"])
        | st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)
    )
    # Numbers of channels on both sides of each limit in `convolution`.
    channels = draw(st.sampled_from([(1, 3), (3, 32), (5, 6), (20, 21)]))
    return size, window, strides, pads, channels


@given(cases())
# LeNet: large unpadded kernels, on one channel and on several.
@example(((8, 9), (5, 5), (1, 1), "VALID", (1, 3)))
@example(((9, 7), (5, 4), (1, 1), ((1, 0), (1, 0)), (5, 20)))
# Few input channels: 2x2 blocks of pixels from patches.
@example(((8, 9), (5, 4), (1, 1), "VALID", (1, 3)))
@example(((6, 7), (2, 3), (1, 1), ((1, 0), (0, 1)), (3, 4)))
# 3x3 kernels with many channels: complete and partial tiles, padding on each side.
@example(((8, 6), (3, 3), (1, 1), "SAME", (64, 66)))
@example(((7, 9), (3, 3), (1, 1), "VALID", (65, 64)))
@example(((5, 8), (3, 3), (1, 1), ((0, 1), (2, 0)), (128, 130)))
@example(((6, 7), (3, 3), (1, 1), ((3, 0), (1, 4)), (130, 128)))
# Phases that few or no taps reach.
@example(((9, 8), (1, 1), (2, 2), "SAME", (5, 6)))
@example(((8, 9), (3, 2), (2, 3), ((1, 0), (0, 2)), (64, 64)))
@settings(max_examples=24, deadline=None, derandomize=True)
def test_gradients_equal_native_in_float64(case):
    size, window, strides, pads, (inputs, outputs) = case
    with jax.enable_x64(True):
        shapes = (2, *size, inputs), (*window, inputs, outputs)
        x, kernel = normal(*shapes, dtype=np.float64)
        shape = jax.eval_shape(partial(native, strides=strides, pads=pads), x, kernel).shape
        (weights,) = normal(shape, dtype=np.float64)
        expected, actual = (
            output_and_gradients(convolve, x, kernel, weights, strides=strides, pads=pads)
            for convolve in (native, ours)
        )
        for a, e, limit in zip(actual, expected, (1e-13, 1e-9, 1e-9), strict=True):
            assert a.dtype == jnp.float64
            assert relative_error(a, e) < limit


@pytest.mark.parametrize("channels", [(3, 16), (16, 16), (32, 64), (64, 64), (128, 128)])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_equal_native_in_float32_inside_a_compiled_loop(channels, stride):
    side = 8 // stride
    x, kernel, weights = normal(
        (4, 8, 8, channels[0]), (3, 3, *channels), (4, side, side, channels[1])
    )
    pads = ((1, 1), (1, 1))

    @jax.jit
    def summed_over_a_loop(x, kernel):
        convolve = partial(ours, strides=(stride, stride), pads=pads)

        def body(_, carry):
            return jax.tree.map(jnp.add, carry, gradients(convolve, x, kernel, weights))

        return lax.fori_loop(0, 2, body, (jnp.zeros_like(x), jnp.zeros_like(kernel)))

    expected = gradients(partial(native, strides=(stride, stride), pads=pads), x, kernel, weights)
    for a, e in zip(summed_over_a_loop(x, kernel), expected, strict=True):
        assert relative_error(a, 2 * np.asarray(e)) < 1e-5


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 5), (4, 5), (64, 64), (128, 128)])
def test_gradients_vmap_over_kernels(inputs, outputs):
    x, kernels, weights = normal(
        (3, 2, 6, 6, inputs), (3, 3, 3, inputs, outputs), (2, 6, 6, outputs)
    )
    grads = partial(gradients, partial(ours, strides=(1, 1), pads="SAME"), weights=weights)
    expected = [grads(a, b) for a, b in zip(x, kernels, strict=True)]
    actual = jax.jit(jax.vmap(grads))(x, kernels)
    for index, one in enumerate(expected):
        for a, e in zip(actual, one, strict=True):
            assert relative_error(np.asarray(a)[index], e) < 1e-5


def test_grouped_convolution_equals_native():
    x, kernel = normal((2, 6, 6, 4), (3, 3, 1, 4))
    expected = lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT, feature_group_count=4
    )
    np.testing.assert_array_equal(ours(x, kernel, (1, 1), "SAME", groups=4), expected)


@pytest.mark.parametrize("channels", [2, 16, 64, 128])
def test_devices_exchange_the_kernel_gradient_once(channels):
    """Exchanging the sums of each chunk would use an order that differs between processes."""
    strategy = parallel.make_strategy("jit", jax.devices()[:4])
    side = 8 if channels == 128 else 16
    images = (64, side, side, channels)
    x, weights, kernel = normal(images, images, (3, 3, channels, channels))

    def shared(batch):
        return batch[strategy.share(jnp.arange(len(batch)))]

    def on_devices(x, kernel, weights):
        convolve = partial(ours, strides=(1, 1), pads="SAME")
        return gradients(convolve, shared(x), kernel, shared(weights))

    assert chunks._size(x[:16]) < 16
    compiled = strategy.compile(on_devices, donate=False).lower(x, kernel, weights).compile()
    exchanged = {each.kind: each for each in hlo.collectives(compiled.as_text())}
    assert exchanged["all-reduce"] == hlo.Collective("all-reduce", 1, kernel.nbytes)
    (sum_at,) = re.findall(r"^.* all-reduce\(.*$", compiled.as_text(), re.MULTILINE)
    assert "while" not in sum_at
    # The result, which includes the gradient of all images, is replicated.
    assert exchanged.keys() == {"all-reduce", "all-gather"}
    convolve = partial(native, strides=(1, 1), pads="SAME")
    for actual, expected in zip(
        compiled(*jax.device_put((x, kernel, weights), strategy.replicated)),
        gradients(convolve, x, kernel, weights),
        strict=True,
    ):
        assert relative_error(jax.device_get(actual), expected) < 5e-6
