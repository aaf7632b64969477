"""The progress of a run: what a checkpoint holds, and how it is restored."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from experiments.build.experiment import Experiment
from experiments.program.assemble import Programs
from experiments.program.parallel import Strategy, replicate
from experiments.program.state import TrainState, key_data
from experiments.program.steps import Metrics
from experiments.runtime import processes
from experiments.runtime.checkpoint import Checkpointer, Record
from experiments.runtime.environment import (
    Change,
    Environment,
    changed,
    environment,
    record_change,
)
from experiments.runtime.guard import Rollback
from experiments.tasks.task import Task


class Progress(NamedTuple):
    """How far a run has come.

    Attributes:
      state: the state, on the devices.
      history: one record per finished epoch.
      metrics: metrics of the steps of the current epoch, on the host.
      seconds: wall-clock time spent in the current epoch.
      rollbacks: records of the rollbacks so far, oldest first.
      environment: where the run is computed now.
      environment_changes: differences between the environments that computed it, oldest first.
      damaged: examples that were replaced because they cannot be read, as (0 for training or 1 for
        evaluation, index).
      best: step and value of the evaluation with the best objective among the checkpoints that
        were saved, or None if the run does not keep that checkpoint.
    """

    state: TrainState
    history: list[dict[str, Any]]
    metrics: Metrics
    seconds: float
    rollbacks: list[Rollback]
    environment: Environment
    environment_changes: list[Change]
    damaged: frozenset[tuple[int, int]] = frozenset()
    best: dict[str, Any] | None = None


def no_metrics(task: Task) -> Metrics:
    """Returns the metrics of no examples, on the host.

    A program makes them, because each constant of an eager call is an implicit transfer.
    """
    return jax.device_get(jax.jit(lambda: task.no_metrics())())


def save(
    checkpointer: Checkpointer, experiment: Experiment, progress: Progress, *, step: int
) -> Progress:
    """Saves the progress of a run at a step.

    Args:
      checkpointer: the checkpointer of the run.
      experiment: the experiment.
      progress: the progress.
      step: number of updates made.

    Returns:
      The progress, with the best checkpoint so far.

    Raises:
      UserError: the save failed.
    """
    best = _best(experiment, progress, step) if experiment.checkpoints.keep_best else None
    record = {
        "history": progress.history,
        "metrics": [leaf.item() for leaf in jax.tree.leaves(progress.metrics)],
        "seconds": progress.seconds,
        "rollbacks": progress.rollbacks,
        "environment": progress.environment,
        "environment_changes": progress.environment_changes,
        "damaged": sorted(progress.damaged),
        "best": best,
    }
    checkpointer.save(step, progress.state, record, best=best["step"] if best else None)
    return progress._replace(best=best)


def _best(experiment: Experiment, progress: Progress, step: int) -> dict[str, Any] | None:
    """Returns the best evaluation of a saved checkpoint, with the one that is being saved."""
    objective = experiment.task.objective
    record = progress.history[-1] if progress.history else {}
    value = record.get(f"test_{objective}")
    if record.get("step") != step or value is None or not math.isfinite(value):
        return progress.best  # not evaluated, such as in the middle of an epoch
    values = [value] if progress.best is None else [progress.best["value"], value]
    is_new = experiment.task.metrics[objective].best(values) == value
    # Of equal values, the first one is the best.
    is_new &= progress.best is None or progress.best["value"] != value
    return {"step": step, "value": value} if is_new else progress.best


def restore(
    checkpointer: Checkpointer,
    experiment: Experiment,
    programs: Programs,
    strategy: Strategy,
    *,
    begin: Callable[[TrainState], TrainState] = lambda state: state,
    require_same_environment: bool = False,
) -> Progress:
    """Restores the progress from the newest checkpoint, or starts a new run.

    Args:
      checkpointer: the checkpointer of the run.
      experiment: the experiment.
      programs: its compiled programs.
      strategy: how devices share a step.
      begin: changes the state of a new run.
      require_same_environment: whether to refuse an environment that may compute other bits than
        the one that saved the checkpoint. Otherwise there is a warning.

    Returns:
      The progress of the newest undamaged checkpoint, or of a run at step 0.

    Raises:
      UserError: there are checkpoints, but all of them are damaged; or the environment is refused.
    """
    here = environment()
    data = replicate(key_data(experiment.seed), strategy.replicated)
    zero_metrics = no_metrics(experiment.task)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=strategy.replicated),
        jax.eval_shape(programs.init, data),
    )
    restored = checkpointer.restore_latest(shapes)
    if restored is None:
        return Progress(begin(programs.init(data)), [], zero_metrics, 0.0, [], here, [])
    state, record = restored
    # JSON keeps plain numbers, so restore each metric's dtype.
    zeros, treedef = jax.tree.flatten(zero_metrics)
    sums = [zero.dtype.type(value) for zero, value in zip(zeros, record["metrics"], strict=True)]
    step = int(jax.device_get(state.step))
    return Progress(
        state=state,
        history=record["history"],
        metrics=jax.tree.unflatten(treedef, sums),
        seconds=record["seconds"],
        rollbacks=record["rollbacks"],
        environment=here,
        environment_changes=processes.together(
            lambda: _changes(record, here, step=step, require_same=require_same_environment)
        ),
        damaged=frozenset((split, index) for split, index in record["damaged"]),
        best=record["best"],
    )


def _changes(record: Record, here: Environment, *, step: int, require_same: bool) -> list[Change]:
    """Returns the changes of the environment so far; the first process reports a new one."""
    changes = record["environment_changes"]
    if not processes.is_first():
        return changes
    return record_change(
        changes,
        changed(record["environment"], here),
        step=step,
        what=f"step {step}",
        require_same=require_same,
    )
