"""What the trials of a sweep say: the best points of its grid, its table, and its summary."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.build.sweeps import Sweep
from experiments.results import failures, methods
from experiments.results.described import Metric
from experiments.results.rows import TRIAL
from experiments.sweeping import plan
from experiments.sweeping.plan import Trial
from experiments.sweeping.store import Rows


def tune(sweep: Sweep, tuning: Sequence[Trial], rows: Rows) -> dict[str, plan.Point]:
    """Returns the best point of each setting, by the objective of the tuning trials.

    Args:
      sweep: the sweep.
      tuning: its tuning trials.
      rows: one row per tuning trial and epoch.

    Returns:
      Setting -> point. Prints a warning if all trials of a setting failed.
    """
    import pandas as pd  # takes half a second

    task = tuning[0].experiment.task
    direction, percent, _ = task.metrics[task.objective]
    levels = {trial.experiment.task.data: _chance_levels(trial) for trial in tuning}
    chance = {data: of[task.objective] for data, of in levels.items() if task.objective in of}
    objective = Metric(task.objective, direction, percent)
    per_trial = failures.per_trial(pd.DataFrame(rows), objective, chance)
    for setting, failed in per_trial.groupby("setting", sort=False).failed.all().items():
        if failed:
            print(
                f"warning: every tuning trial of setting {setting!r} failed, so the first of its "
                "best points is an arbitrary choice",
                file=sys.stderr,
            )
    fields = [axis.field for axis in sweep.grid]
    scores = [
        (trial["setting"], {field: trial[field] for field in fields}, trial["last"])
        for trial in per_trial.to_dict("records")
    ]
    return plan.best_points(sweep, scores, direction)


def describe(
    sweep: Sweep, final: Sequence[Trial], chosen: Mapping[str, plan.Point]
) -> dict[str, Any]:
    """Returns what a summary says about a sweep before its final trials have run.

    Args:
      sweep: the sweep.
      final: its final trials.
      chosen: setting -> point of the grid.

    Returns:
      JSON values by name.
    """
    task = final[0].experiment.task
    one_of_each = {trial.experiment.task.data: trial for trial in final}
    return {
        "chosen": dict(chosen),
        "task": final[0].experiment.config["task"]["name"],
        "metrics": task.description()["metrics"],
        "objective": task.objective,
        # Settings may differ in the data set, and so in the chance levels.
        "chance": {data: _chance_levels(trial) for data, trial in one_of_each.items()},
        "floors": {data: _floors(trial) for data, trial in one_of_each.items()},
        "settings": {trial.setting: _changed_fields(sweep, trial) for trial in final},
    }


def table(rows: Rows) -> tuple[str, int]:
    """Returns `trials.csv`, and the number of trials that diverged.

    Args:
      rows: one row per trial and epoch.
    """
    import pandas as pd  # takes half a second

    frame = pd.DataFrame(rows)
    trial_columns = [name for name in frame.columns if name in TRIAL or "." in name]
    diverged = frame.groupby(trial_columns, dropna=False).diverged.any()
    return frame.to_csv(index=False), int(diverged.sum())


def _chance_levels(trial: Trial) -> dict[str, float]:
    """Returns the chance levels of a trial's metrics that have one."""
    metrics = trial.experiment.task.metrics
    return {name: of.chance for name, of in metrics.items() if of.chance is not None}


def _floors(trial: Trial) -> dict[str, dict[str, Any]]:
    """Returns what the metrics of a trial's task are compared with."""
    return {name: floor._asdict() for name, floor in trial.experiment.task.floors().items()}


def _changed_fields(sweep: Sweep, trial: Trial) -> dict[str, Any]:
    """Returns the fields in which a trial differs from the base, those by reference included."""
    base = methods.flatten(sweep.config["base"])
    config = methods.flatten(trial.experiment.config)
    return {
        field: value
        for field, value in config.items()
        if field != "seed" and (field not in base or base[field] != value)
    }
