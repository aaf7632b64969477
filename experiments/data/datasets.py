"""Data sets as host arrays: tensorflow-datasets by name, or digits, which need no network.

Nothing here imports TensorFlow unless a data set has to be downloaded and prepared.
"""

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
from tqdm import tqdm

from experiments.errors import UserError

NETWORK_TIMEOUT_SECONDS = 5


class Source(NamedTuple):
    """What tensorflow-datasets does not say of a data set."""

    url: str  # where the original files are, to ask once whether they can be reached
    flip: bool  # whether a mirrored image is still an example of its class


TFDS_SOURCES = {
    "cifar10": Source(url="https://www.cs.toronto.edu", flip=True),
    "mnist": Source(url="https://storage.googleapis.com", flip=False),
}
DATASETS = ("digits", *TFDS_SOURCES)


class DatasetInfo(NamedTuple):
    """A data set that is ready to be loaded."""

    name: str
    num_train: int
    num_test: int
    image_shape: tuple[int, int, int]  # height, width, channels, as loaded
    num_classes: int
    flip: bool
    builder: Any  # a tfds builder; None for digits


class Dataset(NamedTuple):
    """Images uint8 [examples, height, width, channels], labels int32 [examples]."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def describe(name: str, *, data_dir: str | None, image_size: int | None) -> DatasetInfo:
    """Finds a data set, downloading and preparing it if it is not there yet.

    Args:
      name: one of `DATASETS`.
      data_dir: directory of prepared tfds data sets; None for `TFDS_DATA_DIR` or tfds' own default.
      image_size: side in pixels to which images are resized; None for the data set's own.

    Returns:
      Its sizes and where to load it from.

    Raises:
      UserError: the name is unknown, or the data set is neither prepared nor can be downloaded.
    """
    if name not in DATASETS:
        raise UserError(f"unknown data set {name!r}; choose one of {', '.join(DATASETS)}")
    if name == "digits":
        builder, num_train, num_test = None, 1437, 360
        shape, num_classes, flip = (8, 8, 1), 10, False
    else:
        builder = _prepared_builder(name, data_dir)
        num_train = builder.info.splits["train"].num_examples
        num_test = builder.info.splits["test"].num_examples
        shape = builder.info.features["image"].shape
        num_classes = builder.info.features["label"].num_classes
        flip = TFDS_SOURCES[name].flip
    if image_size is not None:
        shape = (image_size, image_size, shape[-1])
    return DatasetInfo(name, num_train, num_test, shape, num_classes, flip, builder)


def load(info: DatasetInfo) -> Dataset:
    """Loads a data set into host memory; tfds' images are decoded once and cached.

    Args:
      info: what `describe` returned.

    Returns:
      Its training and test splits.

    Raises:
      UserError: the cache directory cannot be written.
    """
    if info.builder is None:
        train_images, train_labels, test_images, test_labels = _digits()
    else:
        train_images, train_labels = _decoded(info.builder, "train")
        test_images, test_labels = _decoded(info.builder, "test")
    return Dataset(
        _resized(train_images, info.image_shape),
        train_labels.astype(np.int32),
        _resized(test_images, info.image_shape),
        test_labels.astype(np.int32),
    )


def _prepared_builder(name: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_dir)
    if builder.is_prepared():
        return builder
    # array_record files can be read without TensorFlow.
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    directory = os.fspath(builder.data_dir)
    url = TFDS_SOURCES[name].url
    missing = f"data set {name!r} is not prepared in {Path(directory).parents[1]}"
    try:
        urllib.request.urlopen(url, timeout=NETWORK_TIMEOUT_SECONDS)
    except urllib.error.HTTPError:
        pass  # an answer, whichever, shows that the host can be reached
    except OSError as error:
        raise UserError(
            f"{missing} and {url} cannot be reached ({getattr(error, 'reason', error)}); set "
            "TFDS_DATA_DIR or --config.data.data_dir to a prepared copy, or use "
            "--config.data.name=digits, which needs no network"
        ) from error
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise UserError(f"{missing} and downloading it failed: {error}") from error
    return builder


def _decoded(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one split, out of the cache if they were decoded before."""
    directory = os.fspath(builder.data_dir)
    place = hashlib.sha256(directory.encode()).hexdigest()[:8]
    cache = platformdirs.user_cache_path("loganneal_jax") / "datasets"
    file = cache / f"{builder.name}-{builder.version}-{place}-{split}.npz"
    if file.exists():
        with np.load(file) as arrays:
            return arrays["images"], arrays["labels"]
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
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # A reader never sees a half-written file: it is renamed when whole.
        with tempfile.NamedTemporaryFile(dir=cache, suffix=".npz", delete=False) as whole:
            np.savez(whole, images=images, labels=labels)
        os.replace(whole.name, file)
    except OSError as error:
        raise UserError(
            f"the cache directory {cache} cannot be written ({error.strerror}); set "
            "XDG_CACHE_HOME to one that can"
        ) from error
    return images, labels


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
