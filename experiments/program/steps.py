"""The loops of a run as pure functions: the order of an epoch, many steps, and evaluation."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from experiments.program.alarm import NO_LIMIT, Alarm, LossLimit, silent, watch_loss, watch_state
from experiments.program.state import TrainState, run_keys

# Named arrays whose leading axis is the example: a split of a data set, or a batch of it.
Examples = Mapping[str, jax.Array]
Metrics = Any  # a clu Collection
Share = Callable[[jax.Array], jax.Array]
# (training split, indices, key of the epoch) -> batch
Batch = Callable[[Examples, jax.Array, jax.Array], Examples]


class Batches(NamedTuple):
    """How a data set is divided into batches.

    Attributes:
      num_train: examples in the training split.
      batch_size: training examples per step, over all devices.
      eval_batch_size: examples per evaluation batch, over all devices.
    """

    num_train: int
    batch_size: int
    eval_batch_size: int

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches in the training split."""
        return self.num_train // self.batch_size


class TrainSteps(Protocol):
    """Runs `num_steps` consecutive steps of one epoch."""

    def __call__(
        self,
        state: TrainState,
        split: Examples,
        order: jax.Array,
        num_steps: jax.typing.ArrayLike,
    ) -> tuple[TrainState, Metrics, Alarm]:
        """Returns the state after the steps, their metrics, and the alarm."""


def whole_batch(indices: jax.Array) -> jax.Array:
    """Returns all indices of a batch: the share of a program that runs on one device."""
    return indices


def gather(split: Examples, indices: jax.Array, key: jax.Array | None = None) -> Examples:
    """Returns the examples at these indices; the key has no effect."""
    return {name: array[indices] for name, array in split.items()}


def epoch_key(key: jax.Array, epoch: jax.Array) -> jax.Array:
    """Returns the key with which a task cuts the batches of an epoch.

    Args:
      key: typed PRNG key of the run.
      epoch: int32 scalar, from 0.
    """
    # Epochs are not negative, so no order is drawn with the key of ~epoch.
    return jax.random.fold_in(run_keys(key).order, ~epoch)


def pieces(
    start: int, stop: int, size: int, boundaries: Sequence[int] = ()
) -> Iterator[tuple[int, int]]:
    """Yields (first step, end) of consecutive pieces of at most `size` steps.

    Args:
      start: first step.
      stop: the step after the last.
      size: the largest number of steps in a piece.
      boundaries: steps at which a piece must end.

    >>> list(pieces(0, 5, 2))
    [(0, 2), (2, 4), (4, 5)]
    >>> list(pieces(0, 5, 2, boundaries=(3, 9)))
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    inside = (step for step in boundaries if start < step < stop)
    return itertools.pairwise(sorted({*range(start, stop, size), *inside, stop}))


def make_order(batches: Batches) -> Callable[[TrainState], jax.Array]:
    """Makes the function that draws the order of an epoch.

    It runs once per epoch rather than in every dispatch: drawing the order of 60,000 examples takes
    20 ms on a CPU, as long as 17 steps of a small network.

    Args:
      batches: the division of the data set into batches.

    Returns:
      A function from a state to the order of its epoch, int32 [num_train], which is a pure function
      of (key, epoch).
    """

    def order(state: TrainState) -> jax.Array:
        epoch = state.step // batches.steps_per_epoch
        return order_of_epoch(state.key, epoch, batches.num_train)

    return order


def order_of_epoch(key: jax.Array, epoch: jax.Array, num_train: int) -> jax.Array:
    """Returns the order of an epoch, int32 [num_train].

    Args:
      key: typed PRNG key of the run.
      epoch: index of the epoch, from 0.
      num_train: examples in the training split.
    """
    return jax.random.permutation(jax.random.fold_in(run_keys(key).order, epoch), num_train)


def make_train_steps(
    train_step: Callable[[TrainState, Examples], tuple[TrainState, Metrics]],
    no_metrics: Callable[[], Metrics],
    batches: Batches,
    *,
    loss_limit: LossLimit = NO_LIMIT,
    share: Share = whole_batch,
    batch: Batch = gather,
) -> TrainSteps:
    """Makes the function that runs any number of consecutive steps of an epoch.

    The examples of a step are a pure function of (key, step). Each epoch visits the training split
    in its own order and drops the last incomplete batch.

    Args:
      train_step: one update, from a state and a batch.
      no_metrics: returns the metrics of no examples.
      batches: the division of the data set into batches.
      loss_limit: the highest loss that does not trigger the alarm.
      share: from the indices of a batch to those that this program processes.
      batch: cuts a batch from the training split; its key is a pure function of (key, epoch).

    Returns:
      A function (state, split, order, num_steps) -> (state, metrics of those steps, alarm). All of
      its steps must belong to the epoch of `order`.
    """

    def train_steps(
        state: TrainState, split: Examples, order: jax.Array, num_steps: jax.typing.ArrayLike
    ) -> tuple[TrainState, Metrics, Alarm]:
        def batch_at(_: jax.Array, state: TrainState) -> Examples:
            start = state.step % batches.steps_per_epoch * batches.batch_size
            indices = share(jax.lax.dynamic_slice(order, (start,), (batches.batch_size,)))
            batch_key = epoch_key(state.key, state.step // batches.steps_per_epoch)
            return batch(split, indices, batch_key)

        return run_steps(
            train_step, batch_at, state, no_metrics(), num_steps, loss_limit=loss_limit
        )

    return train_steps


def run_steps(
    train_step: Callable[[TrainState, Examples], tuple[TrainState, Metrics]],
    batch_at: Callable[[jax.Array, TrainState], Examples],
    state: TrainState,
    metrics: Metrics,
    num_steps: jax.typing.ArrayLike,
    *,
    loss_limit: LossLimit,
) -> tuple[TrainState, Metrics, Alarm]:
    """Runs consecutive steps.

    Args:
      train_step: one update, from a state and a batch.
      batch_at: (number of steps made here, state) -> batch of the next step.
      state: the state before the steps.
      metrics: the metrics of no examples.
      num_steps: the number of steps, at least 0.
      loss_limit: the highest loss that does not trigger the alarm.

    Returns:
      The state after the steps, their metrics, and the alarm.
    """

    def body(
        index: jax.Array, carry: tuple[TrainState, Metrics, Alarm]
    ) -> tuple[TrainState, Metrics, Alarm]:
        state, metrics, alarm = carry
        state, step_metrics = train_step(state, batch_at(index, state))
        # clu divides a float by an integer.
        with jax.numpy_dtype_promotion("standard"):
            loss = step_metrics.loss.compute()
        alarm = watch_loss(alarm, step=state.step, loss=loss, limit=loss_limit)
        return state, metrics.merge(step_metrics), alarm

    # The number of steps is data rather than a shape, so that a shorter last interval of an
    # epoch runs in the same program. A scan would compile once for each length.
    before = (state, metrics, silent())
    state, metrics, alarm = jax.lax.fori_loop(0, num_steps, body, before)
    return state, metrics, watch_state(alarm, state)


def make_evaluate(
    eval_step: Callable[[TrainState, Examples], Metrics],
    no_metrics: Callable[[], Metrics],
    *,
    batch_size: int,
    share: Share = whole_batch,
) -> Callable[[TrainState, Examples], Metrics]:
    """Makes the function that evaluates each example of a split exactly once.

    Args:
      eval_step: metrics of a batch whose array `mask` marks the examples to count.
      no_metrics: returns the metrics of no examples.
      batch_size: examples per batch, a multiple of the number of devices. Masked repetitions fill
        the last batch.
      share: from the indices of a batch to those that this program processes.

    Returns:
      A function (state, split) -> metrics of the split.
    """

    def evaluate(state: TrainState, split: Examples) -> Metrics:
        num_examples = len(jax.tree.leaves(split)[0])

        def body(metrics: Metrics, start: jax.Array) -> tuple[Metrics, None]:
            indices = share(start + jnp.arange(batch_size))
            mask = indices < num_examples
            batch = gather(split, jnp.where(mask, indices, 0))
            return metrics.merge(eval_step(state, {**batch, "mask": mask})), None

        starts = jnp.arange(0, num_examples, batch_size)
        metrics, _ = jax.lax.scan(body, no_metrics(), starts)
        return metrics

    return evaluate
