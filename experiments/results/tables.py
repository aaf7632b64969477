"""Builds a report's tables as text, with one row per model and one column per method."""

import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import pandas as pd

from experiments.results import intervals
from experiments.results.read import Metric, swept_fields

# The order of tables 2 and 3 of nakamura2021. Other methods follow in alphabetical order.
METHODS = (
    *("0.1", "0.01", "0.001", "exp", "str", "sig"),
    *("rms", "adam", "rep", "trap", "str+", "sig+"),
)
BASELINE = "cosine"
EMPTY = "-"


def in_order(methods: Iterable[str]) -> list[str]:
    """Sorts methods into the order of columns and curves.

    >>> in_order(["cosine", "sig+", "0.1", "sig", "linear"])
    ['0.1', 'sig', 'sig+', 'cosine', 'linear']
    """
    rank = {method: place for place, method in enumerate(METHODS)}
    return sorted(set(methods), key=lambda method: (rank.get(method, len(METHODS)), method))


def default_baseline(methods: Iterable[str]) -> str:
    """Returns the method to compare with if the user names none.

    >>> default_baseline(["sig", "cosine"]), default_baseline(["sig", "0.1"])
    ('cosine', '0.1')
    """
    ordered = in_order(methods)
    return BASELINE if BASELINE in ordered else ordered[0]


def average(trials: pd.DataFrame, objective: Metric) -> pd.DataFrame:
    """Tabulates the mean objective of the last tenth of epochs, and the swept values below it.

    Args:
      trials: final trials of one data set, as returned by `read.per_trial`.
      objective: the metric that `trials` summarizes.

    Returns:
      The column `model` and one column per method, whose cells hold the mean and the half-width of
      its 95% t interval. Below each model stands one row per swept field.
    """
    means = _grid(trials, partial(average_cell, objective=objective))
    swept = {field: _grid(trials, partial(_swept_value, field)) for field in swept_fields(trials)}
    lines = {}
    for model in means.index:
        lines[model] = means.loc[model]
        for field, values in swept.items():
            if (values.loc[model] != EMPTY).any():
                lines[f"{model}, {field}"] = values.loc[model]
    return pd.DataFrame(lines).T.rename_axis("model").reset_index()


def average_cell(trials: pd.DataFrame, objective: Metric) -> str:
    """Returns the mean and interval of `last` over trials, and the number that diverged."""
    last = objective.scale * trials["last"][~trials.diverged].to_numpy()
    diverged = int(trials.diverged.sum())
    if not len(last):
        return f"diverged ({diverged} of {diverged})" if diverged else EMPTY
    mean, half_width = intervals.mean_interval(last)
    text = _shown(mean, objective)
    text += " (1 trial)" if len(last) == 1 else f" ± {_shown(half_width, objective)}"
    return f"{text}, {diverged} of {len(trials)} diverged" if diverged else text


def best(trials: pd.DataFrame, objective: Metric) -> pd.DataFrame:
    """Tabulates the best objective over all epochs and trials, in the layout of `average`."""

    def cell_text(cell: pd.DataFrame) -> str:
        found = cell.best.max() if objective.direction == "max" else cell.best.min()
        return EMPTY if cell.diverged.all() else _shown(objective.scale * found, objective)

    return _grid(trials, cell_text).reset_index()


def counts(trials: pd.DataFrame) -> pd.DataFrame:
    """Tabulates the number of trials and how many diverged, in the layout of `average`."""

    def cell_text(cell: pd.DataFrame) -> str:
        diverged = cell.diverged.sum()
        text = str(len(cell)) if len(cell) else EMPTY
        return f"{text}, {diverged} diverged" if diverged else text

    return _grid(trials, cell_text).reset_index()


def differences(trials: pd.DataFrame, objective: Metric, baseline: str) -> pd.DataFrame:
    """Tabulates each method minus the baseline, over the seeds that both have.

    Args:
      trials: final trials of one data set, as returned by `read.per_trial`.
      objective: the metric that `trials` summarizes.
      baseline: one of the methods.

    Returns:
      One row per model and method: `model`, `method`, `seeds`, `difference` with the half-width of
      its 95% t interval, `p` of the paired t test, and `p (Holm)`, corrected for all tests in the
      table.
    """
    by_seed = trials.pivot(index=["model", "seed"], columns="setting", values="last")
    rows, p_values = [], []
    for model in sorted(trials.model.unique()):
        for method in in_order(trials.setting[trials.model == model]):
            if method == baseline:
                continue
            pairs = by_seed.loc[model][[method, baseline]].dropna()
            ours, theirs = pairs[method].to_numpy(), pairs[baseline].to_numpy()
            p_values.append(intervals.paired_p_value(ours, theirs))
            rows.append(
                {
                    "model": model,
                    "method": method,
                    "seeds": str(len(pairs)),
                    "difference": _difference(objective.scale * (ours - theirs), objective),
                    "p": "no test" if math.isnan(p_values[-1]) else f"{p_values[-1]:.2g}",
                }
            )
    corrected = intervals.holm(np.array(p_values))
    table = pd.DataFrame(rows, columns=["model", "method", "seeds", "difference", "p"])
    table["p (Holm)"] = [EMPTY if math.isnan(p) else f"{p:.2g}" for p in corrected]
    return table


def tuning(trials: pd.DataFrame, objective: Metric) -> pd.DataFrame:
    """Tabulates the objective of each tuned point on the validation split.

    Args:
      trials: trials of one data set and both phases, as returned by `read.per_trial`.
      objective: the metric that `trials` summarizes.

    Returns:
      One row per model, method, and point: the values of the swept fields, `validation <metric>`
      (mean over the last tenth of epochs, as in `average`), `rank` (1 is the best point of a model
      and method), and `chosen` ("yes" if the final trials use the point).
    """
    fields = swept_fields(trials)
    final = trials[trials.phase == "final"].groupby(["model", "setting"])[fields].first()
    tuned = trials[trials.phase == "tune"]
    rows = []
    for model in sorted(tuned.model.unique()):
        for method in in_order(tuned.setting[tuned.model == model]):
            cell = tuned[(tuned.model == model) & (tuned.setting == method)]
            points = [tried for _, tried in cell.groupby(["setting", *fields], dropna=False)]
            # A point with a diverged trial ranks below all points without one.
            means = pd.Series([tried["last"].mean(skipna=False) for tried in points])
            ascending = objective.direction == "min"
            ranks = means.rank(ascending=ascending, method="first", na_option="bottom")
            for tried, rank in zip(points, ranks, strict=True):
                values = tried[fields].iloc[0]
                cell_key = (model, method)
                chosen = cell_key in final.index and values.equals(final.loc[cell_key])
                rows.append(
                    {
                        "model": model,
                        "method": method,
                        **{field: _number(values[field]) for field in fields},
                        f"validation {objective.label}": average_cell(tried, objective),
                        "rank": f"{rank:.0f}",
                        "chosen": "yes" if chosen else EMPTY,
                    }
                )
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    r"""Formats a table of text as Markdown.

    >>> print(markdown(pd.DataFrame({"model": ["nn2"], "a|b": ["98.50"]})), end="")
    | model | a\|b |
    |---------|--------|
    | nn2 | 98.50 |
    """

    def escaped(text: str) -> str:
        return text.replace("|", r"\|")

    # Without numparse and stralign, tabulate neither changes cells nor pads them.
    return (
        table.map(escaped)
        .rename(columns=escaped)
        .to_markdown(index=False, disable_numparse=True, stralign=None)
        + "\n"
    )


def _grid(trials: pd.DataFrame, text_of: Callable[[pd.DataFrame], str]) -> pd.DataFrame:
    """Returns the text of each cell, indexed by model. A cell may have no trials."""
    models = pd.Index(sorted(trials.model.unique()), name="model")
    columns = {
        method: [
            text_of(trials[(trials.model == model) & (trials.setting == method)])
            for model in models
        ]
        for method in in_order(trials.setting)
    }
    return pd.DataFrame(columns, index=models)


def _swept_value(field: str, trials: pd.DataFrame) -> str:
    return _number(trials[field].max())


def _difference(differences: np.ndarray, objective: Metric) -> str:
    if not len(differences):
        return EMPTY
    mean, half_width = intervals.mean_interval(differences)
    text = _shown(mean, objective, sign="+")
    return text if len(differences) == 1 else f"{text} ± {_shown(half_width, objective)}"


def _shown(scaled: float | np.ndarray, objective: Metric, sign: str = "") -> str:
    """Formats a value of the objective: two decimals in percent, else four significant digits."""
    return f"{scaled:{sign}{'.2f' if objective.percent else '.4g'}}"


def _number(value: float) -> str:
    return EMPTY if math.isnan(value) else f"{value:g}"
