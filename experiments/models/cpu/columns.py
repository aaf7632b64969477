"""Image gradients of convolutions whose result is smaller than the image, for a CPU.

One matrix product multiplies groups of neighboring columns by all taps. A group reaches a few more
columns of the image than it has, so its kernel has a copy of the taps for each of its columns, and
zeros elsewhere. A pixel then is a sum of a few products, instead of one for each tap. The products
of single columns have no zeros, but their sum takes longer than all else.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

# With more columns, the kernel has more zeros; with fewer, there are more products to add. Measured
# on x86-64 with 5x5 kernels.
COLUMNS = 4


def image_gradient(
    kernel: jax.Array,
    g: jax.Array,
    pads: Sequence[tuple[int, int]],
    size: Sequence[int],
    precision: Any,
) -> jax.Array:
    """Computes the gradient of a convolution of stride 1 with respect to its images.

    Args:
      kernel: [kernel_height, kernel_width, in_channels, out_channels].
      g: gradient with respect to the result, [batch, out_height, out_width, out_channels].
      pads: pixels (before, after) of height and of width that pad the images.
      size: height and width of the images.
      precision: precision of the products.

    Returns:
      [batch, height, width, in_channels].
    """
    height, width, in_channels, out_channels = kernel.shape
    batch, rows, g_width, _ = g.shape
    columns = min(COLUMNS, g_width)
    groups = -(-g_width // columns)
    copies = [
        jnp.pad(kernel, ((0, 0), (column, columns - 1 - column), (0, 0), (0, 0)))
        for column in range(columns)
    ]
    taps = jnp.stack(copies).transpose(0, 4, 1, 2, 3).reshape(columns * out_channels, -1)
    complete = jnp.pad(g, ((0, 0), (0, 0), (0, groups * columns - g_width), (0, 0)))
    complete = complete.reshape(batch, rows, groups, columns * out_channels)
    products = jnp.matmul(complete, taps, precision=precision)
    products = products.reshape(batch, rows, groups, height, -1)

    def place(group: int, row: int) -> jax.Array:
        """Pads the product of a group and a row of the kernel to the size of the padded images."""
        before, after = group * columns, (groups - 1 - group) * columns
        sides = (row, height - 1 - row), (before * in_channels, after * in_channels)
        return jnp.pad(products[:, :, group, row], ((0, 0), *sides))

    # Columns and channels share an axis, because XLA adds long rows faster.
    places = [place(group, row) for group in range(groups) for row in range(height)]
    padded = functools.reduce(jnp.add, places)
    padded = padded.reshape(batch, rows + height - 1, groups * columns + width - 1, in_channels)
    (top, _), (left, _) = pads
    return padded[:, top : top + size[0], left : left + size[1]]
