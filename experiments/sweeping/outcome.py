"""What the trials of a sweep say: the best points of its grid, its table, and its summary."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.build.sweeps import Sweep
from experiments.results import failures, methods
from experiments.results.described import Metric
from experiments.results.rows import TRIAL
from experiments.sweeping import plan
from experiments.sweeping.plan import Score, Trial
from experiments.sweeping.store import Rows


def tune(sweep: Sweep, tuning: Sequence[Trial], rows: Rows) -> dict[str, plan.Point]:
    """Returns the point that each setting is trained with, by the objective of the tuning trials.

    Args:
      sweep: the sweep, with the grid that was used.
      tuning: the tuning trials of the sweep, which have the same tasks as those that were added.
      rows: one row per tuning trial and epoch.

    Returns:
      Setting -> point. Prints a warning if all trials of a setting failed.
    """
    scores, direction = _scores(sweep, tuning, rows)
    for setting in sweep.settings:
        if setting not in _with_success(scores):
            print(
                f"warning: every tuning trial of setting {setting!r} failed, so its point of the "
                "grid is an arbitrary choice",
                file=sys.stderr,
            )
    return plan.selected_points(sweep, scores, direction)


def grow(sweep: Sweep, grown: Sweep, tuning: Sequence[Trial], rows: Rows) -> list[plan.Point]:
    """Returns the points by which the grid grows, because the best mean of a setting is at an edge.

    A setting without a successful trial has no best mean, so the grid does not grow for it.

    Args:
      sweep: the sweep.
      grown: the sweep with the grid so far.
      tuning: the tuning trials of the sweep, which have the same tasks as those that were added.
      rows: one row per tuning trial and epoch.

    Returns:
      The points; an empty list if tuning has ended.
    """
    if not sweep.max_extensions:
        return []
    scores, direction = _scores(grown, tuning, rows)
    best = plan.best_points(grown, scores, direction)
    return plan.added_points(sweep, grown, [best[name] for name in _with_success(scores)])


def _with_success(scores: Sequence[Score]) -> set[str]:
    """Returns the settings with a trial that did not fail."""
    return {score.setting for score in scores if not score.failed}


def _scores(sweep: Sweep, tuning: Sequence[Trial], rows: Rows) -> tuple[list[Score], str]:
    """Returns the score of each tuning trial, and the direction of the objective."""
    import pandas as pd  # takes half a second

    task = tuning[0].experiment.task
    direction, percent, _ = task.metrics[task.objective]
    levels = {trial.experiment.task.data: _chance_levels(trial) for trial in tuning}
    chance = {data: of[task.objective] for data, of in levels.items() if task.objective in of}
    objective = Metric(task.objective, direction, percent)
    per_trial = failures.per_trial(pd.DataFrame(rows), objective, chance)
    fields = [axis.field for axis in sweep.grid]
    scores = [
        Score(
            trial["setting"],
            {field: trial[field] for field in fields},
            trial["last"],
            trial["failed"],
        )
        for trial in per_trial.to_dict("records")
    ]
    return scores, direction


def describe(
    sweep: Sweep, final: Sequence[Trial], chosen: Mapping[str, plan.Point]
) -> dict[str, Any]:
    """Returns what a summary says about a sweep before its final trials have run.

    Args:
      sweep: the sweep, with the grid that was used.
      final: its final trials.
      chosen: setting -> point of the grid.

    Returns:
      JSON values by name.
    """
    task = final[0].experiment.task
    one_of_each = {trial.experiment.task.data: trial for trial in final}
    return {
        "chosen": dict(chosen),
        "selection": sweep.selection,
        "grid": [{"field": axis.field, "values": list(axis.values)} for axis in sweep.grid],
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
