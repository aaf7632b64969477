"""3x3 convolutions with 4 multiplications in place of 9, for a CPU (arXiv:1509.09308, section 4.1).

Lavin and Gray's F(2x2, 3x3): each 2x2 pixels of the result come from a tile of 4x4 pixels of the
image. Tile and kernel, transformed by a few additions, are multiplied number by number, so that all
tiles and channels are 16 matrix products. Rounding is as in a plain convolution: in float32 about
5e-7 of the largest value.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from experiments.models import chunks

Pads = Sequence[tuple[int, int]]
Tiles = tuple[int, int]  # of an image, down and across
Transform = Callable[[Sequence[jax.Array]], list[jax.Array]]


def convolve(x: jax.Array, kernel: jax.Array, pads: Pads, precision: Any) -> jax.Array:
    """A convolution of stride 1.

    Args:
      x: images [batch, height, width, in_channels].
      kernel: [3, 3, in_channels, out_channels].
      pads: pixels (before, after) of height and of width; where negative, pixels are left out.
      precision: precision of the products.

    Returns:
      [batch, height + pads - 2, width + pads - 2, out_channels].
    """
    size = tuple(side + sum(pad) - 2 for side, pad in zip(x.shape[1:3], pads, strict=True))
    return _convolve(x, _kernels(kernel), pads, size, precision)


def image_gradient(
    kernel: jax.Array, g: jax.Array, pads: Pads, size: Sequence[int], precision: Any
) -> jax.Array:
    """The gradient of `convolve` with respect to the images: a convolution by the mirrored kernel.

    Args:
      kernel: its kernel.
      g: the gradient with respect to its result.
      pads: its pads.
      size: height and width of its images.
      precision: precision of the products.

    Returns:
      [batch, height, width, in_channels].
    """
    weights = _kernels(kernel)
    # Mirrored, the first tap of a side is the last, and so is its transform.
    mirrored = [weights[4 * row + column].T for row in (3, 1, 2, 0) for column in (3, 1, 2, 0)]
    return _convolve(
        g, mirrored, [(2 - before, 2 - after) for before, after in pads], size, precision
    )


def kernel_gradient(x: jax.Array, g: jax.Array, pads: Pads, precision: Any) -> jax.Array:
    """The gradient of `convolve` with respect to the kernel.

    Args:
      x: its images.
      g: the gradient with respect to its result.
      pads: its pads.
      precision: precision of the products.

    Returns:
      [3, 3, in_channels, out_channels].
    """
    tiles = _tiles(g.shape[1:3])

    def of_images(images: jax.Array, gradients: jax.Array) -> list[jax.Array]:
        pairs = zip(_images(images, pads, tiles), _gradients(gradients, tiles), strict=True)
        return [jnp.matmul(image.T, gradient, precision=precision) for image, gradient in pairs]

    products = chunks.summed(of_images, x, g)
    columns = [_to_kernel(products[first : first + 4]) for first in range(0, 16, 4)]
    taps = [_to_kernel(column) for column in zip(*columns, strict=True)]
    return jnp.stack([jnp.stack(row) for row in zip(*taps, strict=True)])


def _convolve(
    x: jax.Array, weights: Sequence[jax.Array], pads: Pads, size: Sequence[int], precision: Any
) -> jax.Array:
    """A convolution by a transformed kernel, to images of this height and width."""
    tiles = _tiles(size)

    def of_images(images: jax.Array) -> jax.Array:
        pairs = zip(_images(images, pads, tiles), weights, strict=True)
        products = [jnp.matmul(image, weight, precision=precision) for image, weight in pairs]
        return _results(products, size, tiles)

    return chunks.mapped(of_images, x)


def _tiles(size: Sequence[int]) -> Tiles:
    return -(-size[0] // 2), -(-size[1] // 2)


def _images(x: jax.Array, pads: Pads, tiles: Tiles) -> list[jax.Array]:
    """All tiles of images, transformed: 16 of [batch * tiles, channels]."""
    sides = (
        (before, 2 * number + 2 - side - before, 0)
        for side, (before, _), number in zip(x.shape[1:3], pads, tiles, strict=True)
    )
    padded = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *sides, (0, 0, 0)))
    return _transformed(padded, 4, tiles, _of_image)


def _gradients(g: jax.Array, tiles: Tiles) -> list[jax.Array]:
    """All tiles of a result's gradient, transformed: 16 of [batch * tiles, channels]."""
    sides = ((0, 2 * number - side) for side, number in zip(g.shape[1:3], tiles, strict=True))
    return _transformed(jnp.pad(g, ((0, 0), *sides, (0, 0))), 2, tiles, _from_result)


def _transformed(
    images: jax.Array, size: int, tiles: Tiles, transform: Transform
) -> list[jax.Array]:
    """Tiles of `size` pixels a side, two pixels from one to the next, transformed on both sides."""

    def pixels(image: jax.Array, axis: int) -> list[jax.Array]:
        reach = 2 * tiles[axis - 1] - 1
        return [lax.slice_in_dim(image, pixel, pixel + reach, 2, axis) for pixel in range(size)]

    parts = [part for row in transform(pixels(images, 1)) for part in transform(pixels(row, 2))]
    return [part.reshape(-1, images.shape[-1]) for part in parts]


def _kernels(kernel: jax.Array) -> list[jax.Array]:
    """The kernel, transformed: 16 of [in_channels, out_channels]."""
    return [part for row in _of_kernel(list(kernel)) for part in _of_kernel(list(row))]


def _results(products: Sequence[jax.Array], size: Sequence[int], tiles: Tiles) -> jax.Array:
    """The pixels of all tiles, put together."""
    by_tile = [product.reshape(-1, *tiles, product.shape[-1]) for product in products]
    columns = [_to_result(by_tile[first : first + 4]) for first in range(0, 16, 4)]
    pixels = [_to_result(column) for column in zip(*columns, strict=True)]
    rows = [jnp.stack(row, 3) for row in zip(*pixels, strict=True)]
    whole = jnp.stack(rows, 2).reshape(-1, 2 * tiles[0], 2 * tiles[1], products[0].shape[-1])
    return whole[:, : size[0], : size[1]]


# The transforms along one side of a tile; the last two are the transposed ones of the two before.


def _of_image(pixels: Sequence[jax.Array]) -> list[jax.Array]:
    first, second, third, fourth = pixels
    return [first - third, second + third, third - second, second - fourth]


def _of_kernel(taps: Sequence[jax.Array]) -> list[jax.Array]:
    first, second, third = taps
    return [first, (first + second + third) / 2, (first - second + third) / 2, third]


def _to_result(products: Sequence[jax.Array]) -> list[jax.Array]:
    first, second, third, fourth = products
    return [first + second + third, second - third - fourth]


def _to_kernel(products: Sequence[jax.Array]) -> list[jax.Array]:
    first, second, third, fourth = products
    half_sum, half_difference = (second + third) / 2, (second - third) / 2
    return [first + half_sum, half_difference, half_sum + fourth]


def _from_result(pixels: Sequence[jax.Array]) -> list[jax.Array]:
    first, second = pixels
    return [first, first + second, first - second, -second]
