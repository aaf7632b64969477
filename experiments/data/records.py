"""Reads labeled images at random, for data sets that stay on disk.

The array_record files are those of tensorflow-datasets (tfds): each record is a `tf.train.Example`
with an image file and its label. TensorFlow is not imported. Worker processes get a copy of a
reader.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from experiments.data.cache import Layout
from experiments.data.pictures import Decode, OtherShape
from experiments.errors import UserError


class Damaged(UserError):
    """An example that cannot be read.

    Args:
      sentence: names the file, the index, and the reason.
      index: index of the example in its reader.
    """

    def __init__(self, sentence: str, index: int) -> None:
        super().__init__(sentence, index)
        self.index = index

    def __str__(self) -> str:
        return str(self.args[0])


class Reader(Protocol):
    """Examples with random access. It can be pickled, so that worker processes get a copy."""

    @property
    def layouts(self) -> Mapping[str, Layout]:
        """Shape and dtype of each array of one example, by name."""

    def __len__(self) -> int:
        """Returns the number of examples."""

    def read(
        self, indices: Sequence[int], seeds: tuple[int, int] | None = None
    ) -> dict[str, np.ndarray]:
        """Reads examples.

        Args:
          indices: indices of the examples.
          seeds: seed and step of the run, with which an example may be transformed at random; None
            for an evaluation.

        Returns:
          Arrays by name, whose leading axis is the example, in the order of `indices`.

        Raises:
          Damaged: an example cannot be read.
        """


class Readers(NamedTuple):
    """The readers of a data set that stays on disk.

    Attributes:
      train: the training split.
      test: the split that is evaluated, with the same names as `train`.
    """

    train: Reader
    test: Reader


class Stream(NamedTuple):
    """A data set that stays on disk.

    Attributes:
      open: opens it; may take long at its first call.
      num_workers: number of processes that read it; with 0, a thread reads.
      max_damaged: number of examples that may be replaced because they cannot be read.
      stride: what the reader of the training split gets for an example is its index, times this
        number, plus the offset of the epoch.
      offset: from the key of the epoch to its offset, an int32 scalar; None for 0.
    """

    open: Callable[[], Readers]
    num_workers: int
    max_damaged: int
    stride: int = 1
    offset: Callable[[Any], Any] | None = None  # a jax function; workers do not import jax


class Shard(NamedTuple):
    """A file of examples, as array_record reads it.

    Attributes:
      filename: path of the file.
      skip: number of examples to skip at its start.
      take: number of examples to read after them.
      examples_in_shard: number of examples in the file.
    """

    filename: str
    skip: int
    take: int
    examples_in_shard: int


class ImageSource(Protocol):
    """Labeled image files with random access. It can be pickled."""

    def __len__(self) -> int:
        """Returns the number of images."""

    def read(self, places: Sequence[int]) -> list[tuple[bytes, int]]:
        """Returns image files and their labels; raises any exception if one cannot be read."""

    def name(self, place: int) -> str:
        """Returns what an error message calls an image: its file, and its index in it."""


class Images:
    """Labeled images as arrays of one size; a `Reader`.

    Args:
      what: name of the split, for error messages.
      source: the image files.
      decode: from an image file, and a random number generator in training, to an array of
        `image_shape`; it can be pickled.
      image_shape: height, width, and channels of the arrays.
      num_classes: number of classes.
      kept: places of the images to keep, or None for all of them.
    """

    def __init__(
        self,
        what: str,
        source: ImageSource,
        *,
        decode: Decode,
        image_shape: tuple[int, int, int],
        num_classes: int,
        kept: np.ndarray | None = None,
    ) -> None:
        self.layouts = {"image": Layout(image_shape, "uint8"), "label": Layout((), "int32")}
        self._what = what
        self._source = source
        self._decode = decode
        self._image_shape = image_shape
        self._num_classes = num_classes
        self._kept = np.arange(len(source)) if kept is None else kept

    def __len__(self) -> int:
        return len(self._kept)

    def read(
        self, indices: Sequence[int], seeds: tuple[int, int] | None = None
    ) -> dict[str, np.ndarray]:
        """Reads and decodes images; see `Reader.read`."""
        images = np.empty((len(indices), *self._image_shape), np.uint8)
        labels = np.empty(len(indices), np.int32)
        for position, (encoded, label) in enumerate(self._files(indices)):
            index = int(indices[position])
            rng = None if seeds is None else np.random.default_rng([*seeds, index])
            try:
                if not 0 <= label < self._num_classes:
                    raise ValueError(f"label {label} is not one of {self._num_classes} classes")
                images[position], labels[position] = self._decode(encoded, rng), label
            except OtherShape as error:
                raise self._of_other_shape(index, error) from error
            except Exception as error:  # decoders raise many types
                raise self._damaged(index, error) from error
        return {"image": images, "label": labels}

    def _files(self, indices: Sequence[int]) -> list[tuple[bytes, int]]:
        places = [int(self._kept[index]) for index in indices]
        try:
            return self._source.read(places)
        except Exception:  # array_record does not say which record is damaged
            return [self._file(int(index)) for index in indices]

    def _file(self, index: int) -> tuple[bytes, int]:
        try:
            (file,) = self._source.read([int(self._kept[index])])
            return file
        except Exception as error:
            raise self._damaged(index, error) from error

    def _of_other_shape(self, index: int, error: OtherShape) -> Damaged:
        shape, expected = ("x".join(map(str, each)) for each in (error.shape, error.expected))
        return Damaged(
            f"{self._source.name(int(self._kept[index]))} in {self._what} is {shape}, but the "
            f"first image is {expected} (height, width, channels); set data.image_size to the side "
            "of the squares that are cut out of images of any size, or resize the files",
            index,
        )

    def _damaged(self, index: int, error: Exception) -> Damaged:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".")
        return Damaged(
            f"{self._source.name(int(self._kept[index]))} in {self._what} cannot be read "
            f"({reason or type(error).__name__}); prepare the data set again, or set "
            "data.max_damaged to skip damaged examples",
            index,
        )


class Records:
    """Image files in array_record files; an `ImageSource`.

    Args:
      shards: the array_record files, in order.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = tuple(shards)
        self._starts = np.cumsum([0, *(shard.take for shard in shards)])
        self._opened: Any = None  # by the process that reads

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def read(self, places: Sequence[int]) -> list[tuple[bytes, int]]:
        """Reads records; see `ImageSource.read`."""
        from tensorflow_datasets.proto import tf_example_pb2

        if self._opened is None:
            self._opened = open_shards(self._shards)
        files = []
        for record in self._opened.__getitems__(list(places)):
            features = tf_example_pb2.Example.FromString(record).features.feature
            (label,) = features["label"].int64_list.value
            (encoded,) = features["image"].bytes_list.value
            files.append((encoded, label))
        return files

    def name(self, place: int) -> str:
        """Returns the index of a record in its file, and the file."""
        return name_of(self._shards, place)


def name_of(shards: Sequence[Shard], number: int) -> str:
    """Returns the index of an example in its array_record file, and the file."""
    starts = np.cumsum([0, *(shard.take for shard in shards)])
    index = int(np.searchsorted(starts, number, side="right")) - 1
    in_file = number - int(starts[index]) + shards[index].skip
    return f"example {in_file} of {shards[index].filename}"


def open_shards(shards: Sequence[Shard]) -> Any:
    """Opens array_record files as one source with random access to the encoded examples."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    return ArrayRecordDataSource(shards)
