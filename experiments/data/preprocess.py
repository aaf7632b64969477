"""What is done to every image of a data set, fitted to its training images alone.

A chain of steps, by name, in the order in which a config gives them. All but the plainest chains
are computed once, on the host, and cached on disk.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.data import cache
from experiments.data.datasets import Dataset
from experiments.errors import UserError

FORMAT = 1  # of the cached images; one more whenever a step computes something else
CHUNK = 1000  # images that are computed at once
MAX_ZCA_VALUES = 64 * 64 * 3  # per image; the covariance has the square of it, here 1.2 GB
SMALLEST_DEVIATION = 1e-8  # of an image that is divided by its own; any smaller one is rounding
PERCENTILES = (2, 98)  # of an image, which are stretched to 0 and 255

Images = TypeVar("Images", np.ndarray, jax.Array)


def prepare(
    dataset: Dataset, steps: Sequence[str], *, zca_epsilon: float, cache_key: str
) -> tuple[Dataset, Callable[[jax.Array], jax.Array]]:
    """A data set as it goes onto the device, and what is left to do to its images there.

    No step, and `standardize` alone, leave the images uint8, a quarter of the memory, and are
    computed on the device. Every other chain is computed here, once, and cached.

    Args:
      dataset: uint8 images.
      steps: names out of `STEPS`, in the order in which they are applied.
      zca_epsilon: above 0, for the step `zca`; see `zca_matrix`.
      cache_key: names everything that the images of `dataset` depend on.

    Returns:
      The data set, with images uint8 or float32, and a function that makes them the float32 images
      a model is given; it is the identity on float32 images.

    Raises:
      UserError: the steps cannot be combined, the images are too large for one of them, or the
        cache directory cannot be written.
    """
    steps = tuple(steps)
    check(steps)
    check_size(steps, dataset.train_images.shape[1:])
    if not steps:
        return dataset, as_float32
    if steps == ("standardize",):
        mean, std = channel_statistics(dataset.train_images)
        return dataset, partial(standardize, mean=mean, std=std)
    options = {"zca_epsilon": float(zca_epsilon)} if "zca" in steps else {}
    key = hashlib.sha256(json.dumps([FORMAT, cache_key, steps, options]).encode()).hexdigest()
    images = cache.stored(
        f"preprocessed/{key}.npz",
        lambda: apply_steps(dataset.train_images, dataset.test_images, steps, zca_epsilon),
    )
    return (
        dataset._replace(train_images=images["train"], test_images=images["test"]),
        as_float32,
    )


def check(steps: Sequence[str]) -> None:
    """Refuses steps that do not exist or do not go together.

    Args:
      steps: names, in the order in which they would be applied.

    Raises:
      UserError: a name is unknown or comes twice, or the order makes no sense.

    >>> check(("contrast_stretching", "standardize", "zca", "global_contrast_normalization"))
    >>> check(("zca", "standardize"))
    Traceback (most recent call last):
    experiments.errors.UserError: ...after zca only global_contrast_normalization may follow...
    """
    for index, name in enumerate(steps):
        if name not in STEPS:
            raise UserError(f"unknown preprocessing step {name!r}; choose from {', '.join(STEPS)}")
        earlier = steps[:index]
        if name in earlier:
            raise UserError(f"preprocessing step {name!r} is named twice; name it once")
        if name == "contrast_stretching" and earlier:
            raise UserError(
                "preprocessing step 'contrast_stretching' takes pixel values 0..255 and must be "
                f"the first, before {earlier[0]!r}"
            )
        if "zca" in earlier and name != "global_contrast_normalization":
            raise UserError(
                f"preprocessing step {name!r} would undo the whitening; after zca only "
                "global_contrast_normalization may follow"
            )


def check_size(steps: Sequence[str], image_shape: tuple[int, ...]) -> None:
    """Refuses images whose covariance is too large to be computed.

    Args:
      steps: names of steps.
      image_shape: height, width, channels.

    Raises:
      UserError: the step `zca` is asked for images of more than `MAX_ZCA_VALUES` values.
    """
    if "zca" in steps and np.prod(image_shape) > MAX_ZCA_VALUES:
        raise UserError(
            f"preprocessing step 'zca' takes at most {MAX_ZCA_VALUES} values an image (64x64x3); "
            f"images are {'x'.join(map(str, image_shape))}"
        )


def apply_steps(
    train_images: np.ndarray, test_images: np.ndarray, steps: Sequence[str], zca_epsilon: float
) -> dict[str, np.ndarray]:
    """Fits each step to the training images as the one before left them, and applies it to all.

    Args:
      train_images: uint8 [examples, height, width, channels].
      test_images: uint8 [examples, height, width, channels].
      steps: names out of `STEPS`, at least one.
      zca_epsilon: see `zca_matrix`.

    Returns:
      The images under the names "train" and "test", float32, in the shapes they came in.
    """
    for name in steps:
        step = STEPS[name]
        fitted = step.fit(train_images, zca_epsilon)
        train_images = step.apply(train_images, *fitted)
        test_images = step.apply(test_images, *fitted)
    return {"train": train_images, "test": test_images}


def as_float32(images: jax.Array) -> jax.Array:
    """Images of any dtype as float32, their values unchanged."""
    return images.astype(jnp.float32)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, computed in float64.

    Args:
      images: [examples, height, width, channels], the training split.

    Returns:
      Mean and standard deviation, float32 [1, 1, 1, channels], in the images' unit; the deviation
      of a constant channel is given as 1, by which it can be divided.

    >>> mean, std = channel_statistics(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
    >>> mean.item(), std.item()
    (127.5, 127.5)
    """
    shape = (1, 1, 1, images.shape[-1])
    mean, std = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for channel in range(images.shape[-1]):
        values = images[..., channel].astype(np.float64)
        mean[..., channel] = values.mean()
        std[..., channel] = values.std()
    std[std == 0] = 1
    return mean, std


def standardize(images: Images, mean: np.ndarray, std: np.ndarray) -> Images:
    """Images with the training split's channels at mean 0 and standard deviation 1.

    Args:
      images: [batch, height, width, channels], of NumPy or of JAX.
      mean: float32 [1, 1, 1, channels].
      std: float32 [1, 1, 1, channels].

    Returns:
      float32 [batch, height, width, channels].
    """
    return (images.astype(jnp.float32) - mean) / std


def pixel_mean(images: np.ndarray) -> np.ndarray:
    """The mean image, float32 [1, height, width, channels], computed in float64."""
    return images.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)


def subtract(images: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Images [examples, height, width, channels] less the mean image, float32."""
    return np.subtract(images, mean, dtype=np.float32)


def global_contrast_normalization(images: np.ndarray) -> np.ndarray:
    """Each image at mean 0 and standard deviation 1 over all its pixels and channels.

    x -> (x - mean(x)) / max(std(x), 1e-8)

    Coates and Ng add 10 to the variance of small patches of pixel values. Whole images vary by far
    more, in CIFAR-10 with a variance of at least 92, and this step may come after others that leave
    no pixel values; so nothing is added here.

    Args:
      images: [examples, height, width, channels].

    Returns:
      float32 of the same shape; a constant image becomes 0.

    Sources: Coates, Ng and Lee 2011 (An analysis of single-layer networks in unsupervised feature
    learning, section 3.1.1); Coates and Ng 2012 (Learning feature representations with k-means);
    Goodfellow et al. 2013 (arXiv:1302.4389, section 5), who give CIFAR-10 to ZCA whitening so.

    >>> global_contrast_normalization(np.array([3, 5], np.uint8).reshape(1, 1, 2, 1)).ravel()
    array([-1.,  1.], dtype=float32)
    """
    axes = (1, 2, 3)
    normalized = np.empty(images.shape, np.float32)
    for part in _chunks(images, "normalising contrast"):
        centred = images[part] - images[part].mean(axis=axes, dtype=np.float64, keepdims=True)
        std = np.sqrt(np.mean(centred**2, axis=axes, keepdims=True))
        normalized[part] = centred / np.maximum(std, SMALLEST_DEVIATION)
    return normalized


def contrast_stretching(images: np.ndarray) -> np.ndarray:
    """Each image with its 2nd percentile at 0 and its 98th at 255, clipped beyond them.

    The percentiles are those of all its pixels and channels, so that colours keep their balance.

    Args:
      images: uint8 [examples, height, width, channels].

    Returns:
      float32 of the same shape, 0..255; an image whose two percentiles are equal, such as a
      constant one, has no contrast to stretch and stays as it is.

    Source: scikit-image, `exposure.rescale_intensity` and its example of contrast stretching.
    """
    from skimage.exposure import rescale_intensity

    stretched = images.astype(np.float32)
    for part in _chunks(images, "stretching contrast"):
        low, high = np.percentile(images[part], PERCENTILES, axis=(1, 2, 3))
        for index in np.flatnonzero(low < high):
            stretched[part][index] = rescale_intensity(
                images[part][index], in_range=(low[index], high[index]), out_range=(0, 255)
            )
    return stretched


def zca_matrix(images: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric matrix that decorrelates the values of an image, and their mean.

    With the covariance U diag(s) U^T of the training split about its mean,

        W = U diag(1 / sqrt(s + epsilon mean(s))) U^T.

    The whitened training split has the covariance U diag(s / (s + epsilon mean(s))) U^T: the
    directions whose variance is well above epsilon times the average one come out with variance 1,
    those well below it, which hold little but noise, stay small.

    Args:
      images: [examples, height, width, channels], the training split.
      epsilon: above 0, free of units. 0.1 is the filter of Goodfellow et al. 2013, who add 0.1 to
        the eigenvalues of CIFAR-10 at a mean eigenvalue of 0.96.

    Returns:
      The mean, float32 [values], and W, float32 [values, values], with height * width * channels
      values.

    Sources: Bell and Sejnowski 1997 (The "independent components" of natural scenes are edge
    filters); Goodfellow et al. 2013 (arXiv:1302.4389, section 5) and Zagoruyko and Komodakis 2016
    (arXiv:1605.07146, section 3), who whiten CIFAR-10 so.
    """
    flat = images.reshape(len(images), -1)
    mean = flat.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = np.zeros((flat.shape[1], flat.shape[1]))
    for part in _chunks(flat, "computing the covariance"):
        centred = flat[part] - mean.astype(np.float64)
        covariance += centred.T @ centred
    covariance /= len(flat)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    eigenvalues = np.maximum(eigenvalues, 0)  # rounding makes one of 0 a little negative
    deviation = np.sqrt(eigenvalues + epsilon * eigenvalues.mean())
    deviation[deviation == 0] = 1
    matrix = (eigenvectors / deviation) @ eigenvectors.T
    return mean, matrix.astype(np.float32)


def whiten(images: np.ndarray, mean: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Images less their mean, times a matrix.

    Args:
      images: [examples, height, width, channels].
      mean: float32 [height * width * channels].
      matrix: float32 [height * width * channels, height * width * channels].

    Returns:
      float32 [examples, height, width, channels].
    """
    flat = images.reshape(len(images), -1)
    whitened = np.empty(flat.shape, np.float32)
    for part in _chunks(flat, "whitening"):
        whitened[part] = (flat[part] - mean) @ matrix
    return whitened.reshape(images.shape)


def _chunks(images: np.ndarray, what: str) -> Iterator[slice]:
    """Slices of so many images, with a bar that says what is being done to them."""
    starts = range(0, len(images), CHUNK)
    for start in tqdm(starts, what, unit=" images", unit_scale=CHUNK, disable=None):
        yield slice(start, start + CHUNK)


class Step(NamedTuple):
    """A step of preprocessing."""

    fit: Callable[[np.ndarray, float], tuple[np.ndarray, ...]]  # to training images; zca_epsilon
    apply: Callable[..., np.ndarray]  # to images, with what was fitted


STEPS = {
    "contrast_stretching": Step(lambda images, epsilon: (), contrast_stretching),
    "global_contrast_normalization": Step(
        lambda images, epsilon: (), global_contrast_normalization
    ),
    "pixel_mean": Step(lambda images, epsilon: (pixel_mean(images),), subtract),
    "standardize": Step(lambda images, epsilon: channel_statistics(images), standardize),
    "zca": Step(zca_matrix, whiten),
}
