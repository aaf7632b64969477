"""Preprocesses all images of a data set by a chain of steps, fitted to the training images only.

The simplest chains run on the device. All others are computed once, on the host, and cached on
disk.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.data import cache, chain, source
from experiments.data.datasets import Dataset
from experiments.data.statistics import statistics_of_counts, value_counts
from experiments.errors import UserError

CHUNK = 1000  # number of images processed at once
SMALLEST_DEVIATION = 1e-8  # a smaller standard deviation of an image is a rounding error
PERCENTILES = (2, 98)  # stretched to 0 and 255

Images = TypeVar("Images", np.ndarray, jax.Array)


Fitted = tuple[np.ndarray, ...]


class Step(NamedTuple):
    """A step of preprocessing, in `STEPS` or your own, named by `package.module:attribute`.

    Attributes:
      fit: called as `fit(train_images, zca_epsilon)`; returns the arguments that `apply` needs, as
        a tuple of arrays. A step that does not need `zca_epsilon` ignores it.
      apply: called as `apply(images, *fitted)`; returns float32 images of the same shape. Images
        are arrays [examples, height, width, channels], uint8 in the first step.
    """

    fit: Callable[[np.ndarray, float], Fitted]
    apply: Callable[..., np.ndarray]


class Prepared(NamedTuple):
    """A preprocessed data set.

    Attributes:
      dataset: uint8 or float32 images.
      normalize: from these images to the float32 images that a model takes.
      fitted: what `fit` of each step returned, in order.
    """

    dataset: Dataset
    normalize: Callable[[jax.Array], jax.Array]
    fitted: tuple[Fitted, ...]


def prepare(
    dataset: Dataset, steps: Mapping[str, Step], *, zca_epsilon: float, cache_key: str
) -> Prepared:
    """Preprocesses a data set and returns what remains to be done on the device.

    Without steps, or with `standardize` only, images stay uint8, which takes a quarter of the
    memory, and the device does the rest. Every other chain is computed here, once, and cached.

    Args:
      dataset: uint8 or float32 images.
      steps: the steps by name, in order of application.
      zca_epsilon: regularization of the step `zca`, above 0; see `zca_matrix`.
      cache_key: name for the images of `dataset`. The cache keeps one result of each chain per
        name, which is computed again if the images or the code of the steps change.

    Returns:
      The data set and a function that normalizes it, which is the identity for float32 images.

    Raises:
      UserError: the steps cannot be combined, the images are too large for `zca`, or a step of your
        own returns something other than float32 images of the same shape.
    """
    chain.check(steps)
    chain.check_size(steps, dataset.train_images.shape[1:])
    if not steps:
        return Prepared(dataset, as_float32, ())
    if tuple(steps) == ("standardize",):
        mean, std = channel_statistics(dataset.train_images)
        return Prepared(dataset, partial(standardize, mean=mean, std=std), ((mean, std),))

    def compute() -> dict[str, np.ndarray]:
        return apply_steps(dataset.train_images, dataset.test_images, steps, zca_epsilon)

    functions = [function for step in steps.values() for function in step]
    own_modules = [name.partition(":")[0] for name in steps if name not in STEPS]
    code = source.code_of(functions, own_modules)
    if code is None:  # nothing would show that a step has changed
        images = compute()
    else:
        options = {"zca_epsilon": float(zca_epsilon)} if "zca" in steps else {}
        described = json.dumps([cache_key, list(steps), options]).encode()
        images = cache.stored(
            f"preprocessed/{hashlib.sha256(described).hexdigest()}.arrays",
            _key(described, code, dataset),
            {
                "train": cache.Layout(dataset.train_images.shape, "float32"),
                "test": cache.Layout(dataset.test_images.shape, "float32"),
            },
            compute,
            others=True,
        )
    return Prepared(
        dataset._replace(train_images=images["train"], test_images=images["test"]),
        as_float32,
        _fitted(images, len(steps)),
    )


def _fitted(arrays: Mapping[str, np.ndarray], num_steps: int) -> tuple[Fitted, ...]:
    """Returns what `apply_steps` names `fitted STEP ARGUMENT`, by step and argument."""
    found: list[list[np.ndarray]] = [[] for _ in range(num_steps)]
    for name, array in arrays.items():
        if name.startswith("fitted "):
            found[int(name.split()[1])].append(array)
    return tuple(map(tuple, found))


def _key(described: bytes, code: str, dataset: Dataset) -> str:
    """Returns a hash of everything that the preprocessed images depend on."""
    whole = hashlib.sha256(described)
    whole.update(code.encode())
    for images in (dataset.train_images, dataset.test_images):
        whole.update(np.ascontiguousarray(images).data)
    return whole.hexdigest()


def apply_steps(
    train_images: np.ndarray,
    test_images: np.ndarray,
    steps: Mapping[str, Step],
    zca_epsilon: float,
) -> dict[str, np.ndarray]:
    """Applies steps in order; each is fitted to the training images that the previous one returned.

    Args:
      train_images: uint8 [examples, height, width, channels].
      test_images: uint8 [examples, height, width, channels].
      steps: the steps by name, at least one.
      zca_epsilon: see `zca_matrix`.

    Returns:
      The images as "train" and "test", float32, with unchanged shapes, and what the steps were
      fitted to as "fitted 0 0", for the first argument of the first step, and so on.

    Raises:
      UserError: a step returns something other than float32 images of the same shape.
    """
    arguments = {}
    for number, (name, step) in enumerate(steps.items()):
        fitted = step.fit(train_images, zca_epsilon)
        train_images = _applied(name, step, train_images, fitted)
        test_images = _applied(name, step, test_images, fitted)
        for place, argument in enumerate(fitted):
            arguments[f"fitted {number} {place}"] = np.asarray(argument)
    return {"train": train_images, "test": test_images, **arguments}


def _applied(
    name: str, step: Step, images: np.ndarray, fitted: tuple[np.ndarray, ...]
) -> np.ndarray:
    result = step.apply(images, *fitted)
    if (result.shape, result.dtype) != (images.shape, np.float32):
        raise UserError(
            f"data.preprocess={name!r} returns {result.dtype} images of shape {result.shape} for "
            f"images of shape {images.shape}; it must return float32 images of the same shape"
        )
    return result


def as_float32(images: jax.Array) -> jax.Array:
    """Converts images of any dtype to float32 without changing their values."""
    return images.astype(jnp.float32)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Computes the mean and standard deviation of each channel, in float64 or exactly for uint8.

    Args:
      images: training images [examples, height, width, channels].

    Returns:
      Mean and standard deviation, float32 [1, 1, 1, channels]. The deviation of a constant channel
      is 1, to avoid a division by zero.

    >>> mean, std = channel_statistics(np.array([0, 255], np.uint8).reshape(2, 1, 1, 1))
    >>> mean.item(), std.item()
    (127.5, 127.5)
    """
    if images.dtype == np.uint8:
        chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
        return statistics_of_counts(np.sum([value_counts(chunk) for chunk in chunks], axis=0))
    shape = (1, 1, 1, images.shape[-1])
    mean, std = np.empty(shape, np.float32), np.empty(shape, np.float32)
    for channel in range(images.shape[-1]):
        values = images[..., channel].astype(np.float64)
        mean[..., channel] = values.mean()
        std[..., channel] = values.std()
    std[std == 0] = 1
    return mean, std


def standardize(images: Images, mean: np.ndarray, std: np.ndarray) -> Images:
    """Subtracts the mean of each channel and divides by its standard deviation.

    Args:
      images: NumPy or JAX array [batch, height, width, channels].
      mean: float32 [1, 1, 1, channels].
      std: float32 [1, 1, 1, channels].

    Returns:
      float32 [batch, height, width, channels].
    """
    return (images.astype(jnp.float32) - mean) / std


def pixel_mean(images: np.ndarray) -> np.ndarray:
    """Computes the mean image in float64; returns it as float32 [1, height, width, channels]."""
    return images.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)


def subtract(images: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Subtracts the mean image from images [examples, height, width, channels], in float32."""
    return np.subtract(images, mean, dtype=np.float32)


def global_contrast_normalization(images: np.ndarray) -> np.ndarray:
    """Scales each image to mean 0 and standard deviation 1 over all its pixels and channels.

    x -> (x - mean(x)) / max(std(x), 1e-8)

    Coates and Ng add 10 to the variance of small patches of pixel values. This step adds nothing:
    full images vary far more (in CIFAR-10, the smallest variance is 92), and earlier steps may
    return values in other units.

    Args:
      images: [examples, height, width, channels].

    Returns:
      float32 images of the same shape; a constant image becomes 0.

    Sources: Coates, Ng, and Lee 2011 (An analysis of single-layer networks in unsupervised feature
    learning, section 3.1.1); Coates and Ng 2012 (Learning feature representations with k-means);
    Goodfellow et al. 2013 (arXiv:1302.4389, section 5), who apply it to CIFAR-10 before ZCA
    whitening.

    >>> global_contrast_normalization(np.array([3, 5], np.uint8).reshape(1, 1, 2, 1)).ravel()
    array([-1.,  1.], dtype=float32)
    """
    axes = (1, 2, 3)
    normalized = np.empty(images.shape, np.float32)
    for part in _chunks(images, "normalizing contrast"):
        centered = images[part] - images[part].mean(axis=axes, dtype=np.float64, keepdims=True)
        std = np.sqrt(np.mean(centered**2, axis=axes, keepdims=True))
        normalized[part] = centered / np.maximum(std, SMALLEST_DEVIATION)
    return normalized


def contrast_stretching(images: np.ndarray) -> np.ndarray:
    """Maps the 2nd and 98th percentile of each image to 0 and 255, and clips values outside.

    The percentiles are taken over all pixels and channels, which preserves the color balance.

    Args:
      images: uint8 [examples, height, width, channels].

    Returns:
      float32 images of the same shape, 0..255. An image whose two percentiles are equal, such as a
      constant one, is unchanged.

    Source: scikit-image, `exposure.rescale_intensity` and its contrast stretching example.
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
    """Computes the mean of the images and the symmetric matrix that decorrelates their values.

    If the training images have covariance U diag(s) U^T, the matrix is

        W = U diag(1 / sqrt(s + epsilon mean(s))) U^T.

    The whitened training images have covariance U diag(s / (s + epsilon mean(s))) U^T. Directions
    with a variance far above epsilon times the mean get variance 1. Directions far below it, which
    contain mostly noise, stay small.

    Args:
      images: training images [examples, height, width, channels].
      epsilon: regularization relative to the mean eigenvalue, above 0. 0.1 matches Goodfellow et
        al. 2013, who add 0.1 to the eigenvalues of CIFAR-10, whose mean is 0.96.

    Returns:
      The mean, float32 [values], and W, float32 [values, values], where an image has
      height * width * channels values.

    Sources: Bell and Sejnowski 1997 (The "independent components" of natural scenes are edge
    filters); Goodfellow et al. 2013 (arXiv:1302.4389, section 5) and Zagoruyko and Komodakis 2016
    (arXiv:1605.07146, section 3), who whiten CIFAR-10 in this form.
    """
    flat = images.reshape(len(images), -1)
    mean = flat.mean(axis=0, dtype=np.float64).astype(np.float32)
    covariance = np.zeros((flat.shape[1], flat.shape[1]))
    for part in _chunks(flat, "computing the covariance"):
        centered = flat[part] - mean.astype(np.float64)
        covariance += centered.T @ centered
    return mean, decorrelating(covariance / len(flat), epsilon)


def decorrelating(covariance: np.ndarray, epsilon: float) -> np.ndarray:
    """Returns the matrix W of `zca_matrix`, float32, for a covariance matrix in float64."""
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    eigenvalues = np.maximum(eigenvalues, 0)  # rounding can make a zero negative
    deviation = np.sqrt(eigenvalues + epsilon * eigenvalues.mean())
    deviation[deviation == 0] = 1
    matrix = (eigenvectors / deviation) @ eigenvectors.T
    return matrix.astype(np.float32)


def whiten(images: np.ndarray, mean: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Decorrelates the values of images (ZCA): subtracts a mean and multiplies by a matrix.

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


def _chunks(images: np.ndarray, task: str) -> Iterator[slice]:
    """Yields slices of `CHUNK` images, and shows a progress bar if there are several."""
    starts = range(0, len(images), CHUNK)
    hidden = True if len(starts) <= 1 else None  # None shows it on a terminal only
    for start in tqdm(starts, task, unit=" images", unit_scale=CHUNK, disable=hidden):
        yield slice(start, start + CHUNK)


STEPS: dict[str, Step] = {
    "contrast_stretching": Step(lambda images, epsilon: (), contrast_stretching),
    "global_contrast_normalization": Step(
        lambda images, epsilon: (), global_contrast_normalization
    ),
    "pixel_mean": Step(lambda images, epsilon: (pixel_mean(images),), subtract),
    "standardize": Step(lambda images, epsilon: channel_statistics(images), standardize),
    "zca": Step(zca_matrix, whiten),
}
