"""The trials of a sweep: settings x grid x tuning seeds, then the best points x final seeds."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.build.experiment import Experiment
from experiments.build.sweeps import Sweep

Point = dict[str, float]  # values of the grid's fields, by dotted name


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
      phase: "tune" (evaluated on a validation split) or "final" (on the test split).
      setting: name of the setting.
      values: values of the fields that are tuned, by dotted name.
      experiment: the experiment.
    """

    phase: str
    setting: str
    values: Mapping[str, float]
    experiment: Experiment


def tuning_trials(sweep: Sweep) -> list[Trial]:
    """Returns every setting at every point of the grid, with each tuning seed.

    Args:
      sweep: the sweep.

    Returns:
      The trials, evaluated on a validation split; an empty list without a grid.

    Raises:
      UserError: the config of a trial cannot be used.
    """
    if not sweep.grid:
        return []
    held_out = sweep.validation_examples
    return [
        Trial(
            "tune",
            setting,
            point,
            sweep.experiment(setting, point, seed, validation_examples=held_out),
        )
        for setting in sweep.settings
        for point in grid_points(sweep)
        for seed in sweep.tune_seeds
    ]


def final_trials(sweep: Sweep, chosen: Mapping[str, Point]) -> list[Trial]:
    """Returns every setting at its chosen point of the grid, with each final seed.

    Args:
      sweep: the sweep.
      chosen: setting -> point; a point is empty without a grid.

    Returns:
      The trials, evaluated on the test split.

    Raises:
      UserError: the config of a trial cannot be used.
    """
    return [
        Trial("final", setting, chosen[setting], sweep.experiment(setting, chosen[setting], seed))
        for setting in sweep.settings
        for seed in sweep.seeds
    ]


def grid_points(sweep: Sweep) -> list[Point]:
    """Returns all combinations of the grid's values; one empty point without a grid."""
    fields = [axis.field for axis in sweep.grid]
    values = itertools.product(*(axis.values for axis in sweep.grid))
    return [dict(zip(fields, point, strict=True)) for point in values]


def best_points(
    sweep: Sweep, scores: Sequence[tuple[str, Mapping[str, float], float]], direction: str
) -> dict[str, Point]:
    """Returns the point of the grid at which each setting has the best mean score.

    Args:
      sweep: the sweep.
      scores: setting, point, and score of each tuning trial. The score is the objective on the
        validation split, averaged over the last tenth of epochs. That of a failed trial is defined
        by `failures.per_trial`; NaN if it has none.
      direction: "max" if higher scores are better, "min" if lower scores are better.

    Returns:
      Setting -> point, the first of equally good ones. A point with a NaN is worse than every point
      without one.
    """
    sign = 1 if direction == "max" else -1

    def best(setting: str) -> Point:
        def quality(point: Point) -> float:
            values = [score for name, at, score in scores if name == setting and at == point]
            mean = sum(values) / len(values)
            return -math.inf if math.isnan(mean) else sign * mean

        return max(grid_points(sweep), key=quality)

    return {setting: best(setting) for setting in sweep.settings}
