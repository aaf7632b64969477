"""Reads any part of a text that stays on disk, as bytes.

A text is the bytes of text files, or of the documents of a data set of tfds, one after another. It
may be larger than memory.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from experiments.data import cache
from experiments.data.records import Damaged, Shard, name_of, open_shards

CHUNK = 1024  # documents that are measured at a time


class Text(Protocol):
    """Bytes with random access. It can be pickled, so that worker processes get a copy."""

    def __len__(self) -> int:
        """Returns the number of bytes."""

    def read(self, start: int, stop: int) -> bytes:
        """Returns the bytes from one position to another; raises `Damaged` if it cannot."""


class Files:
    """Text files, one after another; a `Text`.

    Args:
      files: the files, in order.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(map(os.fspath, files))
        sizes = [os.stat(file).st_size for file in self._files]
        self._starts = np.cumsum([0, *sizes], dtype=np.int64)
        self._opened: dict[int, int] = {}  # by the process that reads

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def read(self, start: int, stop: int) -> bytes:
        """Reads bytes; see `Text.read`."""
        parts = []
        for number, first, end in _within(self._starts, start, stop):
            try:
                if number not in self._opened:
                    self._opened[number] = os.open(self._files[number], os.O_RDONLY)
                part = os.pread(self._opened[number], end - first, first)
                if len(part) < end - first:
                    raise ValueError(f"it ends at byte {first + len(part)}")
            except (OSError, ValueError) as error:
                raise _damaged(f"byte {first} of {self._files[number]}", start, error) from error
            parts.append(part)
        return b"".join(parts)


class Documents:
    """The feature `text` of the examples in array_record files, one after another; a `Text`.

    Args:
      shards: the array_record files, in order.
      lengths: number of bytes of each document, int64 [documents], from `measure`.
    """

    def __init__(self, shards: Sequence[Shard], lengths: np.ndarray) -> None:
        self._shards = tuple(shards)
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._opened: Any = None  # by the process that reads
        self._last: tuple[int, bytes] = (-1, b"")  # consecutive windows often share a document

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None, "_last": (-1, b"")}

    def read(self, start: int, stop: int) -> bytes:
        """Reads bytes; see `Text.read`."""
        parts = []
        for number, first, end in _within(self._starts, start, stop):
            if number != self._last[0]:
                self._last = (number, self._document(number, start))
            parts.append(self._last[1][first:end])
        return b"".join(parts)

    def _document(self, number: int, start: int) -> bytes:
        try:
            if self._opened is None:
                self._opened = open_shards(self._shards)
            document = _text(self._opened[number])
            expected = int(self._starts[number + 1] - self._starts[number])
            if len(document) != expected:
                raise ValueError(f"it has {len(document)} bytes instead of {expected}")
        except Exception as error:  # array_record raises many types
            raise _damaged(name_of(self._shards, number), start, error) from error
        return document


class Part(NamedTuple):
    """A part of a text; a `Text`.

    Attributes:
      text: the whole text.
      first: position of the first byte of the part.
      end: position after its last byte.
    """

    text: Text
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first

    def read(self, start: int, stop: int) -> bytes:
        """Reads bytes; see `Text.read`."""
        return self.text.read(self.first + start, self.first + stop)


def measure(shards: Sequence[Shard], name: str, state: str) -> np.ndarray:
    """Returns the number of bytes of each document, which is read once and then cached.

    Args:
      shards: array_record files of documents.
      name: name of the cached file, which is the same for all versions of the documents.
      state: hash of the documents; a change of it measures them again.

    Returns:
      int64 [documents].

    Raises:
      UserError: a document cannot be read.
    """
    count = sum(shard.take for shard in shards)
    key = hashlib.sha256(repr((cache.FORMAT, name, state, tuple(shards))).encode()).hexdigest()
    layouts = {"lengths": cache.Layout((count,), "int64")}

    def compute() -> dict[str, np.ndarray]:
        lengths = np.empty(count, np.int64)
        opened = open_shards(shards)
        for first in range(0, count, CHUNK):
            numbers = range(first, min(first + CHUNK, count))
            try:
                documents = map(_text, opened.__getitems__(list(numbers)))
                lengths[first : numbers.stop] = [len(document) for document in documents]
            except Exception:  # array_record does not say which record is damaged
                for number in numbers:
                    try:
                        lengths[number] = len(_text(opened[number]))
                    except Exception as error:
                        raise _damaged(name_of(shards, number), number, error) from error
        return {"lengths": lengths}

    return cache.stored(f"documents/{name}.arrays", key, layouts, compute)["lengths"]


def _text(record: bytes) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    features = tf_example_pb2.Example.FromString(record).features.feature
    (text,) = features["text"].bytes_list.value
    return bytes(text)


def _within(starts: np.ndarray, start: int, stop: int) -> list[tuple[int, int, int]]:
    """Returns the parts of a range: number of the file, and first byte and end in it."""
    number = int(np.searchsorted(starts, start, side="right")) - 1
    parts = []
    while start < stop:
        end = min(stop, int(starts[number + 1]))
        if end > start:
            parts.append((number, start - int(starts[number]), end - int(starts[number])))
        start, number = end, number + 1
    return parts


def _damaged(what: str, position: int, error: Exception) -> Damaged:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".")
    return Damaged(
        f"{what} cannot be read ({reason or type(error).__name__}); the text must stay as it was "
        "when the run started; prepare it again",
        position,
    )
