"""Loads data sets as host arrays: any tensorflow-datasets (tfds) name, or the built-in digits.

The digits need no network.
"""

import importlib.metadata
import os
from typing import Any, NamedTuple

import numpy as np

from experiments.data import cache, prepared
from experiments.errors import UserError

# Whether a mirrored image keeps its class; tfds does not record this. Data sets not listed here are
# not flipped.
FLIPS = {
    "cifar10": True,
    "cifar100": True,
    "digits": False,
    "fashion_mnist": True,
    "mnist": False,
    "svhn_cropped": False,
}


class DatasetInfo(NamedTuple):
    """A data set that is ready to load.

    Attributes:
      name: name of the data set.
      num_train: number of training examples.
      num_test: number of test examples; 0 if there is no test split.
      image_shape: height, width, and channels of the loaded images.
      num_classes: number of classes.
      flip: whether a mirrored image keeps its class.
      builder: tfds builder, or None for digits.
      num_validation: number of training examples that replace the test split, or 0.
    """

    name: str
    num_train: int
    num_test: int
    image_shape: tuple[int, int, int]
    num_classes: int
    flip: bool
    builder: Any
    num_validation: int = 0


class Dataset(NamedTuple):
    """Images [examples, height, width, channels], uint8 when loaded; labels int32 [examples]."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def describe(name: str, *, data_dir: str | None, image_size: int | None) -> DatasetInfo:
    """Describes a data set, and downloads and prepares it if necessary.

    Args:
      name: "digits", or an image classification data set of tfds with images of equal size.
      data_dir: directory of prepared tfds data sets; None for `TFDS_DATA_DIR` or tfds' default.
      image_size: side in pixels to which images are resized; None keeps the original size.

    Returns:
      The sizes of the data set and the builder that loads it.

    Raises:
      UserError: the name is unknown, the data set is neither prepared nor downloadable, its files
        are damaged, or it does not consist of images of equal size with one class label each.
    """
    if name == "digits":
        builder, num_train, num_test, shape, num_classes = None, 1437, 360, (8, 8, 1), 10
    else:
        data_dir = data_dir and os.path.expanduser(data_dir)
        builder = prepared.find(name, data_dir, known=", ".join(FLIPS))
        shape, num_classes = prepared.image_and_label(name, builder)
        builder = prepared.prepare(name, data_dir, builder)
        train, test = prepared.splits(name, builder)
        num_train = builder.info.splits[train].num_examples
        num_test = builder.info.splits[test].num_examples if test else 0
    if image_size is not None:
        shape = (image_size, image_size, shape[-1])
    flip = FLIPS.get(name if builder is None else builder.name, False)
    return DatasetInfo(name, num_train, num_test, shape, num_classes, flip, builder)


def load(info: DatasetInfo) -> Dataset:
    """Loads a data set into host memory; images from tfds are decoded once and cached.

    Args:
      info: a data set, from `describe` or `hold_out`.

    Returns:
      The training and test splits.

    Raises:
      UserError: a label is out of range, or the files of the data set are damaged or were replaced
        since `describe`.
    """
    if info.builder is None:
        train_images, train_labels, test_images, test_labels = _digits()
    else:
        train, test = prepared.splits(info.name, info.builder)
        train_images, train_labels = prepared.read(info.name, info.builder, train)
        if test and not info.num_validation:
            test_images, test_labels = prepared.read(info.name, info.builder, test)
        else:
            test_images, test_labels = train_images[:0], train_labels[:0]
    if info.num_validation:
        # Shuffle first, because the data set may be sorted by class.
        order = np.random.default_rng(0).permutation(len(train_labels))
        held_out, kept = np.split(order, [info.num_validation])
        test_images, test_labels = train_images[held_out], train_labels[held_out]
        train_images, train_labels = train_images[kept], train_labels[kept]
    labels = np.concatenate([train_labels, test_labels])
    if labels.min() < 0 or labels.max() >= info.num_classes:
        raise UserError(
            f"data set {info.name!r} has labels from {labels.min()} to {labels.max()}, but "
            f"{info.num_classes} classes need labels from 0 to {info.num_classes - 1}"
        )
    return Dataset(
        _resized(train_images, info.image_shape),
        train_labels.astype(np.int32),
        _resized(test_images, info.image_shape),
        test_labels.astype(np.int32),
    )


def hold_out(info: DatasetInfo, num_validation: int) -> DatasetInfo:
    """Replaces the test split by validation examples from the training split.

    Args:
      info: a data set, from `describe`.
      num_validation: number of training examples to hold out; the choice is always the same.

    Returns:
      The data set with the held-out examples as its test split, and the others as its training
      split.
    """
    return info._replace(
        num_train=info.num_train - num_validation,
        num_test=num_validation,
        num_validation=num_validation,
    )


def key(info: DatasetInfo) -> str:
    """Returns a name for the images of a data set, which stays the same if its files change."""
    source = "digits" if info.builder is None else prepared.identity(info.builder)
    return f"{source}-{'x'.join(map(str, info.image_shape))}-{info.num_validation}"


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the digits from the cache, because importing scikit-learn takes seconds."""
    key = f"scikit-learn {importlib.metadata.version('scikit-learn')}"
    layouts = {
        "train_images": cache.Layout((1437, 8, 8, 1), "uint8"),
        "train_labels": cache.Layout((1437,), "int64"),
        "test_images": cache.Layout((360, 8, 8, 1), "uint8"),
        "test_labels": cache.Layout((360,), "int64"),
    }
    arrays = cache.stored("datasets/digits.arrays", key, layouts, _read_digits)
    return tuple(arrays[name] for name in layouts)  # type: ignore[return-value]


def _read_digits() -> dict[str, np.ndarray]:
    """Returns scikit-learn's 1,797 digits, split into 1,437 and 360 and stratified by class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, digits.target, test_size=360, stratify=digits.target, random_state=0
    )
    return {
        "train_images": train_images,
        "train_labels": train_labels.astype(np.int64),
        "test_images": test_images,
        "test_labels": test_labels.astype(np.int64),
    }


def _resized(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Resizes images to shape (height, width, channels) by bilinear interpolation."""
    if images.shape[1:] == shape:
        return images
    from PIL import Image

    height, width, channels = shape
    resized = np.empty((len(images), *shape), np.uint8)
    for index, image in enumerate(images):
        # Pillow takes gray images without the axis of channels.
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        resized[index] = np.asarray(picture).reshape(shape)
    return resized
