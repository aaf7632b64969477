"""Two-dimensional convolution as one matrix product, for networks that train side by side.

Under `jax.vmap`, the convolutions of networks that have weights of their own become one grouped
convolution, which accelerators compute slowly. Matrix products become one batched product.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

_enabled = contextvars.ContextVar("convolutions_as_products", default=False)


@contextlib.contextmanager
def convolutions_as_products() -> Iterator[None]:
    """Makes networks that are traced in this context compute convolutions as matrix products."""
    token = _enabled.set(True)
    try:
        yield
    finally:
        _enabled.reset(token)


def enabled() -> bool:
    """Returns whether convolutions are to be computed as matrix products."""
    return _enabled.get()


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    pads: Sequence[tuple[int, int]],
    precision: Any,
) -> jax.Array:
    """Multiplies the pixels under all taps of the kernel by the kernel.

    Args:
      x: images [batch, height, width, in_channels].
      kernel: [kernel_height, kernel_width, in_channels, out_channels].
      strides: strides of height and width.
      pads: pixels (before, after) of height and of width.
      precision: precision of the product.

    Returns:
      [batch, out_height, out_width, out_channels].
    """
    height, width, _, out_channels = kernel.shape
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = (
        padded.shape[axis + 1] - taps + 1 for axis, taps in enumerate(kernel.shape[:2])
    )
    pixels = jnp.concatenate(
        [
            padded[:, row : row + rows : strides[0], column : column + columns : strides[1]]
            for row in range(height)
            for column in range(width)
        ],
        axis=-1,
    )
    taps = kernel.reshape(pixels.shape[-1], out_channels)
    return jnp.matmul(pixels, taps, precision=precision)
