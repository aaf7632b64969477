"""Finds images in folders: DIRECTORY/SPLIT/CLASS/FILE, where any file is an image of its class."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
TEST_NAMES = ("test", "validation", "val")  # in the order of preference


class ImageFiles:
    """Image files, each with a label; an `ImageSource`.

    Args:
      directory: directory of the paths.
      paths: paths of the files.
      labels: int32, the label of each file.
    """

    def __init__(self, directory: str, paths: Sequence[str], labels: np.ndarray) -> None:
        self._directory = directory
        self._paths = tuple(paths)
        self._labels = labels

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, places: Sequence[int]) -> list[tuple[bytes, int]]:
        """Reads files; see `ImageSource.read`."""
        return [(self._path(place).read_bytes(), int(self._labels[place])) for place in places]

    def name(self, place: int) -> str:
        """Returns the index and the path of a file."""
        return f"image {place}, {self._path(place)},"

    def state(self) -> str:
        """Returns a hash of the paths, sizes, and times of all files, which changes if they do."""
        digest = hashlib.sha256()
        for place, path in enumerate(self._paths):
            status = self._path(place).stat()
            line = [path, int(self._labels[place]), status.st_size, status.st_mtime_ns]
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
      data_dir: the directory.

    Returns:
      The files and classes.

    Raises:
      UserError: the directory does not exist, cannot be read, or has no training images.
    """
    if data_dir is None:
        raise UserError(
            "data.name='folder' needs data.data_dir, a directory with images at "
            "train/CLASS/FILE and test/CLASS/FILE"
        )
    directory = os.path.abspath(os.path.expanduser(data_dir))
    train = os.path.join(directory, "train")
    if not os.path.isdir(train):
        raise UserError(
            f"data.data_dir={data_dir!r} has no directory train; data.name='folder' needs images "
            "at train/CLASS/FILE and test/CLASS/FILE"
        )
    classes = tuple(_subdirectories(train))
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
    if not len(folder.train):
        raise UserError(
            f"{train} has no images; they must be at train/CLASS/FILE and end in "
            f"{', '.join(SUFFIXES)}"
        )
    return folder


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
        raise UserError(
            f"directory {directory} cannot be read ({error.strerror}); give this user permission, "
            "or set another data.data_dir"
        ) from error
