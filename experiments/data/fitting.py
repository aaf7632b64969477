"""Fits preprocessing to a data set that stays on disk, in one pass over its images per step.

Each worker reduces a chunk of images to sums, which are added up here.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from experiments.data import cache, preprocess, source, streaming
from experiments.data.cache import Layout
from experiments.data.preprocess import Fitted
from experiments.data.records import Reader, Readers
from experiments.data.statistics import statistics_of_counts, value_counts
from experiments.errors import UserError

CHUNK = 250  # images that a worker reads and reduces at once
Sums = dict[str, np.ndarray]


class Parts(NamedTuple):
    """How a step is fitted to images that are read in parts.

    Attributes:
      reduce: from images [examples, height, width, channels] to arrays, whose sums over all parts
        are what `fit` needs.
      fit: from the sums and `zca_epsilon` to the arguments of the step's `apply`.
    """

    reduce: Callable[[np.ndarray], Sums]
    fit: Callable[[Sums, float], Fitted]


class Streamable(NamedTuple):
    """A preprocessed data set that stays on disk.

    Attributes:
      readers: readers of uint8 or float32 images.
      normalize: from these images to the float32 images that a model takes.
      fitted: what each step was fitted to, in order.
    """

    readers: Readers
    normalize: Callable[[jax.Array], jax.Array]
    fitted: tuple[Fitted, ...]


class Preprocessed:
    """A reader whose images are preprocessed, as float32; a `Reader`.

    Args:
      reader: the reader of the images.
      steps: functions of a step and the arguments that it was fitted with, in order.
    """

    def __init__(self, reader: Reader, steps: Sequence[tuple[preprocess.Step, Fitted]]) -> None:
        self._reader = reader
        self._steps = tuple((step.apply, fitted) for step, fitted in steps)
        shape, _ = reader.layouts["image"]
        self.layouts = {**reader.layouts, "image": Layout(shape, "float32")}

    def __len__(self) -> int:
        return len(self._reader)

    def read(
        self, indices: Sequence[int], seeds: tuple[int, int] | None = None
    ) -> dict[str, np.ndarray]:
        """Reads and preprocesses images; see `Reader.read`."""
        arrays = self._reader.read(indices, seeds)
        images = arrays["image"]
        for apply, fitted in self._steps:
            images = apply(images, *fitted)
        return {**arrays, "image": images}


def check(steps: Mapping[str, preprocess.Step]) -> None:
    """Refuses steps that cannot be fitted in parts.

    Raises:
      UserError: a step is not one of `PARTS`.
    """
    for name in steps:
        if name not in PARTS:
            raise UserError(
                f"data.preprocess={name!r} needs all images in memory; set data.loading='memory', "
                f"or use {', '.join(PARTS)}"
            )


def fit(
    readers: Readers,
    steps: Mapping[str, preprocess.Step],
    *,
    zca_epsilon: float,
    cache_key: str,
    files: str,
    num_workers: int,
    max_damaged: int,
) -> Streamable:
    """Fits the steps to the training images, and returns preprocessed images.

    As in memory, the device does the rest of the work without steps, or with `standardize` only.
    Workers apply every other chain.

    Args:
      readers: the images.
      steps: the steps by name; see `check`.
      zca_epsilon: regularization of the step `zca`.
      cache_key: name for the images of `readers`.
      files: hash of their files; the steps are fitted again if it changes.
      num_workers: number of worker processes.
      max_damaged: number of images to leave out if they cannot be read.

    Returns:
      The readers, and a function that normalizes their images.

    Raises:
      UserError: an image cannot be read.
    """
    done: list[tuple[preprocess.Step, Fitted]] = []
    reader: Reader = readers.train
    for number, (name, step) in enumerate(steps.items(), start=1):
        chain = dict.fromkeys(list(steps)[:number], zca_epsilon)
        reduce = PARTS[name].reduce
        fitted = PARTS[name].fit(
            _sums(
                f"fitting {name} (once)",
                reader,
                reduce,
                place=json.dumps([cache_key, chain]),
                key=json.dumps([files, source.code_of([preprocess.prepare, reduce])]),
                num_workers=num_workers,
                max_damaged=max_damaged,
            ),
            zca_epsilon,
        )
        if tuple(steps) == ("standardize",):
            mean, std = fitted
            normalize = partial(preprocess.standardize, mean=mean, std=std)
            return Streamable(readers, normalize, (fitted,))
        done.append((step, fitted))
        reader = Preprocessed(readers.train, done)
    if done:
        readers = Readers(reader, Preprocessed(readers.test, done))
    return Streamable(readers, preprocess.as_float32, tuple(fitted for _, fitted in done))


def _sums(
    task: str,
    reader: Reader,
    reduce: Callable[[np.ndarray], Sums],
    *,
    place: str,
    key: str,
    num_workers: int,
    max_damaged: int,
) -> Sums:
    """Returns the sums over all images, from the cache if it has them."""
    layouts = {
        name: Layout(array.shape, array.dtype.name)
        for name, array in reduce(_image_of(reader)).items()
    }
    if not layouts:
        return {}

    def add_up() -> Sums:
        sums = {name: np.zeros(*layout) for name, layout in layouts.items()}
        chunks = streaming.map_chunks(
            reader,
            partial(_reduce_images, reduce),
            size=CHUNK,
            num_workers=num_workers,
            max_damaged=max_damaged,
        )
        total = -(-len(reader) // CHUNK)
        for chunk in tqdm(
            chunks, task, total=total, unit=" images", unit_scale=CHUNK, disable=None
        ):
            for name, array in chunk.items():
                sums[name] += array
        return sums

    file_name = f"statistics/{hashlib.sha256(place.encode()).hexdigest()}.arrays"
    return cache.stored(file_name, hashlib.sha256(key.encode()).hexdigest(), layouts, add_up)


def _image_of(reader: Reader) -> np.ndarray:
    """Returns a black image of the shape and dtype of a reader's images."""
    shape, dtype = reader.layouts["image"]
    return np.zeros((1, *shape), dtype)


def _reduce_images(reduce: Callable[[np.ndarray], Sums], arrays: Mapping[str, Any]) -> Sums:
    return reduce(arrays["image"])


def _channel_sums(images: np.ndarray) -> Sums:
    if images.dtype == np.uint8:
        return {"counts": value_counts(images)}
    flat = images.reshape(-1, images.shape[-1]).astype(np.float64)
    return {
        "number": np.array([len(flat)], np.int64),
        "sum": flat.sum(axis=0),
        "squares": (flat**2).sum(axis=0),
    }


def _channel_statistics(sums: Sums, zca_epsilon: float) -> Fitted:
    if "counts" in sums:
        return statistics_of_counts(sums["counts"])
    mean = sums["sum"] / sums["number"]
    std = np.sqrt(np.maximum(sums["squares"] / sums["number"] - mean**2, 0))
    std[std == 0] = 1
    return mean.astype(np.float32).reshape(1, 1, 1, -1), std.astype(np.float32).reshape(1, 1, 1, -1)


def _image_sums(images: np.ndarray) -> Sums:
    return {
        "number": np.array([len(images)], np.int64),
        "sum": images.sum(axis=0, dtype=np.float64),
    }


def _mean_image(sums: Sums, zca_epsilon: float) -> Fitted:
    return ((sums["sum"] / sums["number"]).astype(np.float32)[np.newaxis],)


def _products(images: np.ndarray) -> Sums:
    flat = images.reshape(len(images), -1).astype(np.float64)
    return {
        "number": np.array([len(flat)], np.int64),
        "sum": flat.sum(axis=0),
        "products": flat.T @ flat,
    }


def _zca(sums: Sums, zca_epsilon: float) -> Fitted:
    mean = sums["sum"] / sums["number"]
    covariance = sums["products"] / sums["number"] - np.outer(mean, mean)
    return mean.astype(np.float32), preprocess.decorrelating(covariance, zca_epsilon)


def _nothing(images: np.ndarray) -> Sums:
    return {}


PARTS: dict[str, Parts] = {
    "contrast_stretching": Parts(_nothing, lambda sums, zca_epsilon: ()),
    "global_contrast_normalization": Parts(_nothing, lambda sums, zca_epsilon: ()),
    "pixel_mean": Parts(_image_sums, _mean_image),
    "standardize": Parts(_channel_sums, _channel_statistics),
    "zca": Parts(_products, _zca),
}
