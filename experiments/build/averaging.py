"""Turns the section `averaging` of a config into the averages of the weights that a run keeps."""

from collections.abc import Collection

import numpy as np
import optax
from ml_collections import ConfigDict

import loganneal_jax
from experiments.build.schedules import Run
from experiments.errors import UserError
from experiments.program.averaging import Averaging, find_cycle_ends


def make_averaging(config: ConfigDict, schedule: optax.Schedule, run: Run) -> Averaging:
    """Reads the section `averaging` of a config.

    Args:
      config: the section, with the fields of `configs/base.py`.
      schedule: the schedule of the run, whose cycles end at its minima.
      run: the length of the run.

    Returns:
      Which averages to keep.
    """
    cycle_ends = None
    if config.cycle_snapshots:
        rates = np.asarray(loganneal_jax.tabulate(schedule, run.num_steps + 1))
        cycle_ends = find_cycle_ends(rates)
    return Averaging(config.ema_decay, config.swa_start_epoch, cycle_ends)


def check(averaging: Averaging, run: Run, schedule: str, metrics: Collection[str]) -> None:
    """Refuses averages that would never begin, or whose metrics have the names of others.

    Args:
      averaging: the result of `make_averaging`.
      run: the length of the run.
      schedule: name of the schedule.
      metrics: names of the task's metrics.

    Raises:
      UserError: an average cannot be used.
    """
    start, epochs = averaging.swa_start_epoch, run.num_steps // run.steps_per_epoch
    if start is not None and start > epochs:
        raise UserError(
            f"averaging.swa_start_epoch={start} is after the last full epoch of the run, {epochs}; "
            "lower it, or set it to None"
        )
    if averaging.cycle_ends is not None and not len(averaging.cycle_ends):
        raise UserError(
            f"averaging.cycle_snapshots=True has no effect: the learning rate of schedule.name="
            f"{schedule!r} does not rise again after it has fallen; set restarts within the run, "
            "or averaging.cycle_snapshots=None"
        )
    taken = sorted(
        f"{name}_{metric}"
        for name in averaging.names
        for metric in metrics
        if f"{name}_{metric}" in metrics
    )
    if taken:
        raise UserError(
            f"the task has a metric {taken[0]!r}, which is also the name of a metric of averaged "
            "weights; rename it, or set the section averaging to its defaults"
        )
