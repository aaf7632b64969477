"""How steps run: many of them in one compiled program on one device, the data set on it too."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from experiments.alarm import NO_LIMIT, Alarm, LossLimit, silent, watch_loss, watch_state
from experiments.data.datasets import Dataset
from experiments.step import Batch, Metrics, TrainState, run_keys


class Split(NamedTuple):
    """One split of a data set on the device."""

    images: jax.Array  # uint8 [examples, height, width, channels]
    labels: jax.Array  # int32 [examples]


class TrainSteps(Protocol):
    """Runs `num_steps` steps of one epoch."""

    def __call__(
        self, state: TrainState, split: Split, num_steps: jax.typing.ArrayLike
    ) -> tuple[TrainState, Metrics, Alarm]:
        """Returns the state after the steps, their metrics, and what rang the alarm in them."""


def to_device(dataset: Dataset) -> tuple[Split, Split]:
    """The training and the test split, moved onto the device to stay there."""
    return (
        Split(jax.device_put(dataset.train_images), jax.device_put(dataset.train_labels)),
        Split(jax.device_put(dataset.test_images), jax.device_put(dataset.test_labels)),
    )


def pieces(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """First step and end of each piece of so many steps; the last one is what is left.

    >>> list(pieces(0, 5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for first in range(start, stop, size):
        yield first, min(first + size, stop)


def compile_training(train_steps: TrainSteps) -> TrainSteps:
    """Compiles what `training` made; the state passed in is donated."""
    return jax.jit(train_steps, donate_argnums=0)


def training(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    *,
    batch_size: int,
    steps_per_epoch: int,
    loss_limit: LossLimit = NO_LIMIT,
) -> TrainSteps:
    """Makes the function that runs any number of consecutive steps of an epoch, to be compiled.

    The examples of a step are a pure function of (key, step): every epoch has its own permutation
    of the training split, whose last incomplete batch is left out.

    Args:
      train_step: one update, from state and batch.
      batch_size: images a step.
      steps_per_epoch: steps an epoch.
      loss_limit: the loss of a step that rings the alarm.

    Returns:
      A function (state, split, num_steps) -> (state, metrics of those steps, alarm). The steps must
      all be of one epoch.
    """

    def train_steps(
        state: TrainState, split: Split, num_steps: jax.typing.ArrayLike
    ) -> tuple[TrainState, Metrics, Alarm]:
        _, order_key, *_ = run_keys(state.key)
        epoch_key = jax.random.fold_in(order_key, state.step // steps_per_epoch)
        order = jax.random.permutation(epoch_key, split.labels.shape[0])

        def body(
            _: jax.Array, carry: tuple[TrainState, Metrics, Alarm]
        ) -> tuple[TrainState, Metrics, Alarm]:
            state, metrics, alarm = carry
            start = state.step % steps_per_epoch * batch_size
            indices = jax.lax.dynamic_slice(order, (start,), (batch_size,))
            batch = {"image": split.images[indices], "label": split.labels[indices]}
            state, step_metrics = train_step(state, batch)
            loss = step_metrics.loss.compute()
            alarm = watch_loss(alarm, step=state.step, loss=loss, limit=loss_limit)
            return state, metrics.merge(step_metrics), alarm

        # The number of steps is data, not a shape, so that an epoch's shorter last interval runs
        # in the same program: a scan would be compiled once for every length.
        before = (state, Metrics.empty(), silent())
        state, metrics, alarm = jax.lax.fori_loop(0, num_steps, body, before)
        return state, metrics, watch_state(alarm, state)

    return train_steps


def evaluation(
    eval_step: Callable[[TrainState, Batch], Metrics], *, batch_size: int
) -> Callable[[TrainState, Split], Metrics]:
    """Makes the function that evaluates a whole split, every example exactly once, to be compiled.

    Args:
      eval_step: metrics of one batch, from state and batch.
      batch_size: images a batch; the last one is filled up with masked repetitions.

    Returns:
      A function (state, split) -> metrics of the split.
    """

    def evaluate(state: TrainState, split: Split) -> Metrics:
        num_examples = split.labels.shape[0]

        def body(metrics: Metrics, start: jax.Array) -> tuple[Metrics, None]:
            indices = start + jnp.arange(batch_size)
            mask = indices < num_examples
            indices = jnp.where(mask, indices, 0)
            batch = {"image": split.images[indices], "label": split.labels[indices], "mask": mask}
            return metrics.merge(eval_step(state, batch)), None

        starts = jnp.arange(0, num_examples, batch_size)
        metrics, _ = jax.lax.scan(body, Metrics.empty(), starts)
        return metrics

    return evaluate
