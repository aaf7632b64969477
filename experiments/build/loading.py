"""Decides whether a data set stays in memory or is streamed from disk."""

import os
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from experiments.build import names
from experiments.data import datasets, text
from experiments.errors import UserError
from experiments.program.devices import memory_of

MAX_BYTES = 2**34  # size limit of a data set in memory
MAX_WORKERS = 16
LOADING = ("auto", "memory", "stream")


class Choice(NamedTuple):
    """How a data set is read.

    Attributes:
      is_streamed: whether it stays on disk.
      num_workers: number of processes that read it, if it does.
      max_damaged: number of its examples that may be replaced, if it does.
      sentence: what was chosen and why, or "" where there is no choice.
    """

    is_streamed: bool
    num_workers: int
    max_damaged: int
    sentence: str


NO_CHOICE = Choice(is_streamed=False, num_workers=0, max_damaged=0, sentence="")


def choose(config: ConfigDict, dataset: datasets.DatasetInfo) -> Choice:
    """Chooses how a data set is read.

    Args:
      config: the config of a run.
      dataset: the data set.

    Returns:
      The choice.

    Raises:
      UserError: the data set is too large for memory, or cannot be streamed.
    """
    if not dataset.is_on_disk:
        check_in_memory(dataset)
        return NO_CHOICE
    names.check("data.loading", config.data.loading, LOADING)
    reason = "data.loading says so"
    is_streamed = config.data.loading == "stream"
    if dataset.many_sizes:
        reason, is_streamed = "its images have different sizes", True
        if config.data.loading == "memory":
            check_in_memory(dataset)
    elif config.data.loading == "auto":
        num_bytes = datasets.num_bytes(dataset)
        fits, reason = _fits(config, num_bytes, f"{dataset.name} takes {{}} as decoded images")
        is_streamed = not fits and datasets.is_random_access(dataset)
    if not is_streamed:
        check_in_memory(dataset)
        return _in_memory(reason)
    return _streamed(config, reason, max_damaged=config.data.max_damaged)


def choose_text(config: ConfigDict, files: text.Files, *, use_bytes: bool) -> Choice:
    """Chooses how a text is read.

    Args:
      config: the config of a run.
      files: the files of the text.
      use_bytes: whether tokens are bytes.

    Returns:
      The choice.

    Raises:
      UserError: the text is too large for memory, or cannot be streamed.
    """
    name, loading = config.data.name, config.data.loading
    names.check("data.loading", loading, LOADING)
    reason = "data.loading says so"
    is_streamed = loading == "stream"
    if loading == "auto":
        fits, reason = _fits(config, files.num_bytes, f"the text {name} has {{}}")
        is_streamed = not fits and files.is_random_access
    if is_streamed and not use_bytes:
        raise UserError(
            f"data.tokens='characters' needs the text in memory, but it is streamed: {reason}; set "
            "data.tokens='bytes', or data.loading='memory'"
        )
    if is_streamed:
        return _streamed(config, reason, max_damaged=0)
    if files.num_bytes > MAX_BYTES:
        raise UserError(
            f"the text {name} has {_giga(files.num_bytes)}, and a text in memory has at most "
            f"{_giga(MAX_BYTES)}; set data.tokens='bytes' and data.loading='stream', which needs "
            "text files or array_record files"
        )
    return _in_memory(reason)


def _fits(config: ConfigDict, num_bytes: int, sentence: str) -> tuple[bool, str]:
    """Returns whether data fit into their share of the memory, and a sentence that says so."""
    share, available = config.data.memory_share, memory_of(jax.local_devices()[0])
    # The virtual devices of a CPU share the memory of their host.
    on_cpu = jax.local_devices()[0].platform == "cpu"
    needed = num_bytes * (jax.local_device_count() if on_cpu else 1)
    fits = needed <= share * available and num_bytes <= MAX_BYTES
    than = "at most" if fits else "more than"
    size = sentence.format(_giga(num_bytes))
    return fits, f"{size}, {than} data.memory_share={share:g} of {_giga(available)}"


def _in_memory(reason: str) -> Choice:
    return NO_CHOICE._replace(sentence=f"the data set stays in memory: {reason}")


def _streamed(config: ConfigDict, reason: str, *, max_damaged: int) -> Choice:
    if config.parallel.strategy != "jit":
        raise UserError(
            f"parallel.strategy={config.parallel.strategy!r} needs the data set in memory, but it "
            f"is streamed: {reason}; set parallel.strategy='jit', or data.loading='memory'"
        )
    workers = config.data.workers
    if workers is None:
        workers = min(_num_cores(), MAX_WORKERS)
    return Choice(True, workers, max_damaged, f"the data set is streamed from disk: {reason}")


def check_in_memory(dataset: datasets.DatasetInfo) -> None:
    """Refuses a data set that cannot be kept in memory.

    Args:
      dataset: the data set.

    Raises:
      UserError: it is too large, or its images have different sizes.
    """
    num_bytes = datasets.num_bytes(dataset)
    if dataset.many_sizes:
        raise UserError(
            f"the images of {dataset.name} have different sizes, and only image classification "
            "with data.loading='stream' reads such images"
        )
    if num_bytes > MAX_BYTES:
        height, width, _ = dataset.image_shape
        raise UserError(
            f"{dataset.name} takes {num_bytes / 1e9:.0f} GB as images of {height}x{width} pixels, "
            f"and a data set in memory takes at most {MAX_BYTES / 1e9:.0f} GB; set a smaller "
            "data.image_size, or data.loading='stream' for a data set in array_record files"
        )


def _num_cores() -> int:
    """Returns the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _giga(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.3g} GB"
