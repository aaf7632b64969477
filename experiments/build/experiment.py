"""Turns a config into an experiment: everything that a run needs, checked and built once."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

import loganneal_jax
from experiments.build import averaging, effects, fields, names, ranges
from experiments.build.optimizers import MakeOptimizer, optimizer_maker
from experiments.build.schedules import Run, make_schedule, reaches_peak
from experiments.build.tasks import make_task
from experiments.errors import UserError
from experiments.program import parallel
from experiments.program.alarm import LossLimit
from experiments.program.averaging import Averaging
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
    """How often to save, how many checkpoints to keep, and whether to keep the best one, too."""

    every_epochs: int
    max_to_keep: int
    keep_best: bool = False


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
      averaging: which averages of the weights to keep.
      guard: what to do about a loss that spikes.
      checkpoints: when to save.
      init_from: directory of a run whose weights this run begins with, or None for random ones.
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
    averaging: Averaging
    guard: Guard
    checkpoints: Checkpoints
    init_from: str | None = None

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer of this run, which follows its schedule."""
        return self.make_optimizer(self.schedule, self.weight_decay)

    @property
    def bfloat16(self) -> bool:
        """Whether the model computes in bfloat16."""
        return bool(self.config["model"]["dtype"] == "bfloat16")

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps in an epoch."""
        return self.batches.steps_per_epoch


def build(config: ConfigDict, given: Collection[str] = ()) -> Experiment:
    """Checks a config and builds what it describes, without compiling or loading data.

    A field that has no effect must have its default. Where a section was changed by hand, the
    fields that its config file had set and that the change leaves without effect return to their
    defaults.

    Args:
      config: a config with the fields of `configs/base.py`.
      given: dotted fields that were set by hand, on the command line or by a setting of a sweep.
        All fields of the config count as its file's own otherwise.

    Returns:
      The experiment.

    Raises:
      UserError: a field, or a combination of fields, cannot be used, or a field has no effect.
    """
    fields.check(config)
    recorded = effects.Recorded(config.copy_and_resolve_references())
    experiment = _build(recorded)
    return dataclasses.replace(experiment, config=plain(effects.settle(recorded, given)))


def _build(config: ConfigDict) -> Experiment:
    names.check("parallel.strategy", config.parallel.strategy, parallel.STRATEGIES)
    axis_name = parallel.AXIS if config.parallel.strategy == "pmap" else None
    return of_task(config, make_task(config, axis_name=axis_name))


def of_task(config: ConfigDict, task: Task) -> Experiment:
    """Builds the experiment of a task from everything else in a config.

    Args:
      config: a config that `fields.check` accepted.
      task: the task that its section `task` describes.

    Returns:
      The experiment, whose `config` is empty.

    Raises:
      UserError: the config does not fit the task.
    """
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
    run = Run(batches.steps_per_epoch, num_steps)
    schedule = make_schedule(config.schedule, run)
    if not reaches_peak(effects.unrecorded(config.schedule), run):
        _check_rates(config.schedule.name, schedule, num_steps)
    _check_first_rate(config.optimizer.name, schedule)
    averages = averaging.make_averaging(config.averaging, schedule, run)
    averaging.check(averages, run, config.schedule.name, task.metrics)
    if task.stream is not None and averages.swa_start_epoch is not None:
        raise UserError(
            f"averaging.swa_start_epoch={averages.swa_start_epoch} needs the training split in "
            "memory, for its batch statistics, but the data set is streamed; set "
            "data.loading='memory', or averaging.ema_decay instead"
        )
    return Experiment(
        config={},
        task=task,
        schedule=schedule,
        make_optimizer=optimizer_maker(config.optimizer),
        weight_decay=config.optimizer.weight_decay,
        batches=batches,
        num_steps=num_steps,
        seed=config.seed,
        log_every_steps=config.log_every_steps,
        accumulate_steps=config.parallel.accumulate_steps,
        strategy=config.parallel.strategy,
        averaging=averages,
        guard=_guard(config.guard, batches.steps_per_epoch),
        checkpoints=Checkpoints(
            config.checkpoint.every_epochs,
            config.checkpoint.max_to_keep,
            config.checkpoint.keep_best,
        ),
        init_from=config.init_from,
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
    schedule = make_schedule(config.schedule, run)
    _check_first_rate(config.optimizer.name, schedule)
    return dataclasses.replace(
        experiment,
        config=plain(config),
        schedule=schedule,
        averaging=averaging.make_averaging(config.averaging, schedule, run),
    )


def with_seed(experiment: Experiment, seed: int) -> Experiment:
    """Returns an experiment with another seed; everything else stays.

    Args:
      experiment: the experiment.
      seed: the new seed.

    Raises:
      UserError: the seed is out of range.
    """
    ranges.check(ConfigDict({"seed": seed}), {"seed": ranges.SEED})
    config = {**experiment.config, "seed": seed}
    return dataclasses.replace(experiment, config=config, seed=seed)


def plain(config: ConfigDict) -> dict[str, Any]:
    """Returns a config as the nested dict that JSON stores, with references resolved."""
    return json.loads(config.to_json())


def _check_rates(name: str, schedule: optax.Schedule, num_steps: int) -> None:
    """Refuses a learning rate of 0 at every step."""
    # The first and the last steps decide for almost every schedule, without a long table.
    steps = jax.device_put(np.array([0, num_steps // 2, num_steps - 1], np.int32))
    # Compiling each schedule of a sweep would take longer than building everything else. Operations
    # that are not compiled transfer their constants.
    with jax.disable_jit(), jax.transfer_guard("allow"):
        rates = schedule(steps)
    if jax.device_get(rates).any():
        return
    if not jax.device_get(loganneal_jax.tabulate(schedule, num_steps)).any():
        raise UserError(
            f"the learning rate of schedule.name={name!r} is 0 at every step of the run, so "
            "nothing would be learned; set schedule.peak_value above 0"
        )


def _check_first_rate(optimizer: str, schedule: optax.Schedule) -> None:
    """Refuses a first learning rate of 0 with Prodigy, whose first step would divide 0 by it."""
    first = jax.device_put(np.int32(0))
    if optimizer == "prodigy" and jax.device_get(schedule(first)) == 0:
        raise UserError(
            "optimizer.name='prodigy' cannot begin with a learning rate of 0; set "
            "schedule.warmup_init_value above 0"
        )


def _guard(config: ConfigDict, steps_per_epoch: int) -> Guard:
    threshold = config.loss_threshold
    grace_steps = 0 if threshold is None else round(config.grace_epochs * steps_per_epoch)
    if grace_steps > MAX_COUNT:
        raise UserError(
            f"guard.grace_epochs={config.grace_epochs} at {steps_per_epoch} steps per epoch is "
            f"{grace_steps} steps; at most {MAX_COUNT} can be counted"
        )
    rollbacks = config.max_rollbacks
    return Guard(
        loss_limit=LossLimit(threshold, grace_steps),
        max_rollbacks=rollbacks,
        peak_factor=config.peak_factor if rollbacks else 1.0,
        extra_warmup_epochs=config.extra_warmup_epochs if rollbacks else 0.0,
    )
