"""The trials of a sweep: settings x grid x tuning seeds, then the chosen points x final seeds."""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from experiments.build.experiment import Experiment
from experiments.build.sweeps import BEST, Axis, Sweep
from experiments.errors import UserError

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


class Score(NamedTuple):
    """The score of a tuning trial.

    Attributes:
      setting: name of the setting.
      point: its point of the grid.
      value: the objective on the validation split, averaged over the last tenth of epochs. That of
        a failed trial is defined by `failures.per_trial`; NaN if it has none.
      failed: whether the trial failed.
    """

    setting: str
    point: Mapping[str, float]
    value: float
    failed: bool = False


class Stage(NamedTuple):
    """Trials that must end before the next ones are planned.

    Attributes:
      name: how the directories of its blocks begin: "tune", "tune-extended-1" for the first points
        by which the grid grows, and so on, and "final".
      points: the points of its tuning trials; None for all points of the sweep's grid.
      chosen: setting -> point of its final trials; empty while tuning.
    """

    name: str
    points: Sequence[Point] | None = None
    chosen: Mapping[str, Point] = {}


def trials_of(sweep: Sweep, stage: Stage) -> list[Trial]:
    """Returns the trials of a stage.

    Args:
      sweep: the sweep.
      stage: the stage.

    Returns:
      Its tuning trials or its final trials.

    Raises:
      UserError: the config of a trial cannot be used.
    """
    if stage.chosen:
        return final_trials(sweep, stage.chosen)
    return tuning_trials(sweep, stage.points)


def tuning_trials(sweep: Sweep, points: Sequence[Point] | None = None) -> list[Trial]:
    """Returns every setting at every point of the grid, with each tuning seed.

    Args:
      sweep: the sweep.
      points: the points, if not all points of the sweep's grid.

    Returns:
      The trials, evaluated on a validation split; an empty list without a grid.

    Raises:
      UserError: the config of a trial cannot be used.
    """
    if not sweep.grid:
        return []
    held_out = sweep.validation_examples
    return [
        Trial("tune", setting, point, experiment)
        for setting in sweep.settings
        for point in (grid_points(sweep) if points is None else points)
        for experiment in sweep.experiments(
            setting, point, sweep.tune_seeds, validation_examples=held_out
        )
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
        Trial("final", setting, chosen[setting], experiment)
        for setting in sweep.settings
        for experiment in sweep.experiments(setting, chosen[setting], sweep.seeds)
    ]


def grid_points(sweep: Sweep) -> list[Point]:
    """Returns all combinations of the grid's values; one empty point without a grid."""
    fields = [axis.field for axis in sweep.grid]
    values = itertools.product(*(axis.values for axis in sweep.grid))
    return [dict(zip(fields, point, strict=True)) for point in values]


def best_points(sweep: Sweep, scores: Sequence[Score], direction: str) -> dict[str, Point]:
    """Returns the point of the grid at which each setting has the best mean score.

    Args:
      sweep: the sweep.
      scores: the score of each tuning trial.
      direction: "max" if higher scores are better, "min" if lower scores are better.

    Returns:
      Setting -> point, the first of equally good ones. A point with a NaN is worse than every point
      without one.
    """
    sign = 1 if direction == "max" else -1

    def best(setting: str) -> Point:
        def quality(point: Point) -> float:
            values = [of.value for of in scores if of.setting == setting and of.point == point]
            mean = sum(values) / len(values)
            return -math.inf if math.isnan(mean) else sign * mean

        return max(grid_points(sweep), key=quality)

    return {setting: best(setting) for setting in sweep.settings}


def selected_points(sweep: Sweep, scores: Sequence[Score], direction: str) -> dict[str, Point]:
    """Returns the point that each setting is trained with, by the selection of the sweep.

    Args:
      sweep: the sweep, with the grid that was used.
      scores: the score of each tuning trial.
      direction: "max" if higher scores are better, "min" if lower scores are better.

    Returns:
      Setting -> point.
    """
    if sweep.selection == BEST:
        return best_points(sweep, scores, direction)
    (axis,) = sweep.grid

    def middle(setting: str) -> Point:
        of_points = [
            [of for of in scores if of.setting == setting and of.point == point]
            for point in grid_points(sweep)
        ]
        values = np.array([[of.value for of in trials] for trials in of_points])
        failed = np.array([[of.failed for of in trials] for trials in of_points])
        return {axis.field: middle_value(axis.values, values, failed, direction)}

    return {setting: middle(setting) for setting in sweep.settings}


def middle_value(
    values: Sequence[float], scores: np.ndarray, failed: np.ndarray, direction: str
) -> float:
    """Returns the middle one of all values whose mean is within one standard error of the best.

    Args:
      values: the values of the only axis of the grid.
      scores: [values, seeds], the scores of one setting; a value with a NaN has no mean.
      failed: [values, seeds], whether each trial failed.
      direction: "max" if higher scores are better, "min" if lower scores are better.

    Returns:
      The middle one by size, the smaller of two middle ones; the first value if none has a mean.

    >>> scores = np.array([[0.5, 0.5], [0.7, 0.75], [0.7, 0.8], [0.74, 0.72]])
    >>> middle_value([1, 2, 4, 8], scores, np.full((4, 2), False), "max")
    4
    """
    means = scores.mean(axis=1) * (1 if direction == "max" else -1)
    if np.isnan(means).all():
        return values[0]
    limit = np.nanmax(means) - standard_error(scores, failed)
    near = sorted(value for value, mean in zip(values, means, strict=True) if mean >= limit)
    return near[(len(near) - 1) // 2]


def standard_error(scores: np.ndarray, failed: np.ndarray) -> float:
    """Returns the standard error of a point's mean, pooled over the points of one setting.

    A failed trial has the score of chance or of the worst trial, which says nothing about seeds. So
    the pool has the points without failed trials, or all points with scores if there are none.

    Args:
      scores: [points, seeds], NaN for a trial without a score.
      failed: [points, seeds], whether each trial failed.

    Returns:
      The root of the variance between the seeds of a point, averaged over points, by the number of
      seeds; NaN if every point has a NaN.

    >>> scores = np.array([[1.0, 3.0], [6.0, 8.0], [0.0, 9.0]])
    >>> standard_error(scores, scores == 0.0)
    1.0
    """
    scored = ~np.isnan(scores).any(axis=1)
    intact = scored & ~failed.any(axis=1)
    pool = scores[intact if intact.any() else scored]
    if not len(pool):
        return math.nan
    return float(np.sqrt(pool.var(axis=1, ddof=1).mean() / scores.shape[1]))


def added_points(sweep: Sweep, grown: Sweep, best: Collection[Point]) -> list[Point]:
    """Returns the points by which the grid grows.

    Args:
      sweep: the sweep.
      grown: the sweep with the grid so far.
      best: the points with the best mean of all settings.

    Returns:
      A point beyond each edge that is among the best, has not grown `max_extensions` times, and
      beyond which no trial is refused, such as one whose value is out of the field's range.
    """
    if not sweep.max_extensions:
        return []
    ((field, first), (_, values)) = *sweep.grid, *grown.grid
    at = {point[field] for point in best}
    added = added_values(values, first, at, sweep.max_extensions)
    return [{field: value} for value in added if _is_allowed(sweep, {field: value})]


def added_values(
    values: Sequence[float], first: Sequence[float], best: Collection[float], max_extensions: int
) -> list[float]:
    """Returns the values by which an axis grows, in the ratio of the values at each edge.

    Args:
      values: the values so far, in geometric progression.
      first: the values before the first extension.
      best: the values with the best mean of all settings.
      max_extensions: how many times each edge may grow.

    Returns:
      One value beyond each edge that is among the best and has not grown that often.

    >>> added_values([0.1, 0.2, 0.4], [0.1, 0.2, 0.4], {0.2, 0.4}, 1)
    [0.8]
    >>> added_values([0.1, 0.2, 0.4, 0.8], [0.1, 0.2, 0.4], {0.1, 0.8}, 1)
    [0.05]
    """
    added = []
    if values[0] in best and values.index(first[0]) < max_extensions:
        added.append(_beyond(values[0], values[1]))
    if values[-1] in best and len(values) - 1 - values.index(first[-1]) < max_extensions:
        added.append(_beyond(values[-1], values[-2]))
    return added


def _beyond(edge: float, neighbor: float) -> float:
    """Returns the next value of a geometric progression, to 12 digits: 0.8, not 0.8000000000001.

    >>> _beyond(0.5, 0.1), _beyond(4, 2), _beyond(1, 2)
    (2.5, 8, 0.5)
    """
    value = float(f"{edge * (edge / neighbor):.12g}")
    is_integer = isinstance(edge, int) and isinstance(neighbor, int) and value.is_integer()
    return int(value) if is_integer else value


def _is_allowed(sweep: Sweep, point: Point) -> bool:
    try:
        tuning_trials(sweep, [point])
    except UserError:
        return False
    return True


def with_points(sweep: Sweep, points: Sequence[Point]) -> Sweep:
    """Returns a sweep of one axis, whose grid has more points, in ascending order."""
    (axis,) = sweep.grid
    values = sorted([*axis.values, *(point[axis.field] for point in points)])
    return sweep._replace(grid=(Axis(axis.field, tuple(values)),))
