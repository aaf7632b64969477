"""The progress of a run: what a checkpoint holds, and how it is restored."""

from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.build.experiment import Experiment
from experiments.program.assemble import Programs
from experiments.program.parallel import Strategy
from experiments.program.state import TrainState
from experiments.program.steps import Metrics
from experiments.runtime.checkpoint import Checkpointer
from experiments.runtime.guard import Rollback


class Progress(NamedTuple):
    """How far a run has come.

    Attributes:
      state: the state, on the devices.
      history: one record per finished epoch.
      metrics: metrics of the steps of the current epoch, on the host.
      seconds: wall-clock time spent in the current epoch.
      rollbacks: records of the rollbacks so far, oldest first.
    """

    state: TrainState
    history: list[dict[str, Any]]
    metrics: Metrics
    seconds: float
    rollbacks: list[Rollback]


def save(checkpointer: Checkpointer, progress: Progress, *, step: int) -> None:
    """Saves the progress of a run at a step.

    Args:
      checkpointer: the checkpointer of the run.
      progress: the progress.
      step: number of updates made.

    Raises:
      UserError: the save failed.
    """
    record = {
        "history": progress.history,
        "metrics": [leaf.item() for leaf in jax.tree.leaves(progress.metrics)],
        "seconds": progress.seconds,
        "rollbacks": progress.rollbacks,
    }
    checkpointer.save(step, progress.state, record)


def restore(
    checkpointer: Checkpointer, experiment: Experiment, programs: Programs, strategy: Strategy
) -> Progress:
    """Restores the progress from the newest checkpoint, or starts a new run.

    Args:
      checkpointer: the checkpointer of the run.
      experiment: the experiment.
      programs: its compiled programs.
      strategy: how devices share a step.

    Returns:
      The progress of the newest undamaged checkpoint, or of a run at step 0.

    Raises:
      UserError: there are checkpoints, but all of them are damaged.
    """
    key_data = np.asarray(jax.random.key_data(jax.random.key(experiment.seed)))
    no_metrics = jax.device_get(experiment.task.no_metrics())
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=strategy.replicated),
        jax.eval_shape(programs.init, key_data),
    )
    restored = checkpointer.restore_latest(shapes)
    if restored is None:
        return Progress(programs.init(key_data), [], no_metrics, 0.0, [])
    state, record = restored
    # JSON keeps plain numbers, so restore each metric's dtype.
    zeros, treedef = jax.tree.flatten(no_metrics)
    sums = [zero.dtype.type(value) for zero, value in zip(zeros, record["metrics"], strict=True)]
    metrics = jax.tree.unflatten(treedef, sums)
    return Progress(state, record["history"], metrics, record["seconds"], record["rollbacks"])
