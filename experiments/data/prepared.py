"""Finds data sets that tensorflow-datasets (tfds) prepared, and reads their examples.

TensorFlow is imported only to download and prepare a data set, or to read one in a format other
than array_record.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from tqdm import tqdm

from experiments.data import cache, folders
from experiments.errors import UserError

NETWORK_URL = "https://storage.googleapis.com"  # host of the copies that tfds downloads
NETWORK_TIMEOUT_SECONDS = 5
UNLABELED_TESTS = ("imagenet2012",)  # data sets whose split test has no labels
MAX_CHANNELS = 4  # of the PNG files that tfds writes
BATCH = 256  # examples to read at once


def find(
    name: str,
    data_dir: str | None,
    known: str,
    kind: str = "image classification data set",
) -> Any:
    """Finds a data set of tfds without preparing it.

    Args:
      name: name of the data set, such as "mnist" or "mnist:3.0.1".
      data_dir: directory of prepared data sets; None for `TFDS_DATA_DIR` or tfds' default.
      known: names to choose from, for the error message.
      kind: what kind of data set is needed, for the error message.

    Returns:
      The tfds builder.

    Raises:
      UserError: the name is unknown, or the files of the data set are damaged or name code outside
        tfds.
    """
    import tensorflow_datasets as tfds

    try:
        return _builder(name, data_dir=data_dir)
    except UserError:
        raise
    except Exception as error:  # tfds and its parsers raise exceptions of many types
        directory = Path(data_dir or tfds.core.constants.DATA_DIR) / name.partition(":")[0]
        if directory.expanduser().is_dir():
            # To tfds, a directory without permission is one that does not exist.
            list(os.walk(directory.expanduser(), onerror=folders.refuse))
            raise unreadable(f"data set {name!r}", directory, error) from error
        if isinstance(error, tfds.core.DatasetNotFoundError):
            raise UserError(
                f"data.name={name!r} is unknown; choose from {known}, or name any other {kind} of "
                "tensorflow-datasets"
            ) from error
        raise UserError(f"data set {name!r} cannot be used: {_reason(error)}") from error


def _builder(name: str, **options: Any) -> Any:
    import tensorflow_datasets as tfds

    with _only_code_of_tfds(name):
        return tfds.builder(name, **options)


@contextlib.contextmanager
def _only_code_of_tfds(name: str) -> Iterator[None]:
    """Keeps tfds from importing a module outside tfds because features.json names it."""
    import tensorflow_datasets as tfds

    connector = tfds.features.FeatureConnector
    find_class = connector.cls_from_name

    def checked(class_name: str) -> Any:
        registered = class_name in connector._registered_features
        if not registered and not class_name.startswith("tensorflow_datasets."):
            raise UserError(
                f"features.json of data set {name!r} names the class {class_name!r}, and only "
                "classes of tensorflow_datasets are imported; prepare the data set again with "
                "features of tensorflow_datasets"
            )
        return find_class(class_name)

    with mock.patch.object(connector, "cls_from_name", checked):
        yield


def image_and_label(name: str, builder: Any) -> tuple[tuple[int, int, int], int]:
    """Returns the shape of the images and the number of classes.

    Args:
      name: name of the data set.
      builder: its tfds builder.

    Returns:
      Height, width, and channels, where height and width are None if the images have different
      sizes; and the number of classes.

    Raises:
      UserError: the data set does not consist of uint8 images with one class label each.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    if not all(key in features and isinstance(features[key], kinds[key]) for key in kinds):
        raise UserError(
            f"data set {name!r} has the features {', '.join(features)}; an image classification "
            "data set needs 'image' and 'label'"
        )
    shape, dtype = features["image"].shape, np.dtype(features["image"].np_dtype)
    # Images of different sizes are converted to gray or color, without transparency.
    channels = (1, 3) if shape[:2] == (None, None) else range(1, MAX_CHANNELS + 1)
    sides = [side for side in shape[:2] if shape[:2] != (None, None)]
    if dtype != np.uint8 or shape[-1] not in channels or any(not side for side in sides):
        raise UserError(
            f"data set {name!r} has {dtype} images of shape {shape}; they must be uint8 and have "
            f"1 to {MAX_CHANNELS} channels and equal sizes, or 1 or 3 channels and any sizes"
        )
    return shape, features["label"].num_classes


def prepare(name: str, data_dir: str | None, builder: Any, offline: str = "digits") -> Any:
    """Downloads and prepares a data set, unless that is done already.

    Args:
      name: name of the data set.
      data_dir: directory of prepared data sets; None for `TFDS_DATA_DIR` or tfds' default.
      builder: its tfds builder.
      offline: name of a data set that needs no network, for the error message.

    Returns:
      A tfds builder whose data are prepared.

    Raises:
      UserError: the data set cannot be downloaded, it is only partly there, or TensorFlow is needed
        and not installed.
    """
    directory = Path(builder.data_dir)
    if builder.is_prepared():
        if not _has_array_records(builder):
            _need_tensorflow(f"data set {name!r} in {directory} is not in array_record files")
        return builder
    if directory.is_dir():  # tfds would use it as it is
        missing_file = FileNotFoundError("dataset_info.json or features.json is missing")
        raise unreadable(f"data set {name!r}", directory, missing_file)
    # Prepare array_record files, which can be read without TensorFlow.
    builder = _builder(name, data_dir=data_dir, file_format="array_record")
    missing = f"data set {name!r} is not prepared in {os.fspath(builder.data_dir)}"
    _need_tensorflow(missing)
    try:
        urllib.request.urlopen(NETWORK_URL, timeout=NETWORK_TIMEOUT_SECONDS)
    except urllib.error.HTTPError:
        pass  # any response shows that the host is reachable
    except OSError as error:
        raise UserError(
            f"{missing}, and {NETWORK_URL} is unreachable ({getattr(error, 'reason', error)}); "
            "set TFDS_DATA_DIR or --config.data.data_dir to a prepared copy, or use "
            f"--config.data.name={offline}, which needs no network"
        ) from error
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise UserError(f"{missing}, and the download failed: {_reason(error)}") from error
    return builder


def _need_tensorflow(why: str) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        raise UserError(
            f"{why}, and TensorFlow is not installed; run pip install 'loganneal-jax[tensorflow]', "
            "or set TFDS_DATA_DIR or --config.data.data_dir to a copy in array_record files"
        )


def _has_array_records(builder: Any) -> bool:
    return "array_record" in {each.value for each in builder.info.available_file_formats()}


def splits(name: str, builder: Any) -> tuple[str, str | None]:
    """Returns the names of the training and test splits.

    Args:
      name: name of the data set.
      builder: its tfds builder.

    Returns:
      The training split, and the test split: "test", "validation" if there is no "test" with
      labels, or None if there is neither.

    Raises:
      UserError: the data set has no training examples, or its files are damaged.
    """
    available = builder.info.splits
    try:
        _check_listed(builder)
    except Exception as error:
        raise unreadable(f"data set {name!r}", Path(builder.data_dir), error) from error
    if "train" not in available or not available["train"].num_examples:
        raise UserError(
            f"data set {name!r} has no examples in a split train; its splits are "
            f"{', '.join(available)}"
        )
    tests = ("validation",) if builder.name in UNLABELED_TESTS else ("test", "validation")
    return "train", next((test for test in tests if test in available), None)


def _check_listed(builder: Any) -> None:
    """Checks that dataset_info.json lists every file of examples.

    If the name of the test split were damaged, the validation split would be taken in its place.
    """
    listed = {path.name for split in builder.info.splits.values() for path in split.filepaths}
    ending = f".{builder.info.file_format.file_suffix}-"
    for file in sorted(Path(builder.data_dir).iterdir()):
        if ending in file.name and file.name not in listed:
            raise ValueError(f"dataset_info.json does not list {file.name}")


def read(name: str, builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the images and labels of a split; they are decoded once and cached.

    Args:
      name: name of the data set.
      builder: its tfds builder.
      split: name of the split.

    Returns:
      Images, uint8 [examples, height, width, channels], and labels, int64 [examples].

    Raises:
      UserError: the files are damaged, or they changed while they were read.
    """
    num_examples = builder.info.splits[split].num_examples
    layouts = {
        "images": cache.Layout((num_examples, *builder.info.features["image"].shape), "uint8"),
        "labels": cache.Layout((num_examples,), "int64"),
    }
    directory = Path(builder.data_dir)
    before = files(directory)

    def decode() -> dict[str, np.ndarray]:
        arrays = _decode(name, builder, split, layouts)
        if files(directory) != before:
            raise UserError(
                f"the files of data set {name!r} in {directory} changed while they were read; "
                "start the command again once the data set is complete"
            )
        return arrays

    state = json.dumps([split, layouts, before]).encode()
    arrays = cache.stored(
        f"datasets/{identity(builder)}-{split}.arrays",
        hashlib.sha256(state).hexdigest(),
        layouts,
        decode,
    )
    return arrays["images"], arrays["labels"]


def read_texts(name: str, builder: Any, split: str) -> list[bytes]:
    """Reads the texts of a split.

    Args:
      name: name of the data set.
      builder: its tfds builder.
      split: name of the split.

    Returns:
      The feature `text` of each example, as it is encoded.

    Raises:
      UserError: the files of the data set are damaged.
    """
    try:
        return [example["text"] for example in _examples(builder, split)]
    except Exception as error:  # tfds, its readers, and its decoders raise many types
        what = f"split {split!r} of data set {name!r}"
        raise unreadable(what, Path(builder.data_dir), error) from error


def identity(builder: Any) -> str:
    """Returns the name, the version, and a hash of the directory of a prepared data set."""
    place = hashlib.sha256(os.path.abspath(builder.data_dir).encode()).hexdigest()[:8]
    return f"{builder.name}-{builder.version}-{place}"


def files(directory: Path) -> list[tuple[str, int, int]]:
    """Returns the name, size, and time of each file, which change if the data set does."""
    found = []
    for file in sorted(directory.iterdir()):
        status = file.stat()
        found.append((file.name, status.st_size, status.st_mtime_ns))
    return found


def _decode(
    name: str, builder: Any, split: str, layouts: dict[str, cache.Layout]
) -> dict[str, np.ndarray]:
    place = what = f"split {split!r} of data set {name!r}"
    arrays = {array: np.empty(*layout) for array, layout in layouts.items()}
    shape = arrays["images"].shape[1:]
    progress = tqdm(
        range(len(arrays["images"])),
        f"decoding {builder.name} {split} (once)",
        unit=" images",
        disable=None,
    )
    try:
        examples = _examples(builder, split)
        for index in progress:
            place = f"example {index} in {what}"
            example = next(examples, None)
            if example is None:
                raise ValueError(f"the files hold only {index} examples")
            # An image of another shape would be broadcast.
            if example["image"].shape != shape:
                raise ValueError(f"an image of shape {example['image'].shape}, not {shape}")
            arrays["images"][index] = example["image"]
            arrays["labels"][index] = example["label"]
        place = what
        if next(examples, None) is not None:
            raise ValueError(f"the files hold more than {len(progress)} examples")
    except Exception as error:  # tfds, its readers, and its decoders raise many types
        raise unreadable(place, Path(builder.data_dir), error) from error
    return arrays


def _examples(builder: Any, split: str) -> Iterator[dict[str, Any]]:
    """Returns the examples of a split in file order; imports TensorFlow only if necessary."""
    if _has_array_records(builder):
        source = builder.as_data_source(split)
        check_shards(builder.info.splits[split])
        return _in_batches(source)
    import tensorflow_datasets as tfds

    ordered = tfds.ReadConfig(interleave_cycle_length=1)
    return iter(tfds.as_numpy(builder.as_dataset(split=split, read_config=ordered)))


def _in_batches(source: Any) -> Iterator[dict[str, Any]]:
    """Yields the examples of a data source; reading many at once takes half of the time."""
    for start in range(0, len(source), BATCH):
        indices = range(start, min(start + BATCH, len(source)))
        try:
            batch: Iterable[dict[str, Any]] = source.__getitems__(list(indices))
        except Exception:  # read one by one, up to the example that raises again
            batch = (source[index] for index in indices)
        yield from batch


def check_shards(split: Any) -> None:
    """Compares the number of examples in each array_record file with dataset_info.json.

    tfds would read the first examples of a file that has more.
    """
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    for shard in split.file_instructions:
        found = len(ArrayRecordDataSource(shard.filename))
        if found != shard.examples_in_shard:
            raise ValueError(
                f"{os.path.basename(shard.filename)} has {found} examples, but dataset_info.json "
                f"promised {shard.examples_in_shard}"
            )


def unreadable(what: str, directory: Path, error: Exception) -> UserError:
    """Returns the error that files of a data set are damaged."""
    return UserError(
        f"{what} cannot be read from {directory} ({_reason(error)}); if its files are damaged or "
        "were replaced, delete that directory and prepare the data set again"
    )


def _reason(error: Exception) -> str:
    """Returns the first line of an error in one sentence."""
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
