"""Products of bfloat16 operands on a CPU, with sums in float32."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from experiments.models.cpu import chunks

Result = TypeVar("Result")
Pair = tuple[int, int]

# Size of a chunk of images in `kernel_gradient`, which joins copies of them.
CHUNK_BYTES = 2**20
# The same in `_cross_products`, which copies them less.
CROSS_CHUNK_BYTES = 2**22
# Images of this size and more lose little by the padding of `_cross_products`.
MIN_SIDE_FOR_CROSS = 16
# With few channels of the images, the copies of the gradient would be the larger part.
MIN_CHANNELS_FOR_CROSS = 16


def suits(kernel: jax.Array) -> bool:
    """Returns whether a convolution with this kernel multiplies bfloat16 operands."""
    return kernel.dtype == jnp.bfloat16


def in_float32(function: Callable[..., Result]) -> Callable[..., Result]:
    """Makes a function of bfloat16 arrays compute in float32; its results are bfloat16 again."""

    def converted(*arrays: jax.Array) -> Result:
        results = function(*(array.astype(jnp.float32) for array in arrays))
        return jax.tree.map(lambda result: result.astype(jnp.bfloat16), results)

    return converted


def stored(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Makes XLA on a CPU compute arrays once and store them, however often they are used."""
    return lax.platform_dependent(*arrays, cpu=_barrier, default=lambda *arrays: arrays)


def _barrier(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    return lax.optimization_barrier(arrays)


def kernel_gradient(
    x: jax.Array,
    g: jax.Array,
    window: tuple[int, ...],
    strides: Pair,
    pads: tuple[Pair, Pair],
    precision: Any,
) -> jax.Array:
    """Computes the gradient of a convolution with respect to its kernel.

    The pixels under a row of the kernel are joined along the channels, so that each row is one
    matrix product with the gradient. Products of a chunk of images are rounded to bfloat16, and the
    chunks are summed in float32.

    Args:
      x: images [batch, height, width, in_channels], bfloat16.
      g: gradient with respect to the result, bfloat16.
      window: height and width of the kernel.
      strides: strides of height and width.
      pads: pixels (before, after) of height and of width.
      precision: precision of the products.

    Returns:
      [*window, in_channels, out_channels], float32.
    """
    height, width = window
    in_channels, out_channels = x.shape[-1], g.shape[-1]
    margins = height // 2, width // 2
    keeps_size = strides == (1, 1) and pads == tuple((margin, margin) for margin in margins)
    large = min(x.shape[1:3]) >= MIN_SIDE_FOR_CROSS and in_channels >= MIN_CHANNELS_FOR_CROSS
    if keeps_size and large and max(margins) > 0:
        return _cross_products(x, g, window, precision)

    def taps(images: jax.Array, axis: int) -> list[jax.Array]:
        stride = strides[axis - 1]
        reach = stride * (g.shape[axis] - 1) + 1
        return [
            lax.slice_in_dim(images, first, first + reach, stride, axis)
            for first in range(window[axis - 1])
        ]

    def chunk_products(images: jax.Array, gradients: jax.Array) -> jax.Array:
        padded = jnp.pad(images, ((0, 0), *pads, (0, 0)))
        joined = jnp.concatenate(taps(padded, 2), axis=-1)
        pixels = gradients.reshape(-1, out_channels)
        products = [
            lax.dot_general(
                row.reshape(-1, width * in_channels),
                pixels,
                (((0,), (0,)), ((), ())),
                precision=precision,
            )
            for row in taps(joined, 1)
        ]
        return jnp.stack(products).astype(jnp.float32)

    total = chunks.summed(chunk_products, x, g, CHUNK_BYTES)
    return total.reshape(height, width, in_channels, out_channels)


def _cross_products(
    x: jax.Array, g: jax.Array, window: tuple[int, ...], precision: Any
) -> jax.Array:
    """Computes the gradient of the kernel as one product per chunk, if the image keeps its size.

    With pixels of all images in one row, a tap of the kernel is a distance between a pixel of the
    images and one of the gradient. Copies of the images, shifted by the columns of the kernel, are
    joined along the channels, and so are copies of the gradient, shifted by its rows. The product
    of both contains every tap. A margin of zeros separates the rows of an image, and the images.
    """
    height, width = window
    in_channels, out_channels = x.shape[-1], g.shape[-1]
    below, right = height // 2, width // 2
    row = x.shape[2] + right

    def shifted(images: jax.Array, number: int, step: int) -> jax.Array:
        """Joins copies shifted by multiples of a number of pixels, from ahead to behind."""
        padded = jnp.pad(images, ((0, 0), (0, below), (0, right), (0, 0)))
        pixels = padded.reshape(-1, images.shape[-1])
        reach = number // 2 * step
        # Without the barrier, each copy would compute the padding anew.
        padded = lax.optimization_barrier(jnp.pad(pixels, ((reach, reach), (0, 0))))
        copies = [padded[step * copy : step * copy + len(pixels)] for copy in range(number)]
        return lax.optimization_barrier(jnp.concatenate(copies, axis=1))

    def chunk_product(images: jax.Array, gradients: jax.Array) -> jax.Array:
        product = lax.dot_general(
            shifted(images, width, 1),
            shifted(gradients, height, row),
            (((0,), (0,)), ((), ())),
            precision=precision,
        )
        # Without the barrier, XLA may let oneDNN add the chunks, which rounds each sum to bfloat16.
        return lax.optimization_barrier(product).astype(jnp.float32)

    total = chunks.summed(chunk_product, x, g, CROSS_CHUNK_BYTES)
    total = total.reshape(width, in_channels, height, out_channels)
    # The gradient of the kernel's first row is paired with pixels ahead of it.
    return jnp.flip(total.transpose(2, 0, 1, 3), 0)
