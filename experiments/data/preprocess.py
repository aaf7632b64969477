"""What is fitted on the training images once, and applied to every image."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, exactly.

    Args:
      images: uint8 [examples, height, width, channels], the training split.

    Returns:
      Mean and standard deviation, float32 [1, 1, 1, channels], in pixel values 0..255; the
      deviation of a constant channel is given as 1, by which it can be divided.

    >>> mean, std = channel_statistics(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
    >>> mean.item(), std.item()
    (127.5, 127.5)
    """
    values = np.arange(256)
    means, stds = [], []
    for channel in range(images.shape[-1]):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        mean = np.average(values, weights=counts)
        means.append(mean)
        std = np.sqrt(np.average((values - mean) ** 2, weights=counts))
        stds.append(std if std > 0 else 1.0)
    shape = (1, 1, 1, images.shape[-1])
    return np.array(means, np.float32).reshape(shape), np.array(stds, np.float32).reshape(shape)


def standardize(images: jax.Array, mean: ArrayLike, std: ArrayLike) -> jax.Array:
    """Images with the training split's channels at mean 0 and standard deviation 1.

    Args:
      images: uint8 [batch, height, width, channels].
      mean: float32 [1, 1, 1, channels].
      std: float32 [1, 1, 1, channels].

    Returns:
      float32 [batch, height, width, channels].
    """
    return (images.astype(jnp.float32) - mean) / std
