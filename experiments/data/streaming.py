"""Reads the batches of a run from disk, in order, with Grain and its worker processes.

A batch is a pure function of (seed, step), as in memory: the order of an epoch is computed once per
epoch and shared with the workers. So nothing has to be stored to resume.
"""

import contextlib
import gc
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from multiprocessing import connection
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments.data.orders import Orders
from experiments.data.records import Damaged, Reader, Readers
from experiments.errors import UserError

BUFFERED_BATCHES = 2  # read ahead by each worker
Arrays = dict[str, np.ndarray]


class Plan(NamedTuple):
    """The batches of a run in order: the steps of an epoch, then its evaluation, and so on.

    Attributes:
      num_steps: steps of the run, whose last epoch may be shorter.
      steps_per_epoch: steps of the other epochs.
      batch_size: examples of a step.
      eval_batch_size: examples of an evaluation batch.
      num_train: examples in the training split.
      num_test: examples in the split that is evaluated.
    """

    num_steps: int
    steps_per_epoch: int
    batch_size: int
    eval_batch_size: int
    num_train: int
    num_test: int

    @property
    def eval_batches(self) -> int:
        """Batches of an evaluation."""
        return math.ceil(self.num_test / self.eval_batch_size)

    @property
    def num_batches(self) -> int:
        """All batches of the run."""
        return self.num_steps + self.num_epochs * self.eval_batches

    @property
    def num_epochs(self) -> int:
        """Epochs of the run, each of which ends with an evaluation."""
        return math.ceil(self.num_steps / self.steps_per_epoch)

    def position(self, step: int) -> int:
        """Returns the position of a step among all batches.

        >>> Plan(5, 2, 4, 3, 8, 6).position(2)
        4
        """
        return step + step // self.steps_per_epoch * self.eval_batches

    def at(self, position: int) -> tuple[int, int | None, int | None]:
        """Returns the batch at a position: its epoch, and its step or its evaluation batch.

        >>> [Plan(3, 2, 4, 3, 8, 6).at(position) for position in range(6)]
        [(0, 0, None), (0, 1, None), (0, None, 0), (0, None, 1), (1, 2, None), (1, None, 0)]
        """
        epoch, within = divmod(position, self.steps_per_epoch + self.eval_batches)
        first = epoch * self.steps_per_epoch
        steps = min(self.steps_per_epoch, self.num_steps - first)
        if within < steps:
            return epoch, first + within, None
        return epoch, None, within - steps


class Rows(NamedTuple):
    """The rows of each global batch that this process reads.

    Attributes:
      train: rows of a training batch, in ascending order.
      test: rows of an evaluation batch, in ascending order.
    """

    train: np.ndarray
    test: np.ndarray


class Batch(NamedTuple):
    """This process's rows of a batch.

    Attributes:
      arrays: arrays by name, [rows, ...]; in evaluation, `mask` marks the examples to count.
      damaged: examples that were replaced, as (0 for training or 1 for evaluation, index).
    """

    arrays: Arrays
    damaged: list[tuple[int, int]]


class Batches:
    """The batches of a run from a step on; a random-access source for Grain.

    Args:
      readers: the readers of both splits.
      plan: the batches of the run.
      orders: the orders of the epochs.
      rows: the rows that this process reads.
      first_step: step of the first batch.
      seed: seed of the run.
      replace_damaged: whether to replace an example that cannot be read by the next one, and to
        leave it out of an evaluation.
    """

    def __init__(
        self,
        readers: Readers,
        plan: Plan,
        orders: Orders,
        rows: Rows,
        *,
        first_step: int,
        seed: int,
        replace_damaged: bool,
    ) -> None:
        self._readers = readers
        self._plan = plan
        self._orders = orders
        self._rows = rows
        self._first = plan.position(first_step)
        self._seed = seed
        self._replace_damaged = replace_damaged
        self._known_damaged: tuple[set[int], set[int]] = (set(), set())

    def __len__(self) -> int:
        return self._plan.num_batches - self._first

    def __repr__(self) -> str:
        return "Batches"

    def __getitem__(self, index: int) -> Batch:
        plan = self._plan
        epoch, step, eval_batch = plan.at(self._first + int(index))
        if step is not None:
            start = (step - epoch * plan.steps_per_epoch) * plan.batch_size
            indices = self._orders.read(epoch, start, self._rows.train)
            return self._read(0, indices, (self._seed, step))
        assert eval_batch is not None
        indices = eval_batch * plan.eval_batch_size + self._rows.test
        mask = indices < plan.num_test
        batch = self._read(1, np.where(mask, indices, 0), None)
        for _, damaged in batch.damaged:
            mask &= indices != damaged
        return batch._replace(arrays={**batch.arrays, "mask": mask})

    def _read(self, split: int, indices: np.ndarray, seeds: tuple[int, int] | None) -> Batch:
        """Reads examples, and replaces each damaged one by the next one that is not."""
        reader, known = self._readers[split], self._known_damaged[split]
        while True:
            readable = [self._readable(int(index), known, len(reader)) for index in indices]
            try:
                arrays = reader.read(readable, seeds)
            except Damaged as damaged:
                if not self._replace_damaged:
                    raise
                known.add(damaged.index)
                continue
            return Batch(arrays, [(split, int(i)) for i in indices if int(i) in known])

    def _readable(self, index: int, damaged: set[int], num_examples: int) -> int:
        if len(damaged) == num_examples:
            raise UserError("no example of the data set can be read; prepare the data set again")
        while index in damaged:
            index = (index + 1) % num_examples
        return index


@contextlib.contextmanager
def read_ahead(source: Any, num_workers: int) -> Iterator[Iterator[Any]]:
    """Reads the elements of a random-access source in order, in worker processes.

    Args:
      source: has `__len__` and `__getitem__`, and can be pickled.
      num_workers: number of worker processes; with 0, a thread of this process reads.

    Yields:
      The elements in order. What a worker raises, its `next` raises.
    """
    import grain

    elements = grain.MapDataset.source(source).to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=BUFFERED_BATCHES)
    )
    if num_workers:
        if not flags.FLAGS.is_parsed():  # Grain reads its own flags, which have defaults
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(
            num_workers=num_workers, per_worker_buffer_size=BUFFERED_BATCHES
        )
        elements = elements.mp_prefetch(options, worker_init_fn=_start_worker)
    iterator = iter(elements)
    read = _untraced(element for element in iterator)
    try:
        yield read
    finally:
        iterator.close()
        # The iterator keeps its last element, whose shared memory would be left over.
        with contextlib.suppress(ValueError):  # a thread that was given up still reads
            read.close()
        del iterator, elements
        gc.collect()


def _untraced(elements: Iterator[Any]) -> Generator[Any]:
    """Yields elements, and removes the traceback of a worker's error.

    It would keep Grain's iterator, whose semaphores Python would then report as leaked.
    """
    try:
        yield from elements
    except UserError as error:
        raise error.with_traceback(None) from None


def _start_worker(worker: int, num_workers: int) -> None:
    """Prepares a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C stops the parent, which ends the worker
    threading.Thread(target=_die_with_parent, daemon=True).start()
    allow_many_files()


def _die_with_parent() -> None:
    """Ends this process when its parent ends, even if the parent was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def allow_many_files() -> None:
    """Raises the limit of open files, because each shard of a data set stays open."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # Windows; a container's policy
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Chunks:
    """Applies a function to consecutive chunks of examples; a source for Grain."""

    def __init__(
        self, reader: Reader, function: Callable[[Arrays], Any], size: int, skip_damaged: bool
    ) -> None:
        self._reader = reader
        self._function = function
        self._size = size
        self._skip_damaged = skip_damaged

    def __len__(self) -> int:
        return math.ceil(len(self._reader) / self._size)

    def __repr__(self) -> str:
        return "Chunks"

    def __getitem__(self, index: int) -> tuple[Any, int]:
        start = int(index) * self._size
        indices = list(range(start, min(start + self._size, len(self._reader))))
        num_damaged = 0
        while True:
            try:
                return self._function(self._reader.read(indices)), num_damaged
            except Damaged as damaged:
                if not self._skip_damaged:
                    raise
                indices.remove(damaged.index)
                num_damaged += 1


def map_chunks(
    reader: Reader,
    function: Callable[[Arrays], Any],
    *,
    size: int,
    num_workers: int,
    max_damaged: int,
) -> Iterator[Any]:
    """Applies a function to all examples, chunk by chunk, in worker processes.

    Args:
      reader: the examples.
      function: from the arrays of a chunk to its result; both can be pickled.
      size: examples per chunk.
      num_workers: number of worker processes.
      max_damaged: number of examples to leave out if they cannot be read.

    Yields:
      The results, in order.

    Raises:
      UserError: more examples cannot be read.
    """
    total = 0
    source = _Chunks(reader, function, size, skip_damaged=max_damaged > 0)
    with read_ahead(source, num_workers) as results:
        for result, num_damaged in results:
            total += num_damaged
            if total > max_damaged:
                raise too_many_damaged(max_damaged)
            yield result


def too_many_damaged(max_damaged: int) -> UserError:
    """Returns the error that more examples are damaged than the config allows."""
    return UserError(
        f"more than data.max_damaged={max_damaged} examples cannot be read; prepare the data set "
        "again, or raise data.max_damaged"
    )
