"""Builds a report's tables as text, with one row per model and one column per method."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from experiments.results import intervals
from experiments.results.described import Metric
from experiments.results.rows import swept_fields

# The order of tables 2 and 3 of nakamura2021. Other methods follow in alphabetical order.
METHODS = (
    *("0.1", "0.01", "0.001", "exp", "str", "sig"),
    *("rms", "adam", "rep", "trap", "str+", "sig+"),
)
BASELINE = "cosine"
EMPTY = "-"


def in_order(methods: Iterable[str]) -> list[str]:
    """Sorts methods into the order of columns and curves, and the numbers in names by their value.

    >>> in_order(["cosine", "sig+", "0.1", "sig", "linear"])
    ['0.1', 'sig', 'sig+', 'cosine', 'linear']
    >>> in_order(["trap", "sig (batch_size=128)", "sig (batch_size=64)"])
    ['sig (batch_size=64)', 'sig (batch_size=128)', 'trap']
    """
    rank = {method: place for place, method in enumerate(METHODS)}

    def key(method: str) -> tuple[int, list[str | float], str]:
        # Text and numbers alternate, so that equal places hold equal types.
        parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", method, flags=re.ASCII)
        natural = [float(part) if i % 2 else part for i, part in enumerate(parts)]
        return rank.get(method.split(" (")[0], len(METHODS)), natural, method

    return sorted(set(methods), key=key)


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
      trials: final trials of one data set, as returned by `failures.per_trial`.
      objective: the metric that `trials` summarizes.

    Returns:
      The column `model` and one column per method, whose cells hold the mean, its 95% t interval,
      and how many trials failed. Below each model stands one row per swept field.
    """
    means = _grid(trials, partial(average_cell, objective=objective))
    swept = {field: _grid(trials, partial(_swept_value, field)) for field in swept_fields(trials)}
    names, lines = [], []
    for model in means.index:
        names.append(model)
        lines.append(means.loc[model].tolist())
        for field, values in swept.items():
            if (values.loc[model] != EMPTY).any():
                names.append(f"{model}, {field}")
                lines.append(values.loc[model].tolist())
    return _with_models(pd.DataFrame(lines, index=names, columns=means.columns))


def average_cell(trials: pd.DataFrame, objective: Metric) -> str:
    """Returns the mean of `last` over trials, its interval or range, and how many failed."""
    if trials.empty:
        return EMPTY
    last = trials["last"].to_numpy()
    if np.isnan(last).any():
        return _failures(trials)
    return ", ".join(filter(None, [_mean_text(last, objective), _failures(trials)]))


def best(trials: pd.DataFrame, objective: Metric) -> pd.DataFrame:
    """Tabulates the best objective over all epochs and trials, in the layout of `average`."""

    def cell_text(cell: pd.DataFrame) -> str:
        if cell.empty:
            return EMPTY
        found = cell.best.max() if objective.direction == "max" else cell.best.min()
        text = "" if math.isnan(found) else shown(found, objective)
        return ", ".join(filter(None, [text, _failures(cell)]))

    return _with_models(_grid(trials, cell_text))


def failure_rates(trials: pd.DataFrame) -> pd.DataFrame:
    """Tabulates how many of the trials failed, and diverged, in the layout of `average`."""

    def cell_text(cell: pd.DataFrame) -> str:
        if cell.empty:
            return EMPTY
        diverged = cell.diverged.sum()
        text = f"{cell.failed.sum()}/{len(cell)}"
        return f"{text}, {diverged} diverged" if diverged else text

    return _with_models(_grid(trials, cell_text))


def differences(trials: pd.DataFrame, objective: Metric, baseline: str) -> pd.DataFrame:
    """Tabulates each method minus the baseline, over the seeds that both have.

    Args:
      trials: final trials of one data set, as returned by `failures.per_trial`.
      objective: the metric that `trials` summarizes.
      baseline: one of the methods.

    Returns:
      One row per model and method: `model`, `method`, `seeds`, `failed` and `baseline failed` (out
      of these seeds), `difference` with its 95% t interval, `p` of the paired t test, and
      `p (Holm)`, corrected for all tests in the table.
    """
    by_seed = trials.pivot(index=["model", "seed"], columns="setting", values="last")
    lost = trials.pivot(index=["model", "seed"], columns="setting", values="failed")
    rows, p_values = [], []
    for model in sorted(trials.model.unique()):
        for method in in_order(trials.setting[trials.model == model]):
            if method == baseline:
                continue
            pairs = by_seed.loc[model][[method, baseline]].dropna()
            ours, theirs = pairs[method].to_numpy(), pairs[baseline].to_numpy()
            failed = lost.loc[model].loc[pairs.index, [method, baseline]].sum()
            p_values.append(intervals.paired_p_value(ours, theirs))
            rows.append(
                {
                    "model": model,
                    "method": method,
                    "seeds": str(len(pairs)),
                    "failed": f"{int(failed[method])}/{len(pairs)}",
                    "baseline failed": f"{int(failed[baseline])}/{len(pairs)}",
                    "difference": _mean_text(ours - theirs, objective, sign="+"),
                    "p": "no test" if math.isnan(p_values[-1]) else f"{p_values[-1]:.2g}",
                }
            )
    corrected = intervals.holm(np.array(p_values))
    columns = ["model", "method", "seeds", "failed", "baseline failed", "difference", "p"]
    table = pd.DataFrame(rows, columns=columns)
    table["p (Holm)"] = [EMPTY if math.isnan(p) else f"{p:.2g}" for p in corrected]
    return table


def averaged(trials_of: Mapping[str, pd.DataFrame], objective: Metric) -> pd.DataFrame:
    """Tabulates averages of the weights beside the last weights.

    Args:
      trials_of: "last", and then the name of each average -> final trials of one data set, as
        returned by `failures.per_trial`.
      objective: the metric that they summarize.

    Returns:
      One row per model, method, and kind of weights: `model`, `method`, `weights`, the objective as
      in `average`, and its difference from that of the last weights over the same seeds.
    """
    rows = []
    last, *_ = trials_of.values()
    for model in sorted(last.model.unique()):
        for method in in_order(last.setting[last.model == model]):
            cells = {
                kind: of[(of.model == model) & (of.setting == method)].set_index("seed")
                for kind, of in trials_of.items()
            }
            if sum(not cell.empty for cell in cells.values()) < 2:
                continue
            for kind, cell in cells.items():
                if cell.empty:
                    continue
                pairs = (cell["last"] - cells["last"]["last"]).dropna().to_numpy()
                difference = EMPTY if kind == "last" else _mean_text(pairs, objective, sign="+")
                rows.append(
                    {
                        "model": model,
                        "method": method,
                        "weights": kind,
                        objective.label: average_cell(cell, objective),
                        "difference from last": difference,
                    }
                )
    return pd.DataFrame(rows)


def tuning(trials: pd.DataFrame, objective: Metric) -> pd.DataFrame:
    """Tabulates the objective of each tuned point on the validation split.

    Args:
      trials: trials of one data set and both phases, as returned by `failures.per_trial`.
      objective: the metric that `trials` summarizes.

    Returns:
      One row per model, method, and point: the values of the swept fields, `validation <metric>`
      (mean over the last tenth of epochs, as in `average`), `rank` (1 is the best point of a model
      and method; equal points share a rank), and `chosen` ("yes" if the final trials use the
      point). If several sweeps tuned the same method, their points are ranked separately, and
      `sweep` names their directories.
    """
    fields = swept_fields(trials)
    final = trials[trials.phase == "final"].groupby(["model", "setting"])[fields].max()
    tuned = trials[trials.phase == "tune"]
    several = tuned.groupby(["model", "setting"]).source.nunique().max() > 1
    rows = []
    for model in sorted(tuned.model.unique()):
        for method in in_order(tuned.setting[tuned.model == model]):
            cell = tuned[(tuned.model == model) & (tuned.setting == method)]
            for source, of_sweep in cell.groupby("source"):
                points = [
                    tried for _, tried in of_sweep.groupby(["setting", *fields], dropna=False)
                ]
                for tried, rank in zip(points, _ranks(points, objective), strict=True):
                    values = tried[fields].iloc[0]
                    point = values.dropna()
                    chosen = point.equals(final.loc[(model, method)][point.index])
                    rows.append(
                        {
                            "model": model,
                            "method": method,
                            **({"sweep": source} if several else {}),
                            **{field: _number(values[field]) for field in fields},
                            f"validation {objective.label}": average_cell(tried, objective),
                            "rank": f"{rank:.0f}",
                            "chosen": "yes" if chosen else EMPTY,
                        }
                    )
    return pd.DataFrame(rows)


def _ranks(points: Sequence[pd.DataFrame], objective: Metric) -> pd.Series:
    """Returns the rank of each point by its mean score; equal points share the best rank."""
    means = pd.Series([tried["last"].mean(skipna=False) for tried in points])
    ascending = objective.direction == "min"
    return means.rank(ascending=ascending, method="min", na_option="bottom")


def shown(value: float | np.ndarray, objective: Metric, sign: str = "") -> str:
    """Formats a value of the objective: two decimals in percent, else four significant digits.

    >>> shown(0.98765, Metric("score", "max", percent=True))
    '98.77'
    """
    return f"{objective.scale * value:{sign}{'.2f' if objective.percent else '.4g'}}"


def markdown(table: pd.DataFrame) -> str:
    r"""Formats a table of text as Markdown.

    >>> print(markdown(pd.DataFrame({"model": ["nn2"], "a|b": ["98.50"]})), end="")
    | model | a\|b |
    |---------|--------|
    | nn2 | 98.50 |
    """

    def escaped(text: str) -> str:
        line = "".join(letter if letter.isprintable() else " " for letter in text)
        # Without the doubling, a backslash before a bar would take the bar's own away.
        return re.sub(r"(\\*)\|", r"\1\1\\|", line)

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


def _with_models(cells: pd.DataFrame) -> pd.DataFrame:
    """Puts the index into the first column, `model`; a method may be called model too."""
    cells = cells.copy()
    cells.insert(0, "model", cells.index, allow_duplicates=True)
    return cells.reset_index(drop=True)


def _swept_value(field: str, trials: pd.DataFrame) -> str:
    return _number(trials[field].max())


def _failures(trials: pd.DataFrame) -> str:
    failed = trials.failed.sum()
    return f"{failed}/{len(trials)} failed" if failed else ""


def _mean_text(values: np.ndarray, objective: Metric, sign: str = "") -> str:
    """Returns a mean with its interval, or with the range of two values."""
    if not len(values):
        return EMPTY
    mean, half_width = intervals.mean_interval(values)
    text = shown(mean, objective, sign)
    if len(values) >= intervals.FEWEST_TRIALS:
        return f"{text} ± {shown(half_width, objective)}"
    if len(values) == 1:
        return f"{text} (1 trial)"
    low, high = (shown(value, objective, sign) for value in (values.min(), values.max()))
    return f"{text} ({low} to {high}, {len(values)} trials)"


def _number(value: float) -> str:
    return EMPTY if math.isnan(value) else f"{value:g}"
