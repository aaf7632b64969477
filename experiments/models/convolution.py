"""Two-dimensional convolution whose gradients are fast on a CPU too.

XLA's CPU compiler brings the convolutions of a program's outermost computation into the form that
its fast kernel takes, but not those inside a loop: there a 3x3 weight gradient takes a hundred
times as long, and training runs many steps in one loop. Here both gradients are written in that
form to begin with, or as matrix products where these are faster. Other platforms keep their own.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

# Measured on x86-64 with images of 32x32 to 4x4: from this many channels on, one matrix product for
# each tap of the kernel is faster than a convolution over the batch (with 16 it is slower),
MIN_CHANNELS_FOR_MATMUL = 20
# and up to this many channels of images, one product for all taps together (28x28x1, 32x32x3).
MAX_IMAGE_CHANNELS = 3


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: Sequence[Pair] | str,
    *,
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: Any,
    feature_group_count: int,
    precision: Any,
) -> jax.Array:
    """The `conv_general_dilated` of `flax.linen.Conv`, with faster gradients on a CPU.

    Args:
      lhs: images [batch, height, width, in_channels].
      rhs: kernel [kernel_height, kernel_width, in_channels / groups, out_channels].
      window_strides: strides of height and width.
      padding: pixels (before, after) of height and of width, or "SAME" or "VALID".
      lhs_dilation: dilation of the images; dilated ones take the native gradients.
      rhs_dilation: dilation of the kernel; a dilated one takes the native gradients.
      dimension_numbers: those of Linen, which are `LAYOUT`.
      feature_group_count: groups of channels; more than one take the native gradients.
      precision: precision of the products.

    Returns:
      [batch, out_height, out_width, out_channels].
    """
    if feature_group_count != 1 or {*lhs_dilation, *rhs_dilation} != {1}:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            precision=precision,
        )
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], window_strides, padding)
    (top, bottom), (left, right) = padding
    strides = (window_strides[0], window_strides[1])
    return _conv(lhs, rhs, strides, ((top, bottom), (left, right)), precision)


def _native(
    x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=LAYOUT, precision=precision
    )


_conv = jax.custom_vjp(_native, nondiff_argnums=(2, 3, 4))


def _forward(
    x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _native(x, kernel, strides, pads, precision), (x, kernel)


def _backward(
    strides: Pair,
    pads: Pads,
    precision: Any,
    inputs: tuple[jax.Array, jax.Array],
    gradient: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    def native(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        _, pull_back = jax.vjp(
            lambda x, kernel: _native(x, kernel, strides, pads, precision), x, kernel
        )
        return pull_back(g)

    if strides == (1, 1) and inputs[1].shape[2] <= MAX_IMAGE_CHANNELS:
        kernel_gradient = _kernel_gradient_by_one_matmul
    elif min(inputs[1].shape[2:]) < MIN_CHANNELS_FOR_MATMUL:
        kernel_gradient = _kernel_gradient_by_convolution
    else:
        kernel_gradient = _kernel_gradient_by_matmul
    # A convolution makes every pixel of the image's gradient out of all taps, of which most lie
    # outside of a gradient that is much smaller than the image: a 5x5 kernel without padding.
    if strides == (1, 1) and 2 * math.prod(gradient.shape[1:3]) < math.prod(inputs[0].shape[1:3]):
        image_gradient = _image_gradient_by_matmul
    else:
        image_gradient = _image_gradient_by_convolution

    def canonical(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (
            image_gradient(x, kernel, g, strides, pads, precision),
            kernel_gradient(x, kernel, g, strides, pads, precision),
        )

    return lax.platform_dependent(*inputs, gradient, cpu=canonical, default=native)


_conv.defvjp(_forward, _backward)


def _image_gradient_by_convolution(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    """The gradient spread out by the strides, convolved with the mirrored kernel."""
    sides = []
    for axis in range(2):
        size = kernel.shape[axis]
        before = size - 1 - pads[axis][0]
        spread = (g.shape[axis + 1] - 1) * strides[axis] + 1
        sides.append((before, x.shape[axis + 1] + size - 1 - spread - before))
    return lax.conv_general_dilated(
        g,
        jnp.flip(kernel, (0, 1)).swapaxes(2, 3),
        (1, 1),
        sides,
        lhs_dilation=strides,
        dimension_numbers=LAYOUT,
        precision=precision,
    )


def _image_gradient_by_matmul(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    """For each tap of the kernel, the gradient times it, added where the tap lay."""
    zero = jnp.zeros((), x.dtype)
    image_gradient = jnp.zeros_like(x)
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            product = jnp.matmul(g, kernel[row, column].T, precision=precision)
            sides = [
                (tap - before, size - (tap - before) - g_size, 0)
                for tap, (before, _), size, g_size in zip(
                    (row, column), pads, x.shape[1:3], g.shape[1:3], strict=True
                )
            ]
            image_gradient += lax.pad(product, zero, ((0, 0, 0), *sides, (0, 0, 0)))
    return image_gradient


def _kernel_gradient_by_one_matmul(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    """The pixels under every tap, taps and channels first, times the gradient."""
    height, width, in_channels, out_channels = kernel.shape
    padded = jnp.pad(x.transpose(3, 0, 1, 2), ((0, 0), (0, 0), *pads))
    taps = [
        padded[:, :, row : row + g.shape[1], column : column + g.shape[2]]
        for row in range(height)
        for column in range(width)
    ]
    pixels = jnp.stack(taps).reshape(height * width * in_channels, -1)
    product = jnp.matmul(pixels, g.reshape(-1, out_channels), precision=precision)
    return product.reshape(kernel.shape)


def _kernel_gradient_by_convolution(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    """The images, channels as batch, convolved with the gradient, batch as channels."""
    sides = []
    for axis in range(2):
        before = pads[axis][0]
        spread = (g.shape[axis + 1] - 1) * strides[axis] + 1
        sides.append((before, kernel.shape[axis] - 1 + spread - x.shape[axis + 1] - before))
    channels_first = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        g.transpose(1, 2, 0, 3),
        (1, 1),
        sides,
        rhs_dilation=strides,
        dimension_numbers=LAYOUT,
        precision=precision,
    )
    return channels_first.transpose(1, 2, 0, 3)


def _kernel_gradient_by_matmul(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    """For each tap of the kernel, the pixels under it times the gradient."""
    height, width, in_channels, out_channels = kernel.shape
    zero = jnp.zeros((), x.dtype)
    padded = lax.pad(x, zero, ((0, 0, 0), (*pads[0], 0), (*pads[1], 0), (0, 0, 0)))
    # The padding may leave pixels that no tap reaches, so each slice ends at its own last pixel.
    reach = [(g.shape[axis + 1] - 1) * strides[axis] + 1 for axis in range(2)]
    taps = []
    for row in range(height):
        for column in range(width):
            pixels = lax.slice(
                padded,
                (0, row, column, 0),
                (x.shape[0], row + reach[0], column + reach[1], in_channels),
                (1, *strides, 1),
            )
            taps.append(
                lax.dot_general(
                    pixels.reshape(-1, in_channels),
                    g.reshape(-1, out_channels),
                    (((0,), (0,)), ((), ())),
                    precision=precision,
                )
            )
    return jnp.stack(taps).reshape(kernel.shape)
