"""Fits preprocessing to a data set that stays on disk, in one pass over its training split."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial

import jax
import numpy as np
from tqdm import tqdm

from experiments.data import cache, preprocess, streaming
from experiments.data.records import Reader
from experiments.data.statistics import NUM_VALUES, statistics_of_counts, value_counts
from experiments.errors import UserError

CHUNK = 250  # images read and counted at once by a worker
STREAMED = ((), ("standardize",))


def check(steps: Mapping[str, preprocess.Step]) -> None:
    """Refuses steps that need all images in memory.

    Raises:
      UserError: the steps are not one of `STREAMED`.
    """
    if tuple(steps) not in STREAMED:
        raise UserError(
            f"data.preprocess={tuple(steps)} needs all images in memory; set "
            "data.loading='memory', or data.preprocess=('standardize',)"
        )


def fit(
    reader: Reader,
    steps: Mapping[str, preprocess.Step],
    *,
    cache_key: str,
    files: str,
    num_workers: int,
    max_damaged: int,
) -> Callable[[jax.Array], jax.Array]:
    """Fits the steps, and returns what remains to be done on the device.

    Args:
      reader: the training images.
      steps: the steps by name; see `check`.
      cache_key: name for the images of `reader`.
      files: hash of its files; the statistics are computed again if it changes.
      num_workers: number of worker processes.
      max_damaged: number of images to leave out if they cannot be read.

    Returns:
      A function from uint8 images to the float32 images that a model takes, as
      `preprocess.prepare` returns it for images in memory.

    Raises:
      UserError: an image cannot be read.
    """
    if not steps:
        return preprocess.as_float32
    channels = reader.layouts["image"].shape[-1]

    def count() -> dict[str, np.ndarray]:
        counts = np.zeros((channels, NUM_VALUES), np.int64)
        chunks = streaming.map_chunks(
            reader, _count, size=CHUNK, num_workers=num_workers, max_damaged=max_damaged
        )
        for chunk in tqdm(
            chunks,
            "computing mean and deviation (once)",
            total=-(-len(reader) // CHUNK),
            unit=" images",
            unit_scale=CHUNK,
            disable=None,
        ):
            counts += chunk
        return {"counts": counts}

    name = hashlib.sha256(json.dumps(["counts", cache_key]).encode()).hexdigest()
    layouts = {"counts": cache.Layout((channels, NUM_VALUES), "int64")}
    counts = cache.stored(f"statistics/{name}.arrays", files, layouts, count)["counts"]
    mean, std = statistics_of_counts(counts)
    return partial(preprocess.standardize, mean=mean, std=std)


def _count(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return value_counts(arrays["image"])
