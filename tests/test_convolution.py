"""The gradients of our convolution are those of jax.lax, alone, vmapped and inside a loop."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jax import lax

from configs import quickstart
from experiments import hlo, parallel
from experiments.models import chunks, convolution

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
    # All sides of the numbers of channels from which other ways are used.
    channels = draw(st.sampled_from([(1, 3), (3, 32), (5, 6), (20, 21)]))
    return size, window, strides, pads, channels


@given(cases())
# LeNet's: large kernels without padding, on one channel and on several.
@example(((8, 9), (5, 5), (1, 1), "VALID", (1, 3)))
@example(((9, 7), (5, 4), (1, 1), ((1, 0), (1, 0)), (5, 20)))
# Few channels, and pixels in patches of 2x2.
@example(((8, 9), (5, 4), (1, 1), "VALID", (1, 3)))
@example(((6, 7), (2, 3), (1, 1), ((1, 0), (0, 1)), (3, 4)))
# 3x3 kernels of many channels: whole and broken tiles, all sides of the padding.
@example(((8, 6), (3, 3), (1, 1), "SAME", (64, 66)))
@example(((7, 9), (3, 3), (1, 1), "VALID", (65, 64)))
@example(((5, 8), (3, 3), (1, 1), ((0, 1), (2, 0)), (128, 130)))
@example(((6, 7), (3, 3), (1, 1), ((3, 0), (1, 4)), (130, 128)))
# Phases that few taps reach, or none.
@example(((9, 8), (1, 1), (2, 2), "SAME", (5, 6)))
@example(((8, 9), (3, 2), (2, 3), ((1, 0), (0, 2)), (64, 64)))
@settings(max_examples=24, deadline=None, derandomize=True)
def test_gradients_equal_the_native_ones_in_float64(case):
    size, window, strides, pads, (inputs, outputs) = case
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), 3)
        x = jax.random.normal(keys[0], (2, *size, inputs), jnp.float64)
        kernel = jax.random.normal(keys[1], (*window, inputs, outputs), jnp.float64)
        expected_output = native(x, kernel, strides, pads)
        assert relative_error(ours(x, kernel, strides, pads), expected_output) < 1e-13
        weights = jax.random.normal(keys[2], expected_output.shape, jnp.float64)
        expected = gradients(partial(native, strides=strides, pads=pads), x, kernel, weights)
        actual = gradients(partial(ours, strides=strides, pads=pads), x, kernel, weights)
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == jnp.float64
            assert relative_error(a, e) < 1e-9


@pytest.mark.parametrize("channels", [(3, 16), (16, 16), (32, 64), (64, 64), (128, 128)])
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


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 5), (4, 5), (64, 64), (128, 128)])
def test_a_batch_of_kernels_by_vmap(inputs, outputs):
    x = jax.random.normal(jax.random.key(2), (3, 2, 6, 6, inputs))
    kernels = jax.random.normal(jax.random.key(3), (3, 3, 3, inputs, outputs))
    weights = jax.random.normal(jax.random.key(6), (2, 6, 6, outputs))
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


@pytest.mark.parametrize("channels", [64, 128])
def test_half_precision_is_never_summed_by_winograds_transforms(channels):
    """Which would round every sum of theirs to 8 bits: both are the native ones, bit by bit."""
    x = jax.random.normal(jax.random.key(7), (2, 6, 6, channels), jnp.bfloat16)
    kernel = jax.random.normal(jax.random.key(8), (3, 3, channels, channels), jnp.bfloat16)
    expected = native(x, kernel, (1, 1), "SAME")
    np.testing.assert_array_equal(ours(x, kernel, (1, 1), "SAME"), expected)


@pytest.mark.parametrize("batch", [1, 7, 12])
def test_a_batch_in_chunks_is_the_batch(monkeypatch, batch):
    x = jax.random.normal(jax.random.key(9), (batch, 5, 3))
    y = jax.random.normal(jax.random.key(10), (batch, 2))
    for images in (1, 3, 100):
        monkeypatch.setattr(chunks, "CHUNK_BYTES", images * x[0].nbytes)
        sizes = set()

        def double(x, sizes=sizes):
            sizes.add(len(x))
            return 2 * x[:, 0]

        np.testing.assert_array_equal(jax.jit(partial(chunks.mapped, double))(x), 2 * x[:, 0])
        # One size only, which divides the batch.
        (size,) = sizes
        assert batch % size == 0
        assert size <= min(images, max(1, batch // 2))
        totals = jax.jit(partial(chunks.summed, lambda x, y: (x.sum(0), x[:, 0].T @ y)))(x, y)
        np.testing.assert_allclose(totals[0], x.sum(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(totals[1], x[:, 0].T @ y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 16, 64, 128])
def test_devices_that_share_a_batch_exchange_the_kernels_gradient_once(channels):
    """A sum of every chunk would be sent in an order that differs between processes."""
    strategy = parallel.make_strategy(quickstart.get_config().parallel, jax.devices()[:4])
    keys = jax.random.split(jax.random.key(0), 3)
    side = 8 if channels == 128 else 16
    x, weights = (jax.random.normal(key, (64, side, side, channels)) for key in keys[:2])
    kernel = jax.random.normal(keys[2], (3, 3, channels, channels))

    def shared(whole):
        return whole[strategy.share(jnp.arange(len(whole)))]

    def on_devices(x, kernel, weights):
        convolve = partial(ours, strides=(1, 1), pads="SAME")
        return gradients(convolve, shared(x), kernel, shared(weights))

    assert chunks._size(x[:16]) < 16
    compiled = strategy.compile(on_devices, donate=False).lower(x, kernel, weights).compile()
    exchanged = {each.kind: each for each in hlo.collectives(compiled.as_text())}
    assert exchanged["all-reduce"] == hlo.Collective("all-reduce", 1, kernel.nbytes)
    (sum_at,) = re.findall(r"^.* all-reduce\(.*$", compiled.as_text(), re.MULTILINE)
    assert "while" not in sum_at
    # What is whole in the end: the gradient of the images.
    assert exchanged.keys() == {"all-reduce", "all-gather"}
    convolve = partial(native, strides=(1, 1), pads="SAME")
    for actual, expected in zip(
        compiled(*jax.device_put((x, kernel, weights), strategy.sharding)),
        gradients(convolve, x, kernel, weights),
        strict=True,
    ):
        assert relative_error(jax.device_get(actual), expected) < 5e-6
