"""Loads data sets as host arrays: any tensorflow-datasets (tfds) name, or the built-in digits.

TensorFlow is imported only to download and prepare a data set, or to read one in a format other
than array_record. The digits need no network.
"""

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from experiments.data import cache
from experiments.errors import UserError

NETWORK_URL = "https://storage.googleapis.com"  # host of the copies that tfds downloads
NETWORK_TIMEOUT_SECONDS = 5

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
      num_test: number of test examples.
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
      UserError: the name is unknown, the data set is neither prepared nor downloadable, or it does
        not consist of images of equal size with one class label each.
    """
    if name == "digits":
        builder, num_train, num_test, shape, num_classes = None, 1437, 360, (8, 8, 1), 10
    else:
        builder = _builder(name, data_dir)
        shape, num_classes = _image_and_label(name, builder.info.features)
        builder = _prepared(name, data_dir, builder)
        num_train, num_test = (
            builder.info.splits[split].num_examples for split in _splits(name, builder)
        )
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
      UserError: a label is out of range, or the cache directory cannot be written.
    """
    if info.builder is None:
        train_images, train_labels, test_images, test_labels = _digits()
    else:
        (train_images, train_labels), (test_images, test_labels) = (
            _decoded(info.builder, split) for split in _splits(info.name, info.builder)
        )
    if info.num_validation:
        # Shuffle first, because the data set may be sorted by class.
        order = np.random.default_rng(0).permutation(len(train_labels))
        held_out, kept = np.split(order, [info.num_validation])
        test_images, test_labels = train_images[held_out], train_labels[held_out]
        train_images, train_labels = train_images[kept], train_labels[kept]
    for labels in (train_labels, test_labels):
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
    """Returns a cache key that identifies everything the images of a data set depend on."""
    source = "digits" if info.builder is None else _key(info.builder)
    return f"{source}-{'x'.join(map(str, info.image_shape))}-{info.num_validation}"


def _builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(
            f"data.name={name!r} is unknown; choose from {', '.join(FLIPS)}, or name any other "
            "image classification data set of tensorflow-datasets"
        ) from error
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"data set {name!r} cannot be used: {reason}") from error


def _image_and_label(name: str, features: Any) -> tuple[tuple[int, int, int], int]:
    """Returns the shape of the images and the number of classes, if all images have one size."""
    import tensorflow_datasets as tfds

    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    if not all(key in features and isinstance(features[key], kinds[key]) for key in kinds):
        raise UserError(
            f"data set {name!r} has the features {', '.join(features)}; an image classification "
            "data set needs 'image' and 'label'"
        )
    shape, dtype = features["image"].shape, np.dtype(features["image"].np_dtype)
    if None in shape or dtype != np.uint8:
        raise UserError(
            f"data set {name!r} has {dtype} images of shape {shape}; they must be uint8 and have "
            "equal sizes"
        )
    return shape, features["label"].num_classes


def _splits(name: str, builder: Any) -> tuple[str, str]:
    """Returns the names of the training and test splits; some data sets only have validation."""
    splits = builder.info.splits
    for test in ("test", "validation"):
        if "train" in splits and test in splits:
            return "train", test
    raise UserError(
        f"data set {name!r} has the splits {', '.join(splits)}; it needs train and test, or "
        "train and validation"
    )


def _prepared(name: str, data_dir: str | None, builder: Any) -> Any:
    """Returns a builder whose data are prepared, downloading them if necessary."""
    import tensorflow_datasets as tfds

    if builder.is_prepared():
        return builder
    # Prepare array_record files, which can be read without TensorFlow.
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    missing = f"data set {name!r} is not prepared in {os.fspath(builder.data_dir)}"
    try:
        urllib.request.urlopen(NETWORK_URL, timeout=NETWORK_TIMEOUT_SECONDS)
    except urllib.error.HTTPError:
        pass  # any response shows that the host is reachable
    except OSError as error:
        raise UserError(
            f"{missing}, and {NETWORK_URL} is unreachable ({getattr(error, 'reason', error)}); "
            "set TFDS_DATA_DIR or --config.data.data_dir to a prepared copy, or use "
            "--config.data.name=digits, which needs no network"
        ) from error
    try:
        builder.download_and_prepare()
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{missing}, and the download failed: {reason}") from error
    return builder


def _decoded(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images and labels of a split, from the cache if possible."""

    def decode() -> dict[str, np.ndarray]:
        info = builder.info.splits[split]
        images = np.empty((info.num_examples, *builder.info.features["image"].shape), np.uint8)
        labels = np.empty(info.num_examples, np.int32)
        examples = tqdm(
            _examples(builder, split),
            f"decoding {builder.name} {split} (once)",
            total=info.num_examples,
            unit=" images",
            disable=None,
        )
        for index, example in enumerate(examples):
            images[index] = example["image"]
            labels[index] = example["label"]
        return {"images": images, "labels": labels}

    arrays = cache.stored(f"datasets/{_key(builder)}-{split}.npz", decode)
    return arrays["images"], arrays["labels"]


def _key(builder: Any) -> str:
    """Identifies a prepared data set by its name, version, and directory."""
    place = hashlib.sha256(os.fspath(builder.data_dir).encode()).hexdigest()[:8]
    return f"{builder.name}-{builder.version}-{place}"


def _examples(builder: Any, split: str) -> Iterable[dict[str, Any]]:
    """Returns the examples of a split in file order; imports TensorFlow only if necessary."""
    formats = {available.value for available in builder.info.available_file_formats()}
    if "array_record" in formats:
        source = builder.as_data_source(split)
        return (source[index] for index in range(len(source)))
    import tensorflow_datasets as tfds

    ordered = tfds.ReadConfig(interleave_cycle_length=1)
    return tfds.as_numpy(builder.as_dataset(split=split, read_config=ordered))


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns scikit-learn's 1,797 digits, split into 1,437 and 360 and stratified by class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, digits.target, test_size=360, stratify=digits.target, random_state=0
    )
    return train_images, train_labels, test_images, test_labels


def _resized(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Resizes images to shape (height, width, channels) by bilinear interpolation."""
    if images.shape[1:] == shape:
        return images
    from PIL import Image

    height, width, _ = shape
    resized = np.empty((len(images), *shape), np.uint8)
    for index, image in enumerate(images):
        picture = Image.fromarray(image.squeeze()).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        resized[index] = np.asarray(picture).reshape(shape)
    return resized
