"""Two-dimensional convolution whose gradients are fast on a CPU too.

XLA's CPU compiler brings the convolutions of a program's outermost computation into the form that
its fast kernel takes, but not those inside a loop: there a 3x3 weight gradient takes a hundred
times as long, and training runs many steps in one loop. Here both gradients are written in that
form to begin with, or as matrix products where these are faster. Other platforms keep their own.

Devices that share a batch each compute with their own part of it. What is computed a few images at
a time must not be left to XLA to divide: it has the devices exchange the sums of every few images,
in an order that is not the same in all processes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from experiments.models import chunks, winograd

LAYOUT = ("NHWC", "HWIO", "NHWC")
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

# Measured on x86-64 with 128 images of 32x32 to 4x4, within loops. From this many channels on,
# Winograd's algorithm is faster for 3x3 kernels of stride 1,
MIN_CHANNELS_FOR_WINOGRAD = 64
# and from this many on for their gradient, which has fewer products beside the transforms.
MIN_CHANNELS_FOR_WINOGRAD_GRADIENT = 128
# Up to this many channels of images the result and a kernel's gradient are faster as one matrix
# product each.
MAX_CHANNELS_FOR_MATMUL = 3


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


def _for_platform(
    x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    def native(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _native(x, kernel, strides, pads, precision)

    forward: Callable[[jax.Array, jax.Array, Pads, Any], jax.Array]
    if _suits_winograd(kernel, strides, MIN_CHANNELS_FOR_WINOGRAD):
        forward = winograd.convolve
    elif _suits_patches(x, kernel, strides, pads):
        forward = _by_patches
    else:
        return native(x, kernel)

    def on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        axes = _shared_axes()
        own, whole = PartitionSpec(axes), PartitionSpec()

        def of_own(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return forward(x, kernel, pads, precision)

        return _by_device(of_own, axes, (own, whole), own)(x, kernel)

    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=native)


_conv = jax.custom_vjp(_for_platform, nondiff_argnums=(2, 3, 4))


def _shared_axes() -> tuple[str, ...]:
    """Axes of the mesh whose devices share the batch of what is traced."""
    mesh = jax.sharding.get_abstract_mesh()
    types = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in types if kind == AxisType.Auto and mesh.shape[name] > 1)


def _by_device(
    function: Callable[..., Any], axes: tuple[str, ...], in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """A function that each device along the axes computes with its own part of the arrays."""
    if not axes:
        return function
    # The loops start from zeros, which are the same on all devices as their results are not; the
    # check would refuse that. No gradient is taken through them.
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _suits_winograd(kernel: jax.Array, strides: Pair, min_channels: int) -> bool:
    return (
        kernel.shape[:2] == (3, 3)
        and strides == (1, 1)
        and min(kernel.shape[2:]) >= min_channels
        # The sums of its transforms would be rounded to half precision.
        and kernel.dtype in (jnp.float32, jnp.float64)
    )


def _suits_patches(x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads) -> bool:
    sizes = [
        size + sum(sides) - taps + 1
        for size, sides, taps in zip(x.shape[1:3], pads, kernel.shape[:2], strict=True)
    ]
    return (
        kernel.shape[2] <= MAX_CHANNELS_FOR_MATMUL
        and strides == (1, 1)
        and all(size > 0 and size % 2 == 0 for size in sizes)
    )


def _by_patches(x: jax.Array, kernel: jax.Array, pads: Pads, precision: Any) -> jax.Array:
    """Every 2x2 pixels of the result at once, from the patch of the image that they share.

    One matrix product, of fewer and longer rows than one for each pixel. Where a pixel does not see
    the patch's margin, its kernel is zero.
    """
    height, width, _, out_channels = kernel.shape
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    last_row, last_column = padded.shape[1] - height, padded.shape[2] - width
    patches = jnp.concatenate(
        [
            padded[:, row : row + last_row : 2, column : column + last_column : 2]
            for row in range(height + 1)
            for column in range(width + 1)
        ],
        axis=-1,
    )
    kernels = jnp.stack(
        [
            jnp.pad(kernel, ((row, 1 - row), (column, 1 - column), (0, 0), (0, 0)))
            for row in range(2)
            for column in range(2)
        ],
        axis=3,
    )
    pixels = jnp.matmul(
        patches, kernels.reshape(patches.shape[-1], 4 * out_channels), precision=precision
    )
    pixels = pixels.reshape(*patches.shape[:3], 2, 2, out_channels).transpose(0, 1, 3, 2, 4, 5)
    return pixels.reshape(len(x), 2 * patches.shape[1], 2 * patches.shape[2], out_channels)


def _forward(
    x: jax.Array, kernel: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _for_platform(x, kernel, strides, pads, precision), (x, kernel)


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

    def canonical(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        axes = _shared_axes()
        own, whole = PartitionSpec(axes), PartitionSpec()

        def of_own(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
            kernel_gradient = _kernel_gradient(x, kernel, g, strides, pads, precision)
            return (
                _image_gradient(x, kernel, g, strides, pads, precision),
                lax.psum(kernel_gradient, axes),
            )

        return _by_device(of_own, axes, (own, whole, own), (own, whole))(x, kernel, g)

    return lax.platform_dependent(*inputs, gradient, cpu=canonical, default=native)


_conv.defvjp(_forward, _backward)


def _image_gradient(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    if _suits_winograd(kernel, strides, MIN_CHANNELS_FOR_WINOGRAD):
        return winograd.image_gradient(kernel, g, pads, x.shape[1:3], precision)
    # A convolution makes every pixel of the image's gradient out of all taps, of which most lie
    # outside of a gradient that is much smaller than the image: a 5x5 kernel without padding.
    if strides == (1, 1) and 2 * math.prod(g.shape[1:3]) < math.prod(x.shape[1:3]):
        return _image_gradient_by_matmul(x, kernel, g, pads, precision)
    return _image_gradient_by_convolution(x, kernel, g, strides, pads, precision)


def _kernel_gradient(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    if _suits_winograd(kernel, strides, MIN_CHANNELS_FOR_WINOGRAD_GRADIENT):
        return winograd.kernel_gradient(x, g, pads, precision)
    if strides == (1, 1) and (
        kernel.shape[2] <= MAX_CHANNELS_FOR_MATMUL or kernel.shape[:2] == (1, 1)
    ):
        return _kernel_gradient_by_matmul(x, kernel, g, pads, precision)
    return _kernel_gradient_by_convolution(x, kernel, g, strides, pads, precision)


def _image_gradient_by_convolution(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    """The gradient convolved with the mirrored kernel; where strided, by phases.

    A phase is the pixels that lie equally between strides. Only every so many taps reach them.
    """
    sizes = [-(-size // stride) for size, stride in zip(x.shape[1:3], strides, strict=True)]

    def of_phase(phase: Sequence[int]) -> jax.Array:
        taps, sides = [], []
        for axis in range(2):
            offset, first = divmod(phase[axis] + pads[axis][0], strides[axis])
            number = len(range(first, kernel.shape[axis], strides[axis]))
            before = number - 1 - offset
            taps.append(slice(first, None, strides[axis]))
            sides.append((before, sizes[axis] + offset - g.shape[axis + 1]))
        own = jnp.flip(kernel[*taps], (0, 1)).swapaxes(2, 3)
        if not own.size:
            return jnp.zeros((len(g), *sizes, kernel.shape[2]), g.dtype)
        return _native(g, own, (1, 1), (sides[0], sides[1]), precision)

    phases = [
        [of_phase((row, column)) for column in range(strides[1])] for row in range(strides[0])
    ]
    together = jnp.stack([jnp.stack(row, 3) for row in phases], 2)
    whole = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    return together.reshape(len(x), *whole, -1)[:, : x.shape[1], : x.shape[2]]


def _image_gradient_by_matmul(
    x: jax.Array, kernel: jax.Array, g: jax.Array, pads: Pads, precision: Any
) -> jax.Array:
    """The gradient times all taps of the kernel, each product added where its tap lay."""
    height, width, in_channels, out_channels = kernel.shape
    g_height, g_width = g.shape[1:3]
    taps = kernel.transpose(3, 0, 1, 2).reshape(out_channels, -1)
    (top, _), (left, _) = pads

    def of_gradients(gradients: jax.Array) -> jax.Array:
        products = jnp.matmul(gradients, taps, precision=precision)
        products = products.reshape(*gradients.shape[:3], height, width, in_channels)
        shape = (len(gradients), g_height + height - 1, g_width + width - 1, in_channels)
        # Added in place, one after another: one sum of padded products takes four times as long.
        padded = jnp.zeros(shape, x.dtype)
        for row in range(height):
            for column in range(width):
                under = np.s_[:, row : row + g_height, column : column + g_width]
                padded = padded.at[under].add(products[..., row, column, :])
        return padded[:, top : top + x.shape[1], left : left + x.shape[2]]

    return chunks.mapped(of_gradients, g)


def _kernel_gradient_by_matmul(
    x: jax.Array, kernel: jax.Array, g: jax.Array, pads: Pads, precision: Any
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

    def of_images(images: jax.Array, gradients: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            images.transpose(3, 1, 2, 0),
            gradients.transpose(1, 2, 0, 3),
            (1, 1),
            sides,
            rhs_dilation=strides,
            dimension_numbers=LAYOUT,
            precision=precision,
        )

    # Of all images at once XLA computes anew, slowly, what they were made of as it transposes them.
    return chunks.summed(of_images, x, g).transpose(1, 2, 0, 3)
