"""Turns a config into an experiment: everything that a run needs, checked and built once."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import optax
from ml_collections import ConfigDict

from experiments.build import fields, names
from experiments.build.optimizers import MakeOptimizer, optimizer_maker
from experiments.build.schedules import Run, make_schedule
from experiments.build.tasks import make_task
from experiments.errors import UserError
from experiments.program import parallel
from experiments.program.alarm import LossLimit
from experiments.program.steps import Batches
from experiments.tasks.task import Task

MAX_STEPS = 10**8  # the learning rate of every step of a run is tabulated
MAX_COUNT = 2**31 - 1  # steps are counted in int32


class Guard(NamedTuple):
    """What to do about a loss that spikes.

    Attributes:
      loss_limit: the highest loss that does not trigger the alarm.
      max_rollbacks: number of times a run may return to a checkpoint.
      peak_factor: factor of the peak learning rate at each rollback.
      extra_warmup_epochs: epochs added to the warmup at each rollback.
    """

    loss_limit: LossLimit
    max_rollbacks: int
    peak_factor: float
    extra_warmup_epochs: float


class Checkpoints(NamedTuple):
    """How often to save, and how many checkpoints to keep."""

    every_epochs: int
    max_to_keep: int


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a run needs, before its data are loaded.

    Attributes:
      config: the config as plain values, with references resolved; the run directory stores it.
      task: what is learned.
      schedule: from steps to learning rates.
      make_optimizer: from a schedule and a weight decay to the optimizer.
      weight_decay: weight decay of this run.
      batches: the division of the training split into batches.
      num_steps: steps of the run.
      seed: seed of the run's key.
      log_every_steps: steps per dispatch, and between two progress reports.
      accumulate_steps: micro-batches per step.
      strategy: how devices share a step, a key of `parallel.STRATEGIES`.
      guard: what to do about a loss that spikes.
      checkpoints: when to save.
    """

    config: dict[str, Any]
    task: Task
    schedule: optax.Schedule
    make_optimizer: MakeOptimizer
    weight_decay: float
    batches: Batches
    num_steps: int
    seed: int
    log_every_steps: int
    accumulate_steps: int
    strategy: str
    guard: Guard
    checkpoints: Checkpoints

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer of this run, which follows its schedule."""
        return self.make_optimizer(self.schedule, self.weight_decay)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in an epoch."""
        return self.batches.steps_per_epoch


def build(config: ConfigDict) -> Experiment:
    """Checks a config and builds what it describes, without compiling or loading data.

    Args:
      config: a config with the fields of `configs/base.py`.

    Returns:
      The experiment.

    Raises:
      UserError: a field, or a combination of fields, cannot be used.
    """
    fields.check(config)
    names.check("parallel.strategy", config.parallel.strategy, parallel.STRATEGIES)
    axis_name = parallel.AXIS if config.parallel.strategy == "pmap" else None
    task = make_task(config, axis_name=axis_name)
    if config.batch_size > task.num_train:
        raise UserError(
            f"batch_size={config.batch_size} is larger than the data set: {task.data} has "
            f"{task.num_train} training examples"
        )
    batches = Batches(task.num_train, config.batch_size, config.eval_batch_size)
    num_steps = round(config.epochs * batches.steps_per_epoch)
    if not 1 <= num_steps <= MAX_STEPS:
        raise UserError(
            f"epochs={config.epochs} at {batches.steps_per_epoch} steps per epoch is {num_steps} "
            f"steps; a run has at least 1 and at most {MAX_STEPS}"
        )
    return Experiment(
        config=plain(config),
        task=task,
        schedule=make_schedule(config.schedule, Run(batches.steps_per_epoch, num_steps)),
        make_optimizer=optimizer_maker(config.optimizer),
        weight_decay=config.optimizer.weight_decay,
        batches=batches,
        num_steps=num_steps,
        seed=config.seed,
        log_every_steps=config.log_every_steps,
        accumulate_steps=config.parallel.accumulate_steps,
        strategy=config.parallel.strategy,
        guard=_guard(config.guard, batches.steps_per_epoch),
        checkpoints=Checkpoints(config.checkpoint.every_epochs, config.checkpoint.max_to_keep),
    )


def with_schedule(experiment: Experiment, changes: Mapping[str, float]) -> Experiment:
    """Rebuilds the schedule of an experiment with other values; everything else stays.

    Args:
      experiment: the experiment.
      changes: values by name of the field in the section `schedule`.

    Returns:
      The experiment with the new schedule, which its optimizer follows.

    Raises:
      UserError: a value cannot be used.
    """
    config = ConfigDict(experiment.config)
    config.schedule.update(changes)
    fields.check(config)
    run = Run(experiment.steps_per_epoch, experiment.num_steps)
    return dataclasses.replace(
        experiment, config=plain(config), schedule=make_schedule(config.schedule, run)
    )


def plain(config: ConfigDict) -> dict[str, Any]:
    """Returns a config as the nested dict that JSON stores, with references resolved."""
    return json.loads(config.to_json())


def _guard(config: ConfigDict, steps_per_epoch: int) -> Guard:
    grace_steps = round(config.grace_epochs * steps_per_epoch)
    if grace_steps > MAX_COUNT:
        raise UserError(
            f"guard.grace_epochs={config.grace_epochs} at {steps_per_epoch} steps per epoch is "
            f"{grace_steps} steps; at most {MAX_COUNT} can be counted"
        )
    return Guard(
        loss_limit=LossLimit(config.loss_threshold, grace_steps),
        max_rollbacks=config.max_rollbacks,
        peak_factor=config.peak_factor,
        extra_warmup_epochs=config.extra_warmup_epochs,
    )
