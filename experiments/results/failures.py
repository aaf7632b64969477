"""Defines when a trial failed, and scores each trial, failed or not."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from experiments.results.described import Metric
from experiments.results.rows import TRIAL, swept_fields

LAST_EPOCHS = 0.1
# A fraction to maximize must end this far on the way from chance to perfect. The constant
# prediction of the most frequent digit of MNIST, 11.35%, goes 1.5% of the way.
MARGIN = 0.05


def failed(value: float, objective: Metric, chance: float | None) -> bool:
    """Returns whether a trial failed: it diverged, or it ended no better than chance.

    Args:
      value: the trial's objective, averaged over the last tenth of epochs; NaN if it diverged.
      objective: the metric that ranks trials.
      chance: the objective of a guess that ignores the input, or None if there is none.

    >>> score = Metric("score", "max", percent=True)
    >>> [failed(value, score, 0.1) for value in (0.1135, 0.15, math.nan)]
    [True, False, True]
    >>> [failed(value, Metric("loss", "min", percent=False), 2.3) for value in (2.2, 4.6e11)]
    [False, True]
    """
    if not math.isfinite(value):
        return True
    if chance is None:
        return False
    if objective.direction == "min":
        return value >= chance
    if objective.percent:
        return value < chance + MARGIN * (1 - chance)
    return value <= chance


def per_trial(
    rows: pd.DataFrame,
    objective: Metric,
    chance: Mapping[str, float],
    *,
    average: str | None = None,
) -> pd.DataFrame:
    """Summarizes and scores each trial by its objective on the split that was evaluated.

    A failed trial scores the chance level of its data set. Without a chance level, it scores the
    worst `last` of the trials in its table that did not fail, or NaN if all of them failed.

    Args:
      rows: one row per trial and epoch, with the columns `TRIAL`, the swept fields, `diverged`,
        `test_<objective>`, and optionally `split` and `source`.
      objective: the metric that ranks trials.
      chance: data set -> chance level of the objective, for data sets that have one.
      average: name of an average of the weights, which is scored in place of the last weights. Its
        first epochs may have no value, which is then NaN.

    Returns:
      One row per trial, sorted: the columns that identify it, `diverged`, `failed`, `last` (score
      over the last tenth of epochs), and `best` (score of the best epoch).
    """
    extra = [name for name in ("split", "source") if name in rows.columns]
    columns = [*TRIAL, *swept_fields(rows), *extra]
    column = f"test_{average}_{objective.name}" if average else f"test_{objective.name}"
    records = []
    for trial, epochs in rows.groupby(columns, dropna=False):
        values = epochs[column].to_numpy(dtype=float)
        diverged = bool(epochs.diverged.any())
        tail, values = (
            part[~np.isnan(part)] for part in (values[-last_epochs(len(values)) :], values)
        )
        last = math.nan if diverged or not len(tail) else tail.mean()
        best = math.nan
        if len(values):
            best = values.max() if objective.direction == "max" else values.min()
        identity = dict(zip(columns, trial, strict=True))
        is_failed = failed(last, objective, chance.get(identity["data"]))
        summary = {"diverged": diverged, "failed": is_failed, "last": last, "best": best}
        records.append({**identity, **summary})
    trials = pd.DataFrame(records)
    tables = ["data", "phase", *(["split"] if "split" in extra else [])]
    for (data, *_), of_table in trials.groupby(tables):
        lost = of_table.index[of_table.failed]
        kept = of_table["last"][~of_table.failed]
        score = chance.get(data, _worst(kept.to_numpy(), objective))
        trials.loc[lost, ["last", "best"]] = score
    return trials


def last_epochs(epochs: int) -> int:
    """Returns the number of epochs in the last tenth, at least one.

    >>> [last_epochs(epochs) for epochs in (1, 10, 16, 100)]
    [1, 1, 2, 10]
    """
    return max(1, round(LAST_EPOCHS * epochs))


def _worst(values: np.ndarray, objective: Metric) -> float:
    if not len(values):
        return math.nan
    return float(values.min() if objective.direction == "max" else values.max())
