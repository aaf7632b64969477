"""Assembles the programs of a run: initialization, order, training, and evaluation.

Training, sweeps, ahead-of-time compilation, and the benchmarks all get their programs here.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax
from jax.typing import ArrayLike

from experiments.program import averaging as averages
from experiments.program.alarm import NO_LIMIT, Alarm, LossLimit
from experiments.program.averaging import OFF, Averaging
from experiments.program.blocks import make_evaluate_block, make_train_on_block
from experiments.program.parallel import Strategy
from experiments.program.state import TrainState, make_key
from experiments.program.steps import (
    Batches,
    Examples,
    Metrics,
    Share,
    make_evaluate,
    make_order,
    make_train_steps,
    whole_batch,
)
from experiments.program.weights import to_evaluate
from experiments.tasks.task import Task


class Programs(NamedTuple):
    """The functions of a run, pure or compiled.

    A task whose data stay on disk has other arguments: train takes (state, block, number of steps),
    and evaluate takes (state, metrics so far, block, number of batches); see `program.blocks`. It
    has no statistics.

    Attributes:
      init: PRNG key data -> state at step 0. It takes key data because that can be sent to the
        devices of all processes.
      order: state -> order of its epoch, int32 [num_train].
      train: (state, split, order, number of steps) -> (state, metrics, alarm). The compiled form
        donates the state.
      evaluate: (state, split) -> metrics of the split.
      statistics: (state, training split) -> batch statistics of the state's parameters.
      pictures: state -> uint8 pictures by name, or None if the task has none.
    """

    init: Callable[[ArrayLike], TrainState]
    order: Callable[[TrainState], jax.Array]
    train: Callable[..., tuple[TrainState, Metrics, Alarm]]
    evaluate: Callable[..., Metrics]
    statistics: Callable[[TrainState, Examples], Any] | None
    pictures: Callable[[TrainState], Mapping[str, jax.Array]] | None = None


def pure(
    task: Task,
    optimizer: optax.GradientTransformation,
    batches: Batches,
    *,
    averaging: Averaging = OFF,
    loss_limit: LossLimit = NO_LIMIT,
    share: Share = whole_batch,
) -> Programs:
    """Makes the functions of a run, ready to be compiled or mapped over many trials.

    Args:
      task: what is learned.
      optimizer: the optax chain, which follows the schedule.
      batches: the division of the data set into batches.
      averaging: which averages of the weights the state has.
      loss_limit: the highest training loss that does not trigger the alarm.
      share: from the indices of a batch to those that this program processes.

    Returns:
      The pure functions.
    """

    def init(key_data: ArrayLike) -> TrainState:
        return averages.start(averaging, task.init(make_key(key_data), optimizer))

    def task_step(state: TrainState, batch: Examples) -> tuple[TrainState, Any]:
        return task.train_step(state, batch, optimizer)

    def train_step(state: TrainState, batch: Examples) -> tuple[TrainState, Any]:
        before = state.averages
        state, metrics = task_step(state.replace(averages={}), batch)
        return averages.update(averaging, before, state, batches.steps_per_epoch), metrics

    if task.stream is not None:
        return Programs(
            init=init,
            order=make_order(batches),
            train=make_train_on_block(train_step, task.no_metrics, loss_limit=loss_limit),
            evaluate=_of_weights(make_evaluate_block(task.eval_step)),
            statistics=None,
            pictures=task.pictures and _of_weights(task.pictures),
        )
    evaluate = make_evaluate(
        task.eval_step, task.no_evaluation, batch_size=batches.eval_batch_size, share=share
    )
    return Programs(
        init=init,
        order=make_order(batches),
        train=make_train_steps(
            train_step,
            task.no_metrics,
            batches,
            loss_limit=loss_limit,
            share=share,
            batch=task.batch,
        ),
        evaluate=_of_weights(evaluate),
        statistics=averages.make_statistics(task_step, batches, share=share, batch=task.batch),
        pictures=task.pictures and _of_weights(task.pictures),
    )


def _of_weights(function: Callable[..., Any]) -> Callable[..., Any]:
    """Passes a function the state with the weights that are meant to be evaluated."""

    @functools.wraps(function)
    def of_weights(state: TrainState, *others: Any) -> Any:
        return function(to_evaluate(state), *others)

    return of_weights


def shared_by(batches: Batches, num_devices: int) -> Batches:
    """Returns batches that devices can share equally.

    Evaluation masks the examples that fill its last batch, so its batch size may be rounded up.

    Args:
      batches: batches whose training batch is a multiple of the number of devices.
      num_devices: number of devices.
    """
    rounded = math.ceil(batches.eval_batch_size / num_devices) * num_devices
    return batches._replace(eval_batch_size=rounded)


def compiled(
    task: Task,
    optimizer: optax.GradientTransformation,
    batches: Batches,
    strategy: Strategy,
    *,
    averaging: Averaging = OFF,
    loss_limit: LossLimit = NO_LIMIT,
) -> Programs:
    """Makes the programs of a run on the devices of a strategy; each compiles at its first call.

    Args:
      task: what is learned.
      optimizer: the optax chain, which follows the schedule.
      batches: the division of the data set into batches.
      strategy: how the devices share a step.
      averaging: which averages of the weights the state has.
      loss_limit: the highest training loss that does not trigger the alarm.

    Returns:
      The compiled functions.
    """
    functions = pure(
        task,
        optimizer,
        shared_by(batches, strategy.mesh.size),
        averaging=averaging,
        loss_limit=loss_limit,
        share=strategy.share,
    )
    # Initialization runs once. Level 1 halves its compile time and computes the same bits.
    on_cpu = strategy.mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 1} if on_cpu else None
    return Programs(
        init=jax.jit(functions.init, out_shardings=strategy.replicated, compiler_options=options),
        order=strategy.compile(functions.order, donate=False),
        train=strategy.compile(functions.train, donate=True),
        evaluate=strategy.compile(functions.evaluate, donate=False),
        statistics=functions.statistics and strategy.compile(functions.statistics, donate=False),
        pictures=functions.pictures and strategy.compile(functions.pictures, donate=False),
    )
