"""Loads data sets as host arrays: the built-in digits, folders, arrays, or any name of tfds.

tfds is tensorflow-datasets. The digits need no network.
"""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from experiments.data import cache, digits, folders, pictures, prepared, shards
from experiments.data.own import Arrays
from experiments.data.pictures import Decode
from experiments.data.records import Images, ImageSource, Readers, Records
from experiments.errors import UserError

# Whether a mirrored image keeps its class; tfds does not record this. Data sets not listed here are
# not flipped.
FLIPS = {
    "cifar10": True,
    "cifar100": True,
    "digits": False,
    "fashion_mnist": True,
    "imagenet2012": True,
    "imagenette": True,
    "mnist": False,
    "svhn_cropped": False,
}
FOLDER = "folder:"  # before a path, in place of data.data_dir


class DatasetInfo(NamedTuple):
    """A data set that is ready to load.

    Attributes:
      name: name of the data set.
      num_train: number of training examples.
      num_test: number of test examples; 0 if there is no test split.
      image_shape: height, width, and channels of the loaded images.
      num_classes: number of classes.
      flip: whether a mirrored image keeps its class.
      builder: tfds builder, or None for all others.
      num_validation: number of training examples that replace the test split, or 0.
      many_sizes: whether the stored images have different sizes. They are read from disk, and
        cropped to `image_shape`.
      stored_shape: height, width, and channels of the stored images, if they have equal sizes.
      folder: the image files of a folder, or None.
      arrays: the images that a function of the user's own returned, or None.
      dtype: dtype of the loaded images; only arrays may be "float32".
    """

    name: str
    num_train: int
    num_test: int
    image_shape: tuple[int, int, int]
    num_classes: int
    flip: bool
    builder: Any
    num_validation: int = 0
    many_sizes: bool = False
    stored_shape: tuple[int, int, int] | None = None
    folder: folders.Folder | None = None
    arrays: Arrays | None = None
    dtype: str = "uint8"

    @property
    def is_on_disk(self) -> bool:
        """Whether the data set consists of files that can be read again."""
        return self.builder is not None or self.folder is not None


class Dataset(NamedTuple):
    """Images [examples, height, width, channels], as they are loaded; labels int32 [examples]."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def describe(name: str, *, data_dir: str | None, image_size: int | None) -> DatasetInfo:
    """Describes a data set, and downloads and prepares it if necessary.

    Args:
      name: a name in `DATASETS`, "folder:PATH", or another image classification data set of tfds.
      data_dir: directory of prepared tfds data sets; None for `TFDS_DATA_DIR` or tfds' default. For
        "folder", the directory of the images.
      image_size: side in pixels to which images, or parts of them, are resized; None keeps the
        original size, which must be that of all images.

    Returns:
      The sizes of the data set and what loads it.

    Raises:
      UserError: the name is unknown, the data set is neither prepared nor downloadable, its files
        are damaged, or it does not consist of uint8 images with one class label each.
    """
    kind = "folder" if name.startswith(FOLDER) else name
    return DATASETS.get(kind, _tfds)(name, data_dir, image_size)


def _scikit_learn(name: str, data_dir: str | None, image_size: int | None) -> DatasetInfo:
    """1,797 handwritten digits of 8x8 pixels, from scikit-learn; built in."""
    shape = (*digits.IMAGE_SHAPE,) if image_size is None else (image_size, image_size, 1)
    return DatasetInfo(
        *(name, digits.NUM_TRAIN, digits.NUM_TEST, shape, digits.NUM_CLASSES, FLIPS[name], None),
        stored_shape=digits.IMAGE_SHAPE,
    )


def _tfds(name: str, data_dir: str | None, image_size: int | None) -> DatasetInfo:
    """An image classification data set of tensorflow-datasets."""
    data_dir = data_dir and os.path.expanduser(data_dir)
    builder = prepared.find(name, data_dir, known=", ".join(DATASETS))
    shape, num_classes = prepared.image_and_label(name, builder)
    if None in shape and image_size is None:
        raise UserError(
            f"the images of data set {name!r} have different sizes; set data.image_size to the "
            "side of the squares that are cut out of them, such as 224"
        )
    builder = prepared.prepare(name, data_dir, builder)
    train, test = prepared.splits(name, builder)
    num_train = builder.info.splits[train].num_examples
    num_test = builder.info.splits[test].num_examples if test else 0
    many_sizes = None in shape
    stored_shape = shape
    if image_size is not None:
        shape = (image_size, image_size, shape[-1])
    flip = FLIPS.get(builder.name, False)
    return DatasetInfo(
        *(name, num_train, num_test, shape, num_classes, flip, builder),
        many_sizes=many_sizes,
        stored_shape=None if many_sizes else stored_shape,
    )


def _folder(name: str, data_dir: str | None, image_size: int | None) -> DatasetInfo:
    """Image files in a folder for each class, at data.data_dir or as folder:PATH."""
    folder = folders.find(name.removeprefix(FOLDER) if name.startswith(FOLDER) else data_dir)
    ((encoded, _),) = folder.train.read([0])
    try:
        stored_shape = pictures.shape_of(encoded)
    except Exception as error:  # decoders raise many types
        raise UserError(
            f"{folder.train.name(0)} cannot be read ({' '.join(str(error).split())}); replace or "
            "delete the file"
        ) from error
    shape = stored_shape
    if image_size is not None:
        shape = (image_size, image_size, 1 if stored_shape[-1] == 1 else 3)
    return DatasetInfo(
        name=name if name == "folder" else f"{FOLDER}{os.path.basename(folder.directory)}",
        num_train=len(folder.train),
        num_test=0 if folder.test is None else len(folder.test),
        image_shape=shape,
        num_classes=len(folder.classes),
        flip=False,
        builder=None,
        many_sizes=image_size is not None,
        stored_shape=None if image_size is not None else stored_shape,
        folder=folder,
    )


def describe_arrays(name: str, arrays: Arrays, image_size: int | None) -> DatasetInfo:
    """Describes images in memory.

    Args:
      name: name of the data set.
      arrays: the images.
      image_size: side in pixels to which images are resized, or None.

    Returns:
      The data set.

    Raises:
      UserError: float images cannot be resized.
    """
    shape = arrays.train_images.shape[1:]
    dtype = arrays.train_images.dtype.name
    if image_size is not None and dtype != "uint8":
        raise UserError(
            f"data.image_size={image_size} needs uint8 images, but data.name={name!r} returns "
            f"{dtype} images; resize them in that function, or set data.image_size=None"
        )
    return DatasetInfo(
        name=name,
        num_train=len(arrays.train_labels),
        num_test=len(arrays.test_labels),
        image_shape=shape if image_size is None else (image_size, image_size, shape[-1]),
        num_classes=len(arrays.class_names),
        flip=False,
        builder=None,
        stored_shape=shape,
        arrays=arrays,
        dtype=dtype,
    )


def class_names(info: DatasetInfo) -> tuple[str, ...]:
    """Returns the names of the classes, in the order of their labels."""
    if info.folder is not None:
        return info.folder.classes
    if info.arrays is not None:
        return info.arrays.class_names
    if info.builder is not None:
        return tuple(info.builder.info.features["label"].names)
    return tuple(map(str, range(info.num_classes)))


def load(info: DatasetInfo) -> Dataset:
    """Loads a data set into host memory; image files are decoded once and cached.

    Args:
      info: a data set, from `describe` or `hold_out`.

    Returns:
      The training and test splits.

    Raises:
      UserError: a label is out of range, or the files of the data set are damaged or were replaced
        since `describe`.
    """
    if info.folder is not None:
        return _load_folder(info)
    if info.arrays is not None:
        train_images, train_labels, test_images, test_labels, _ = info.arrays
    elif info.builder is None:
        train_images, train_labels, test_images, test_labels = digits.read()
    else:
        train, test = prepared.splits(info.name, info.builder)
        train_images, train_labels = prepared.read(info.name, info.builder, train)
        if test and not info.num_validation:
            test_images, test_labels = prepared.read(info.name, info.builder, test)
        else:
            test_images, test_labels = train_images[:0], train_labels[:0]
    if info.num_validation:
        held_out, kept = _held_out_and_kept(info)
        test_images, test_labels = train_images[held_out], train_labels[held_out]
        train_images, train_labels = train_images[kept], train_labels[kept]
    labels = np.concatenate([train_labels, test_labels])
    if labels.min() < 0 or labels.max() >= info.num_classes:
        raise UserError(
            f"data set {info.name!r} has labels from {labels.min()} to {labels.max()}, but "
            f"{info.num_classes} classes need labels from 0 to {info.num_classes - 1}"
        )
    return Dataset(
        pictures.resized(train_images, info.image_shape),
        train_labels.astype(np.int32),
        pictures.resized(test_images, info.image_shape),
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


def _held_out_and_kept(info: DatasetInfo) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places of the validation examples, and of the others, in the training split."""
    # Shuffle first, because the data set may be sorted by class.
    order = np.random.default_rng(0).permutation(info.num_train + info.num_validation)
    held_out, kept = np.split(order, [info.num_validation])
    return held_out, kept


def open_readers(info: DatasetInfo, *, random_parts: bool = True) -> Readers:
    """Opens a data set for reading its examples from disk; see `load`.

    Args:
      info: a data set, from `describe` or `hold_out`.
      random_parts: whether training sees random parts of images that have many sizes; otherwise it
        sees the center, as an evaluation does.

    Returns:
      The readers of the training and test splits.

    Raises:
      UserError: the files are not array_record files, or one of them is missing or damaged.
    """
    if info.many_sizes:
        side, _, channels = info.image_shape
        decode: Decode = partial(
            pictures.cropped, side=side, channels=channels, random_parts=random_parts
        )
    else:
        assert info.stored_shape is not None
        decode = partial(
            pictures.of_equal_size,
            stored_shape=info.stored_shape,
            image_shape=info.image_shape,
        )

    def reader(split: str, kept: np.ndarray | None = None) -> Images:
        return Images(
            f"split {split!r} of data set {info.name!r}",
            _source(info, split),
            decode=decode,
            image_shape=info.image_shape,
            num_classes=info.num_classes,
            kept=kept,
        )

    if info.num_validation:
        held_out, kept = _held_out_and_kept(info)
        return Readers(reader("train", kept), reader("train", held_out))
    return Readers(reader("train"), reader("test"))


def _source(info: DatasetInfo, split: str) -> ImageSource:
    """Returns the image files of the training or of the test split."""
    if info.folder is not None:
        files = info.folder.train if split == "train" else info.folder.test
        assert files is not None, "a data set without a test split holds out examples"
        return files
    train, test = prepared.splits(info.name, info.builder)
    name = train if split == "train" else test
    assert name is not None, "a data set without a test split holds out examples"
    return Records(shards.find(info.name, info.builder, name))


def _load_folder(info: DatasetInfo) -> Dataset:
    """Loads images in folders, from the cache if they were decoded before."""
    readers = open_readers(info)
    splits = {"train": readers.train, "test": readers.test}
    layouts = {
        f"{split}_{name}": cache.Layout((len(reader), *layout.shape), layout.dtype)
        for split, reader in splits.items()
        for name, layout in reader.layouts.items()
    }

    def decode() -> dict[str, np.ndarray]:
        return {
            f"{split}_{name}": array
            for split, reader in splits.items()
            for name, array in reader.read(range(len(reader))).items()
        }

    arrays = cache.stored(f"datasets/{key(info)}.arrays", state(info), layouts, decode)
    return Dataset(
        *(arrays["train_image"], arrays["train_label"]),
        *(arrays["test_image"], arrays["test_label"]),
    )


def num_bytes(info: DatasetInfo) -> int:
    """Returns the bytes of all decoded images of a data set."""
    per_image = int(np.prod(info.image_shape)) * np.dtype(info.dtype).itemsize
    return (info.num_train + info.num_test) * per_image


def key(info: DatasetInfo) -> str:
    """Returns a name for the images of a data set, which stays the same if its files change."""
    if info.folder is not None:
        source = f"folder-{hashlib.sha256(info.folder.directory.encode()).hexdigest()[:8]}"
    elif info.arrays is not None:
        source = f"arrays-{hashlib.sha256(info.name.encode()).hexdigest()[:8]}"
    else:
        source = "digits" if info.builder is None else prepared.identity(info.builder)
    return f"{source}-{'x'.join(map(str, info.image_shape))}-{info.num_validation}"


def state(info: DatasetInfo) -> str:
    """Returns a hash of the files of a data set, which changes if they do."""
    if info.folder is None:
        return shards.state(info.builder)
    test = info.folder.test
    return f"{info.folder.train.state()} {test.state() if test is not None else ''}"


def is_random_access(info: DatasetInfo) -> bool:
    """Returns whether a data set can be read from disk example by example."""
    if info.builder is None:
        return info.folder is not None
    return shards.is_random_access(info.builder)


# From the name, `data_dir`, and `image_size` of a data set to its description.
DATASETS: dict[str, Callable[[str, str | None, int | None], DatasetInfo]] = {
    "digits": _scikit_learn,
    "folder": _folder,
    **{name: _tfds for name in FLIPS if name != "digits"},
}
