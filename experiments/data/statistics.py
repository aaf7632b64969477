"""Statistics of uint8 images from counts of their values, which are exact and can be added up."""

import math

import numpy as np

NUM_VALUES = 256


def value_counts(images: np.ndarray) -> np.ndarray:
    """Counts how often each value occurs in each channel.

    Args:
      images: uint8 [examples, height, width, channels].

    Returns:
      int64 [channels, 256]; the sum of the counts of several chunks is that of all of them.
    """
    channels = np.moveaxis(images, -1, 0).reshape(images.shape[-1], -1)
    return np.stack([np.bincount(channel, minlength=NUM_VALUES) for channel in channels])


def statistics_of_counts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the mean and standard deviation of each channel, rounded once.

    Args:
      counts: int64 [channels, 256], the result of `value_counts`.

    Returns:
      Mean and standard deviation, float32 [1, 1, 1, channels]. The deviation of a constant channel
      is 1, to avoid a division by zero.

    >>> mean, std = statistics_of_counts(value_counts(np.array([[[[0]], [[4]]]], np.uint8)))
    >>> mean.item(), std.item()
    (2.0, 2.0)
    """
    mean, std = [], []
    for channel in counts.tolist():
        number = sum(channel)
        total = sum(value * count for value, count in enumerate(channel))
        squares = sum(value**2 * count for value, count in enumerate(channel))
        mean.append(total / number)
        std.append(math.sqrt((number * squares - total**2) / number**2) or 1.0)
    shape = (1, 1, 1, len(counts))
    return np.array(mean, np.float32).reshape(shape), np.array(std, np.float32).reshape(shape)
