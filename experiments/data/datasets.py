"""Data sets as host arrays: tensorflow-datasets by name, or digits, which need no network.

Nothing here imports TensorFlow unless a data set has to be downloaded and prepared.
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

NETWORK_URL = "https://storage.googleapis.com"  # where tfds looks for its own copies
NETWORK_TIMEOUT_SECONDS = 5

# Whether a mirrored image is still an example of its class, which tfds does not say. Images of a
# data set that is not here are not flipped.
FLIPS = {
    "cifar10": True,
    "cifar100": True,
    "digits": False,
    "fashion_mnist": True,
    "mnist": False,
    "svhn_cropped": False,
}


class DatasetInfo(NamedTuple):
    """A data set that is ready to be loaded."""

    name: str
    num_train: int
    num_test: int
    image_shape: tuple[int, int, int]  # height, width, channels, as loaded
    num_classes: int
    flip: bool
    builder: Any  # a tfds builder; None for digits
    num_validation: int = 0  # examples held out from the training split, in place of the test split


class Dataset(NamedTuple):
    """Images [examples, height, width, channels], uint8 as loaded; labels int32 [examples]."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def describe(name: str, *, data_dir: str | None, image_size: int | None) -> DatasetInfo:
    """Finds a data set, downloading and preparing it if it is not there yet.

    Args:
      name: digits, or an image classification set of tfds, all of whose images have one size.
      data_dir: directory of prepared tfds data sets; None for `TFDS_DATA_DIR` or tfds' own default.
      image_size: side in pixels to which images are resized; None for the data set's own.

    Returns:
      Its sizes and where to load it from.

    Raises:
      UserError: the name is unknown, the data set is neither prepared nor can be downloaded, or it
        is not one of images of one size and labels of one class.
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
    """Loads a data set into host memory; tfds' images are decoded once and cached.

    Args:
      info: what `describe` returned.

    Returns:
      Its training and test splits.

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
        # Another order than the data set's own, in which classes may follow one another.
        order = np.random.default_rng(0).permutation(len(train_labels))
        held_out, kept = np.split(order, [info.num_validation])
        test_images, test_labels = train_images[held_out], train_labels[held_out]
        train_images, train_labels = train_images[kept], train_labels[kept]
    for labels in (train_labels, test_labels):
        if labels.min() < 0 or labels.max() >= info.num_classes:
            raise UserError(
                f"data set {info.name!r} has labels from {labels.min()} to {labels.max()}; with "
                f"{info.num_classes} classes they must be from 0 to {info.num_classes - 1}"
            )
    return Dataset(
        _resized(train_images, info.image_shape),
        train_labels.astype(np.int32),
        _resized(test_images, info.image_shape),
        test_labels.astype(np.int32),
    )


def hold_out(info: DatasetInfo, num_validation: int) -> DatasetInfo:
    """The data set with validation examples in place of its test split.

    Args:
      info: what `describe` returned.
      num_validation: examples to hold out from the training split, always the same ones.

    Returns:
      The data set whose training split is what is left, and whose test split is what was held out.
    """
    return info._replace(
        num_train=info.num_train - num_validation,
        num_test=num_validation,
        num_validation=num_validation,
    )


def key(info: DatasetInfo) -> str:
    """Names everything that the images of a data set depend on, to cache what is made of them."""
    source = "digits" if info.builder is None else _key(info.builder)
    return f"{source}-{'x'.join(map(str, info.image_shape))}-{info.num_validation}"


def _builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise UserError(
            f"unknown data set {name!r}; choose one of {', '.join(FLIPS)}, or any other image "
            "classification set of tensorflow-datasets by its name"
        ) from error
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"data set {name!r} cannot be used: {reason}") from error


def _image_and_label(name: str, features: Any) -> tuple[tuple[int, int, int], int]:
    """Shape of the images and number of classes, refused where they are not of one size."""
    import tensorflow_datasets as tfds

    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    if not all(key in features and isinstance(features[key], kinds[key]) for key in kinds):
        raise UserError(
            f"data set {name!r} has the features {', '.join(features)}; an image classification "
            "set has 'image' and 'label'"
        )
    shape, dtype = features["image"].shape, np.dtype(features["image"].np_dtype)
    if None in shape or dtype != np.uint8:
        raise UserError(
            f"data set {name!r} has {dtype} images of shape {shape}; they must be uint8 and all of "
            "one size"
        )
    return shape, features["label"].num_classes


def _splits(name: str, builder: Any) -> tuple[str, str]:
    """The training split and the test split, which for some data sets is called validation."""
    splits = builder.info.splits
    for test in ("test", "validation"):
        if "train" in splits and test in splits:
            return "train", test
    raise UserError(
        f"data set {name!r} has the splits {', '.join(splits)}; it must have train and test, or "
        "train and validation"
    )


def _prepared(name: str, data_dir: str | None, builder: Any) -> Any:
    """The builder if its data are prepared; else one that has downloaded and prepared them."""
    import tensorflow_datasets as tfds

    if builder.is_prepared():
        return builder
    # array_record files can be read without TensorFlow.
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    missing = f"data set {name!r} is not prepared in {os.fspath(builder.data_dir)}"
    try:
        urllib.request.urlopen(NETWORK_URL, timeout=NETWORK_TIMEOUT_SECONDS)
    except urllib.error.HTTPError:
        pass  # an answer, whichever, shows that the host can be reached
    except OSError as error:
        raise UserError(
            f"{missing} and {NETWORK_URL} cannot be reached ({getattr(error, 'reason', error)}); "
            "set TFDS_DATA_DIR or --config.data.data_dir to a prepared copy, or use "
            "--config.data.name=digits, which needs no network"
        ) from error
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise UserError(f"{missing} and downloading it failed: {error}") from error
    return builder


def _decoded(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split, out of the cache if they were decoded before."""

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
    """Names a prepared data set: its name, version, and the directory it is in."""
    place = hashlib.sha256(os.fspath(builder.data_dir).encode()).hexdigest()[:8]
    return f"{builder.name}-{builder.version}-{place}"


def _examples(builder: Any, split: str) -> Iterable[dict[str, Any]]:
    """The examples of a split in the order of its files, with TensorFlow only if they need it."""
    formats = {available.value for available in builder.info.available_file_formats()}
    if "array_record" in formats:
        source = builder.as_data_source(split)
        return (source[index] for index in range(len(source)))
    import tensorflow_datasets as tfds

    ordered = tfds.ReadConfig(interleave_cycle_length=1)
    return tfds.as_numpy(builder.as_dataset(split=split, read_config=ordered))


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's 1,797 digits in a fixed split of 1,437 and 360, stratified by class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, digits.target, test_size=360, stratify=digits.target, random_state=0
    )
    return train_images, train_labels, test_images, test_labels


def _resized(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Images resized to shape (height, width, channels), bilinearly."""
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
