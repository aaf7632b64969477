"""Two-dimensional convolution with gradients that are fast on a CPU.

XLA's CPU compiler rewrites convolutions for its fast kernel in the outermost computation of a
program, but not inside a loop. Training runs many steps in one loop, where a 3x3 kernel gradient
takes a hundred times as long. This module therefore writes both gradients in the form of the fast
kernel, or as matrix products where those are faster. Other platforms use XLA's own gradients.

Under a sharded jit, `shard_map` makes each device process its own part of the batch. XLA must not
partition the loops over chunks of images: the devices would exchange the sums of every chunk, in an
order that differs between processes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, PartitionSpec

from experiments.models import products
from experiments.models.cpu import chunks, columns, half, support, winograd

LAYOUT = ("NHWC", "HWIO", "NHWC")
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

# Limits measured on x86-64 with 128 images of 32x32 to 4x4 pixels, inside loops.
# Winograd's algorithm is faster for 3x3 kernels of stride 1 with at least this many channels.
MIN_CHANNELS_FOR_WINOGRAD = 64
# The kernel gradient has fewer products per transform, and needs more channels.
MIN_CHANNELS_FOR_WINOGRAD_GRADIENT = 128
# With at most this many input channels, one matrix product is faster for the result.
MAX_CHANNELS_FOR_MATMUL = 3
# For the kernel gradient, it is faster only with at least this many output channels.
MIN_OUT_CHANNELS_FOR_MATMUL = 48


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
    """Computes a convolution whose gradients are fast on a CPU.

    Pass it to `flax.linen.Conv` as `conv_general_dilated`. Dilated and grouped convolutions use the
    native one.

    Args:
      lhs: images [batch, height, width, in_channels].
      rhs: kernel [kernel_height, kernel_width, in_channels / groups, out_channels].
      window_strides: strides of height and width.
      padding: pixels (before, after) of height and of width, or "SAME" or "VALID".
      lhs_dilation: dilation of the images.
      rhs_dilation: dilation of the kernel.
      dimension_numbers: must be `LAYOUT`, as Linen passes it.
      feature_group_count: number of channel groups.
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
    if products.enabled():
        return products.convolve(lhs, rhs, strides, padding, precision)
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
    if half.suits(kernel):
        if support.onednn_options():
            return native(x, kernel)
        return lax.platform_dependent(
            x,
            kernel,
            cpu=half.in_float32(lambda x, kernel: _conv(x, kernel, strides, pads, precision)),
            default=native,
        )
    if _suits_winograd(kernel, strides, MIN_CHANNELS_FOR_WINOGRAD):
        forward = winograd.convolve
    elif _suits_patches(x, kernel, strides, pads):
        forward = _by_patches
    else:
        return native(x, kernel)

    def on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        axes = _shared_axes()
        split, replicated = PartitionSpec(axes), PartitionSpec()

        def on_device(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return forward(x, kernel, pads, precision)

        return _per_device(on_device, axes, (split, replicated), split)(x, kernel)

    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=native)


_conv = jax.custom_vjp(_for_platform, nondiff_argnums=(2, 3, 4))


def _shared_axes() -> tuple[str, ...]:
    """Returns the axes of the current mesh whose devices share the batch."""
    mesh = jax.sharding.get_abstract_mesh()
    types = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in types if kind == AxisType.Auto and mesh.shape[name] > 1)


def _per_device(
    function: Callable[..., Any], axes: tuple[str, ...], in_specs: Any, out_specs: Any
) -> Callable[..., Any]:
    """Makes each device along the axes apply the function to its own part of the arrays."""
    if not axes:
        return function
    # The check would reject the loops: they start from replicated zeros, and their results are not
    # replicated. It is safe to disable because nothing differentiates through the loops.
    return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def _suits_winograd(kernel: jax.Array, strides: Pair, min_channels: int) -> bool:
    return (
        kernel.shape[:2] == (3, 3) and strides == (1, 1) and min(kernel.shape[2:]) >= min_channels
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
    """Computes each 2x2 block of the result from the image patch that its pixels share.

    One matrix product, with fewer and longer rows than a product with one row per pixel. A pixel's
    kernel is zero-padded to the size of the patch.
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
    if half.suits(kernel):
        # Without the barrier, XLA computes the images again for the gradient of the kernel.
        x, kernel = half.stored(x, kernel)
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

    def on_cpu(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
        axes = _shared_axes()
        split, replicated = PartitionSpec(axes), PartitionSpec()

        def on_device(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[jax.Array, jax.Array]:
            if not half.suits(kernel) and _gradient_is_small(x, g, strides):
                # Both gradients read it. Without the barrier, XLA would compute it for each of
                # them, and slowly, in the shape of the product.
                g = lax.optimization_barrier(g)
            kernel_gradient = _kernel_gradient(x, kernel, g, strides, pads, precision)
            return (
                _image_gradient(x, kernel, g, strides, pads, precision),
                lax.psum(kernel_gradient, axes).astype(kernel.dtype),
            )

        if half.suits(kernel) and not support.onednn_options():
            on_device = half.in_float32(on_device)
        in_specs, out_specs = (split, replicated, split), (split, replicated)
        return _per_device(on_device, axes, in_specs, out_specs)(x, kernel, g)

    return lax.platform_dependent(*inputs, gradient, cpu=on_cpu, default=native)


_conv.defvjp(_forward, _backward)


def _gradient_is_small(x: jax.Array, g: jax.Array, strides: Pair) -> bool:
    """Returns whether the gradient is smaller than the image, as with an unpadded 5x5 kernel.

    A convolution multiplies each pixel of the image by all taps, and many of them see only padding.
    """
    return strides == (1, 1) and 3 * math.prod(g.shape[1:3]) < 2 * math.prod(x.shape[1:3])


def _image_gradient(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    if half.suits(kernel):
        return _image_gradient_by_convolution(x, kernel, g, strides, pads, precision)
    if _suits_winograd(kernel, strides, MIN_CHANNELS_FOR_WINOGRAD):
        return winograd.image_gradient(kernel, g, pads, x.shape[1:3], precision)
    if _gradient_is_small(x, g, strides):
        return columns.image_gradient(kernel, g, pads, x.shape[1:3], precision)
    return _image_gradient_by_convolution(x, kernel, g, strides, pads, precision)


def _kernel_gradient(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    if half.suits(kernel):
        return half.kernel_gradient(x, g, kernel.shape[:2], strides, pads, precision)
    if _suits_winograd(kernel, strides, MIN_CHANNELS_FOR_WINOGRAD_GRADIENT):
        return winograd.kernel_gradient(x, g, pads, precision)
    *window, in_channels, out_channels = kernel.shape
    few_to_many = (
        in_channels <= MAX_CHANNELS_FOR_MATMUL and out_channels >= MIN_OUT_CHANNELS_FOR_MATMUL
    )
    if strides == (1, 1) and (few_to_many or window == [1, 1]):
        return _kernel_gradient_by_matmul(x, kernel, g, pads, precision)
    return _kernel_gradient_by_convolution(x, kernel, g, strides, pads, precision)


def _image_gradient_by_convolution(
    x: jax.Array, kernel: jax.Array, g: jax.Array, strides: Pair, pads: Pads, precision: Any
) -> jax.Array:
    """Convolves the gradient with the mirrored kernel, one phase of the strides at a time.

    A phase is the set of pixels at the same offset from a multiple of the stride. Only every
    `stride`-th tap of the kernel reaches them.
    """
    sizes = [-(-size // stride) for size, stride in zip(x.shape[1:3], strides, strict=True)]

    def phase_gradient(phase: Sequence[int]) -> jax.Array:
        taps, sides = [], []
        for axis in range(2):
            offset, first = divmod(phase[axis] + pads[axis][0], strides[axis])
            number = len(range(first, kernel.shape[axis], strides[axis]))
            before = number - 1 - offset
            taps.append(slice(first, None, strides[axis]))
            sides.append((before, sizes[axis] + offset - g.shape[axis + 1]))
        mirrored = jnp.flip(kernel[*taps], (0, 1)).swapaxes(2, 3)
        if not mirrored.size:
            return jnp.zeros((len(g), *sizes, kernel.shape[2]), g.dtype)
        if half.suits(kernel):
            # XLA would fold the mirroring into the convolution, which oneDNN does not support.
            mirrored = lax.optimization_barrier(mirrored)
        return _native(g, mirrored, (1, 1), (sides[0], sides[1]), precision)

    phases = [
        [phase_gradient((row, column)) for column in range(strides[1])] for row in range(strides[0])
    ]
    interleaved = jnp.stack([jnp.stack(row, 3) for row in phases], 2)
    padded = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    return interleaved.reshape(len(x), *padded, -1)[:, : x.shape[1], : x.shape[2]]


def _kernel_gradient_by_matmul(
    x: jax.Array, kernel: jax.Array, g: jax.Array, pads: Pads, precision: Any
) -> jax.Array:
    """Multiplies the pixels under each tap, taps and channels first, by the gradient."""
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
    """Convolves the images, channels as batch, with the gradient, batch as input channels."""
    sides = []
    for axis in range(2):
        before = pads[axis][0]
        spread = (g.shape[axis + 1] - 1) * strides[axis] + 1
        sides.append((before, kernel.shape[axis] - 1 + spread - x.shape[axis + 1] - before))

    def chunk_gradient(images: jax.Array, gradients: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            images.transpose(3, 1, 2, 0),
            gradients.transpose(1, 2, 0, 3),
            (1, 1),
            sides,
            rhs_dilation=strides,
            dimension_numbers=LAYOUT,
            precision=precision,
        )

    # On the whole batch, XLA would fuse the computation of the images into their transposition,
    # which is slow.
    return chunks.summed(chunk_gradient, x, g).transpose(1, 2, 0, 3)
