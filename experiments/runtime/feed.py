"""Feeds the programs of a run with data: splits on the devices, or blocks of batches from disk."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.build.experiment import Experiment
from experiments.data import streaming
from experiments.data.cache import Layout
from experiments.data.orders import Order, Orders
from experiments.data.records import Readers, Stream
from experiments.data.streaming import Batch, Plan, Rows
from experiments.errors import UserError
from experiments.program import assemble, averaging, blocks, parallel
from experiments.program.alarm import Alarm
from experiments.program.assemble import Programs
from experiments.program.parallel import Strategy
from experiments.program.state import TrainState, key_data, make_key
from experiments.program.steps import Metrics, epoch_key, order_of_epoch, pieces
from experiments.runtime import ahead, processes
from experiments.tasks.task import Data

CLOSE_SECONDS = 60
POLL_SECONDS = 0.1
MASK = {"mask": Layout((), "bool")}


class Resident:
    """Feeds programs with splits that stay on the devices.

    Args:
      experiment: the experiment.
      data: its data.
      strategy: how devices share a step.
    """

    def __init__(self, experiment: Experiment, data: Data, strategy: Strategy) -> None:
        self.damaged: frozenset[tuple[int, int]] = frozenset()
        self.steps_per_dispatch = experiment.log_every_steps
        self._train, self._test = (
            parallel.to_devices(split, strategy.replicated) for split in data
        )
        self._replicated = strategy.replicated
        self._order: jax.Array

    @contextlib.contextmanager
    def reading_from(self, step: int, boundaries: Sequence[int]) -> Iterator[None]:
        """Does nothing, because all examples are on the devices."""
        yield

    def compile_ahead(self, programs: Programs) -> Callable[[], None]:
        """Starts to compile the training program; see `ahead.compile_training`."""
        return ahead.compile_training(programs, self._train, self._replicated)

    def start_epoch(self, programs: Programs, state: TrainState) -> None:
        """Draws the order of the epoch of a state."""
        self._order = programs.order(state)

    def train(
        self, programs: Programs, state: TrainState, first: int, end: int
    ) -> tuple[TrainState, Metrics, Alarm]:
        """Trains from a step of the epoch to another."""
        num_steps = parallel.count(end - first, self._replicated)
        return programs.train(state, self._train, self._order, num_steps)

    def evaluate(
        self, programs: Programs, state: TrainState, names: Sequence[str]
    ) -> dict[str, Metrics]:
        """Evaluates the last weights and their averages; see `averaging.evaluate`."""
        assert programs.statistics is not None
        return averaging.evaluate(
            names,
            state,
            self._train,
            self._test,
            evaluate=programs.evaluate,
            statistics=programs.statistics,
        )


class Piece(NamedTuple):
    """Consecutive batches that one dispatch processes.

    Attributes:
      is_train: whether they are steps; otherwise they are batches of an evaluation.
      first: the first step, or the first batch of the evaluation.
      end: the step or the batch after the last.
    """

    is_train: bool
    first: int
    end: int


class Block(NamedTuple):
    """A piece of batches on the devices.

    Attributes:
      piece: what the block holds.
      arrays: arrays by name, [batches, batch, ...], where the piece fills the first batches.
      damaged: examples that were replaced.
    """

    piece: Piece
    arrays: dict[str, jax.Array]
    damaged: set[tuple[int, int]]


class Streamed:
    """Feeds programs with blocks of batches that worker processes read from disk.

    A thread copies each block to the devices while the block before it is in use.

    Args:
      experiment: the experiment.
      stream: how its data are read.
      readers: the readers of its data.
      strategy: how devices share a step.

    Attributes:
      damaged: examples that were replaced so far, as (0 for training or 1 for evaluation, index).
      waited_seconds: time that training and evaluation waited for a block.
    """

    def __init__(
        self, experiment: Experiment, stream: Stream, readers: Readers, strategy: Strategy
    ) -> None:
        batches = assemble.shared_by(experiment.batches, strategy.mesh.size)
        layouts = readers.train.layouts
        self.damaged: frozenset[tuple[int, int]] = frozenset()
        self.waited_seconds = 0.0
        self._stream = stream
        self._sizes = blocks.sizes(
            layouts,
            batches,
            log_every_steps=experiment.log_every_steps,
            num_test=len(readers.test),
        )
        self.steps_per_dispatch = self._sizes.train
        self._plan = Plan(
            experiment.num_steps,
            experiment.steps_per_epoch,
            batches.batch_size,
            batches.eval_batch_size,
            len(readers.train),
            len(readers.test),
        )
        self._readers = readers
        self._seed = experiment.seed
        self._task = experiment.task
        self._strategy = strategy
        self._sharding = blocks.sharding(strategy.mesh)
        self._rows = Rows(
            _local_rows(self._sharding, batches.batch_size),
            _local_rows(self._sharding, batches.eval_batch_size),
        )
        self._blocks: queue.Queue[Block | BaseException]

    @contextlib.contextmanager
    def reading_from(self, step: int, boundaries: Sequence[int]) -> Iterator[None]:
        """Reads ahead from a step on.

        Args:
          step: the first step.
          boundaries: steps at which a dispatch must end.
        """
        if step == self._plan.num_steps:  # all batches have been read
            yield
            return
        self._blocks = queue.Queue(maxsize=1)
        stop = threading.Event()
        num_train, stride = self._plan.num_train, self._stream.stride
        with Orders(num_train, self._order_of(), stride=stride) as orders:
            source = streaming.Batches(
                self._readers,
                self._plan,
                orders,
                self._rows,
                first_step=step,
                seed=self._seed,
                replace_damaged=self._stream.max_damaged > 0,
            )
            with streaming.read_ahead(source, self._stream.num_workers) as batches:
                thread = threading.Thread(
                    target=self._fill,
                    args=(batches, orders, self._pieces(step, boundaries), stop),
                    daemon=True,
                )
                thread.start()
                try:
                    yield
                finally:
                    stop.set()
                    orders.close()
                    thread.join(CLOSE_SECONDS)

    def compile_ahead(self, programs: Programs) -> Callable[[], None]:
        """Does nothing, because reading takes all cores."""
        return lambda: None

    def start_epoch(self, programs: Programs, state: TrainState) -> None:
        """Does nothing, because the blocks are in the order of the epoch."""

    def train(
        self, programs: Programs, state: TrainState, first: int, end: int
    ) -> tuple[TrainState, Metrics, Alarm]:
        """Trains from a step of the epoch to another."""
        block = self._next(Piece(True, first, end))
        num_steps = parallel.count(end - first, self._strategy.replicated)
        return programs.train(state, block, num_steps)

    def evaluate(
        self, programs: Programs, state: TrainState, names: Sequence[str]
    ) -> dict[str, Metrics]:
        """Evaluates the last weights and their averages on each block of the test split."""
        replicated = self._strategy.replicated
        no_metrics = jax.tree.map(
            lambda leaf: parallel.replicate(np.asarray(leaf), replicated),
            jax.device_get(jax.jit(lambda: self._task.no_evaluation())()),
        )
        states = averaging.to_compare(names, state)
        metrics = dict.fromkeys(states, no_metrics)
        for first, end in pieces(0, self._plan.eval_batches, self._sizes.test):
            block = self._next(Piece(False, first, end))
            num_batches = parallel.count(end - first, replicated)
            for name, each in states.items():
                metrics[name] = programs.evaluate(each, metrics[name], block, num_batches)
        if self._stream.max_damaged:
            self._count_damaged(processes.union(self.damaged))
        return metrics

    def _order_of(self) -> Callable[[int], Order]:
        """Returns the function from an epoch to its order, computed on one device."""
        device = self._strategy.mesh.local_devices[0]
        offset_of = self._stream.offset or (lambda key: np.int32(0))

        @jax.jit
        def order(data: jax.Array, epoch: jax.Array) -> Order:
            key = make_key(data)
            indices = order_of_epoch(key, epoch, self._plan.num_train)
            return Order(indices, offset_of(epoch_key(key, epoch)))

        data = jax.device_put(key_data(self._seed), device)
        return lambda epoch: jax.device_get(order(data, jax.device_put(np.int32(epoch), device)))

    def _pieces(self, step: int, boundaries: Sequence[int]) -> Iterator[Piece]:
        """Yields the pieces of the run from a step on, in the order in which the loop asks."""
        plan, sizes = self._plan, self._sizes
        while step < plan.num_steps:
            end = min((step // plan.steps_per_epoch + 1) * plan.steps_per_epoch, plan.num_steps)
            for piece in pieces(step, end, sizes.train, boundaries):
                yield Piece(True, *piece)
            for piece in pieces(0, plan.eval_batches, sizes.test):
                yield Piece(False, *piece)
            step = end

    def _fill(
        self,
        batches: Iterator[Batch],
        orders: Orders,
        run: Iterator[Piece],
        stop: threading.Event,
    ) -> None:
        """Fills block after block, until all are filled, reading fails, or `stop` is set."""
        item: Block | BaseException
        for piece in run:
            try:
                if piece.is_train:
                    orders.provide(piece.first // self._plan.steps_per_epoch)
                item = self._read_block(piece, batches)
            except BaseException as error:
                item = error
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    self._blocks.put(item, timeout=POLL_SECONDS)
                    break
            if stop.is_set() or isinstance(item, BaseException):
                return

    def _read_block(self, piece: Piece, batches: Iterator[Batch]) -> Block:
        """Copies the next batches to the devices; a block always has the same shape."""
        layouts: Mapping[str, Layout] = self._readers.train.layouts
        num_batches, rows = self._sizes.train, self._rows.train
        batch_size = self._plan.batch_size
        if not piece.is_train:
            layouts = {**layouts, **MASK}
            num_batches, rows = self._sizes.test, self._rows.test
            batch_size = self._plan.eval_batch_size
        block = {
            name: np.empty((num_batches, len(rows), *shape), dtype)
            for name, (shape, dtype) in layouts.items()
        }
        damaged: set[tuple[int, int]] = set()
        for index in range(piece.end - piece.first):
            batch = next(batches)
            damaged.update(batch.damaged)
            for name, array in batch.arrays.items():
                block[name][index] = array
        arrays = {name: self._global(array, batch_size, rows) for name, array in block.items()}
        return Block(piece, arrays, damaged)

    def _global(self, array: np.ndarray, batch_size: int, rows: np.ndarray) -> jax.Array:
        """Returns the block of all processes, from the rows of this one."""

        def of_device(place: Any) -> np.ndarray:
            return array[:, _local(place[1], rows)]

        shape = (len(array), batch_size, *array.shape[2:])
        return jax.make_array_from_callback(shape, self._sharding, of_device)

    def _next(self, piece: Piece) -> dict[str, jax.Array]:
        """Returns the arrays of the next block, which is the one that the loop expects."""
        started = time.monotonic()
        item = self._blocks.get()
        self.waited_seconds += time.monotonic() - started
        if isinstance(item, BaseException):
            if isinstance(item, RuntimeError) and "Worker process was terminated" in str(item):
                raise UserError(
                    "a process that reads the data set ended unexpectedly; if memory is short, set "
                    "a smaller data.workers; the same command resumes from the newest checkpoint"
                ) from item
            raise item
        assert item.piece == piece, (item.piece, piece)
        self._count_damaged(self.damaged | item.damaged)
        return item.arrays

    def _count_damaged(self, damaged: frozenset[tuple[int, int]]) -> None:
        """Notes the examples that were replaced so far, and refuses too many of them."""
        self.damaged = damaged
        if len(damaged) > self._stream.max_damaged:
            raise streaming.too_many_damaged(self._stream.max_damaged)


Feed = Resident | Streamed


def make_feed(experiment: Experiment, data: Data | Readers, strategy: Strategy) -> Feed:
    """Makes the feed of a run.

    Args:
      experiment: the experiment.
      data: the result of `read`.
      strategy: how devices share a step.
    """
    if experiment.task.stream is not None:
        assert isinstance(data, Readers)
        return Streamed(experiment, experiment.task.stream, data, strategy)
    assert isinstance(data, Data)
    return Resident(experiment, data, strategy)


def read(experiment: Experiment) -> Data | Readers:
    """Loads the data of an experiment, or opens them if they stay on disk."""
    task: Any = experiment.task
    result: Data | Readers = task.load() if task.stream is None else task.stream.open()
    return result


def _local_rows(sharding: jax.sharding.Sharding, batch_size: int) -> np.ndarray:
    """Returns the rows of a batch that the devices of this process hold, in ascending order."""
    places: Any = sharding.addressable_devices_indices_map((1, batch_size)).values()
    rows = {row for place in places for row in range(*place[1].indices(batch_size))}
    return np.array(sorted(rows))


def _local(rows: slice, local_rows: np.ndarray) -> slice:
    """Returns where the rows of a device are among the rows of its process."""
    first = int(np.searchsorted(local_rows, rows.start or 0))
    stop = len(local_rows) if rows.stop is None else int(np.searchsorted(local_rows, rows.stop))
    return slice(first, stop)
