"""Training and evaluation on blocks of batches, for a data set that does not stay on the devices.

A block holds the examples of a few consecutive steps, named arrays [steps, batch, ...]. The host
fills the next block while the devices work on the current one.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.program.alarm import NO_LIMIT, Alarm, LossLimit
from experiments.program.state import TrainState
from experiments.program.steps import Batches, Examples, Metrics, run_steps

# Three blocks exist at a time: one in use, one ready, and one that the host fills.
MAX_BYTES = 2**26
Layouts = Mapping[str, tuple[tuple[int, ...], str]]  # shape and dtype of each array of an example


class Sizes(NamedTuple):
    """Number of batches in a block.

    Attributes:
      train: steps in a block of training batches.
      test: batches in a block of the evaluation.
    """

    train: int
    test: int


def sizes(layouts: Layouts, batches: Batches, *, log_every_steps: int, num_test: int) -> Sizes:
    """Returns the number of batches in a block, which takes at most `MAX_BYTES` if it has several.

    Args:
      layouts: shape and dtype of each array of an example.
      batches: the division of the data set into batches.
      log_every_steps: the largest number of steps per dispatch.
      num_test: examples in the split that is evaluated.
    """
    example = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in layouts.values())
    train, test = (
        max(1, MAX_BYTES // (example * size))
        for size in (batches.batch_size, batches.eval_batch_size)
    )
    return Sizes(
        min(train, log_every_steps, batches.steps_per_epoch),
        min(test, math.ceil(num_test / batches.eval_batch_size)),
    )


def shapes(layouts: Layouts, num_batches: int, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes and dtypes of a block."""
    return {
        name: jax.ShapeDtypeStruct((num_batches, batch_size, *shape), dtype)
        for name, (shape, dtype) in layouts.items()
    }


def sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of a block: each device has its rows of every batch."""
    return NamedSharding(mesh, PartitionSpec(None, *mesh.axis_names))


def make_train_on_block(
    train_step: Callable[[TrainState, Examples], tuple[TrainState, Metrics]],
    no_metrics: Callable[[], Metrics],
    *,
    loss_limit: LossLimit = NO_LIMIT,
) -> Callable[[TrainState, Examples, jax.typing.ArrayLike], tuple[TrainState, Metrics, Alarm]]:
    """Makes the function that runs the first steps of a block.

    Args:
      train_step: one update, from a state and a batch.
      no_metrics: returns the metrics of no examples.
      loss_limit: the highest loss that does not trigger the alarm.

    Returns:
      A function (state, block, num_steps) -> (state, metrics of those steps, alarm).
    """

    def train_on_block(
        state: TrainState, block: Examples, num_steps: jax.typing.ArrayLike
    ) -> tuple[TrainState, Metrics, Alarm]:
        def batch_at(index: jax.Array, _: TrainState) -> Examples:
            return _batch(block, index)

        return run_steps(
            train_step, batch_at, state, no_metrics(), num_steps, loss_limit=loss_limit
        )

    return train_on_block


def make_evaluate_block(
    eval_step: Callable[[TrainState, Examples], Metrics],
) -> Callable[[TrainState, Metrics, Examples, jax.typing.ArrayLike], Metrics]:
    """Makes the function that evaluates the first batches of a block.

    Args:
      eval_step: metrics of a batch whose array `mask` marks the examples to count.

    Returns:
      A function (state, metrics so far, block, num_batches) -> metrics including the block's.
    """

    def evaluate_block(
        state: TrainState, metrics: Metrics, block: Examples, num_batches: jax.typing.ArrayLike
    ) -> Metrics:
        def body(index: jax.Array, metrics: Metrics) -> Metrics:
            return metrics.merge(eval_step(state, _batch(block, index)))

        return jax.lax.fori_loop(0, num_batches, body, metrics)

    return evaluate_block


def _batch(block: Examples, index: jax.Array) -> Examples:
    return {
        name: jax.lax.dynamic_index_in_dim(array, index, keepdims=False)
        for name, array in block.items()
    }
