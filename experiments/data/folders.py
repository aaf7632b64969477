"""Finds images in folders: DIRECTORY/SPLIT/CLASS/FILE, or DIRECTORY/CLASS/FILE without splits."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from experiments.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
TEST_NAMES = ("test", "validation", "val")  # in the order of preference
TEST_SHARE = 5  # without splits, every fifth image of a class is evaluated
PLACES = "train/CLASS/FILE and test/CLASS/FILE, or CLASS/FILE"


class ImageFiles:
    """Image files, each with a label; an `ImageSource`.

    Args:
      directory: directory of the paths.
      paths: paths of the files.
      labels: int32, the label of each file.

    Attributes:
      labels: the same.
    """

    def __init__(self, directory: str, paths: Sequence[str], labels: np.ndarray) -> None:
        self.labels = labels
        self._directory = directory
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def part(self, places: np.ndarray) -> "ImageFiles":
        """Returns the files at some places, in their order."""
        return ImageFiles(
            self._directory, [self._paths[place] for place in places], self.labels[places]
        )

    def read(self, places: Sequence[int]) -> list[tuple[bytes, int]]:
        """Reads files; see `ImageSource.read`."""
        return [(self._path(place).read_bytes(), int(self.labels[place])) for place in places]

    def name(self, place: int) -> str:
        """Returns the index and the path of a file."""
        return f"image {place}, {self._path(place)},"

    def state(self) -> str:
        """Returns a hash of the paths, sizes, and times of all files, which changes if they do."""
        digest = hashlib.sha256()
        for place, path in enumerate(self._paths):
            status = self._path(place).stat()
            line = [path, int(self.labels[place]), status.st_size, status.st_mtime_ns]
            digest.update(json.dumps(line).encode())
        return digest.hexdigest()

    def _path(self, place: int) -> Path:
        return Path(self._directory, self._paths[place])


class Folder(NamedTuple):
    """A data set of image files.

    Attributes:
      directory: absolute path.
      classes: names of the classes, sorted; their indices are the labels.
      train: the files of the training split, sorted by path.
      test: the files of the split that is evaluated, or None if there is none.
    """

    directory: str
    classes: tuple[str, ...]
    train: ImageFiles
    test: ImageFiles | None


def find(data_dir: str | None) -> Folder:
    """Finds the images of a directory.

    Args:
      data_dir: the directory. With a subdirectory `train`, its splits are `train` and, if there is
        one, `test`, `validation`, or `val`. Otherwise its subdirectories are the classes, and a
        fixed random fifth of each class is the test split.

    Returns:
      The files and classes.

    Raises:
      UserError: the directory does not exist, cannot be read, or has no training images or only one
        class.
    """
    if data_dir is None:
        raise UserError(
            "data.name='folder' needs a directory with images: set data.data_dir, or "
            "data.name=folder:PATH"
        )
    directory = os.path.abspath(os.path.expanduser(data_dir))
    if not os.path.isdir(directory):
        raise UserError(f"{directory} is not a directory; it must have images at {PLACES}")
    train = os.path.join(directory, "train")
    if not os.path.isdir(train):
        return _without_splits(directory)
    classes = _classes(train)
    test = next((name for name in TEST_NAMES if os.path.isdir(f"{directory}/{name}")), None)
    if test is not None:
        unknown = set(_subdirectories(f"{directory}/{test}")) - set(classes)
        if unknown:
            raise UserError(
                f"{directory}/{test} has the class {min(unknown)!r}, which {train} does not have"
            )
    folder = Folder(
        directory,
        classes,
        _files(directory, "train", classes),
        None if test is None else _files(directory, test, classes),
    )
    return _with_images(folder, train)


def _without_splits(directory: str) -> Folder:
    """Splits the images of each class at random, in the same way every time."""
    classes = _classes(directory)
    files = _files(directory, "", classes)
    for_test = np.zeros(len(files), bool)
    for label in range(len(classes)):
        places = np.flatnonzero(files.labels == label)
        shuffled = np.random.default_rng([0, label]).permutation(places)
        for_test[shuffled[: len(places) // TEST_SHARE]] = True
    train, test = (files.part(np.flatnonzero(chosen)) for chosen in (~for_test, for_test))
    return _with_images(Folder(directory, classes, train, test if len(test) else None), directory)


def _with_images(folder: Folder, train: str) -> Folder:
    if not len(folder.train):
        raise UserError(
            f"{train} has no images; they must be in folders of their classes and end in "
            f"{', '.join(SUFFIXES)}"
        )
    return folder


def _classes(directory: str) -> tuple[str, ...]:
    classes = tuple(_subdirectories(directory))
    if not classes:
        raise UserError(f"{directory} has no class folders; images must be at {PLACES}")
    if len(classes) == 1:
        raise UserError(
            f"{directory} has a single class folder, {classes[0]!r}; a classifier needs at least "
            f"two, with images at {PLACES}"
        )
    return classes


def _subdirectories(directory: str) -> list[str]:
    return sorted(entry.name for entry in _listed(directory) if entry.is_dir())


def _files(directory: str, split: str, classes: Sequence[str]) -> ImageFiles:
    paths, labels = [], []
    for label, name in enumerate(classes):
        inside = os.path.join(directory, split, name)
        if not os.path.isdir(inside):
            continue
        for file in sorted(entry.name for entry in _listed(inside)):
            if file.lower().endswith(SUFFIXES):
                paths.append(os.path.join(split, name, file))
                labels.append(label)
    return ImageFiles(directory, paths, np.array(labels, np.int32))


def _listed(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError as error:
        refuse(error)


def refuse(error: OSError) -> NoReturn:
    """Raises the error of the user that the files in a directory cannot be listed."""
    raise UserError(
        f"directory {error.filename} cannot be read ({error.strerror}); give this user "
        "permission, or set another data.data_dir"
    ) from error
