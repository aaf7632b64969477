"""The tables of a report, as text: a row a model and a column a method, as in nakamura2021."""

import math
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import pandas as pd

from experiments import results, statistics

# The order of tables 2 and 3 of nakamura2021; other methods come after, by name.
METHODS = (
    *("0.1", "0.01", "0.001", "exp", "str", "sig"),
    *("rms", "adam", "rep", "trap", "str+", "sig+"),
)
BASELINE = "cosine"
EMPTY = "-"


def in_order(methods: Iterable[str]) -> list[str]:
    """The methods in the order of columns and curves.

    >>> in_order(["cosine", "sig+", "0.1", "sig", "linear"])
    ['0.1', 'sig', 'sig+', 'cosine', 'linear']
    """
    rank = {method: place for place, method in enumerate(METHODS)}
    return sorted(set(methods), key=lambda method: (rank.get(method, len(METHODS)), method))


def default_baseline(methods: Iterable[str]) -> str:
    """The method to compare with where none is named.

    >>> default_baseline(["sig", "cosine"]), default_baseline(["sig", "0.1"])
    ('cosine', '0.1')
    """
    ordered = in_order(methods)
    return BASELINE if BASELINE in ordered else ordered[0]


def average(trials: pd.DataFrame) -> pd.DataFrame:
    """Mean test accuracy of the last tenth of epochs, and below it what was swept.

    Args:
      trials: of `results.per_trial`, the final ones of one data set.

    Returns:
      The column `model` and one column a method: per cent, with the 95% t interval's half width.
      The row of a model is followed by one for each swept field.
    """
    accuracy = _grid(trials, average_cell)
    swept = {
        field: _grid(trials, partial(_swept_value, field)) for field in results.swept_fields(trials)
    }
    lines = {}
    for model in accuracy.index:
        lines[model] = accuracy.loc[model]
        for field, values in swept.items():
            if (values.loc[model] != EMPTY).any():
                lines[f"{model}, {field}"] = values.loc[model]
    return pd.DataFrame(lines).T.rename_axis("model").reset_index()


def average_cell(trials: pd.DataFrame) -> str:
    """Mean and interval of `last` over trials, in per cent; those that diverged are counted."""
    last = 100 * trials["last"][~trials.diverged].to_numpy()
    diverged = int(trials.diverged.sum())
    if not len(last):
        return f"diverged ({diverged} of {diverged})" if diverged else EMPTY
    mean, half_width = statistics.mean_interval(last)
    text = f"{mean:.2f} (1 trial)" if len(last) == 1 else f"{mean:.2f} ± {half_width:.2f}"
    return f"{text}, {diverged} of {len(trials)} diverged" if diverged else text


def maximum(trials: pd.DataFrame) -> pd.DataFrame:
    """Highest test accuracy of all epochs and trials, in per cent; laid out as `average`."""

    def cell_text(cell: pd.DataFrame) -> str:
        return EMPTY if cell.diverged.all() else f"{100 * cell.best.max():.2f}"

    return _grid(trials, cell_text).reset_index()


def counts(trials: pd.DataFrame) -> pd.DataFrame:
    """Number of trials, and of those that diverged; laid out as `average`."""

    def cell_text(cell: pd.DataFrame) -> str:
        diverged = cell.diverged.sum()
        text = str(len(cell)) if len(cell) else EMPTY
        return f"{text}, {diverged} diverged" if diverged else text

    return _grid(trials, cell_text).reset_index()


def differences(trials: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Every method less the baseline, on the seeds that both have.

    Args:
      trials: of `results.per_trial`, the final ones of one data set.
      baseline: one of its methods.

    Returns:
      One row a model and method: `model`, `method`, `seeds`, `difference` in percentage points with
      the 95% t interval's half width, `p` of the paired t test, and `p (Holm)`, corrected for all
      tests of the table.
    """
    by_seed = trials.pivot(index=["model", "seed"], columns="setting", values="last")
    rows, p_values = [], []
    for model in sorted(trials.model.unique()):
        for method in in_order(trials.setting[trials.model == model]):
            if method == baseline:
                continue
            pairs = by_seed.loc[model][[method, baseline]].dropna()
            ours, theirs = pairs[method].to_numpy(), pairs[baseline].to_numpy()
            p_values.append(statistics.paired_p_value(ours, theirs))
            rows.append(
                {
                    "model": model,
                    "method": method,
                    "seeds": str(len(pairs)),
                    "difference": _difference(100 * (ours - theirs)),
                    "p": "no test" if math.isnan(p_values[-1]) else f"{p_values[-1]:.2g}",
                }
            )
    corrected = statistics.holm(np.array(p_values))
    table = pd.DataFrame(rows, columns=["model", "method", "seeds", "difference", "p"])
    table["p (Holm)"] = [EMPTY if math.isnan(p) else f"{p:.2g}" for p in corrected]
    return table


def tuning(trials: pd.DataFrame) -> pd.DataFrame:
    """Validation accuracy of every value that was tried, and which one the final trials have.

    Args:
      trials: of `results.per_trial`, of one data set and both phases.

    Returns:
      One row a model, method and value of the swept fields, with their columns, the mean of the
      last tenth of epochs in `validation accuracy` as in `average`, `rank` among those of the same
      model and method, of which 1 is the best, and `chosen`, yes or -.
    """
    fields = results.swept_fields(trials)
    final = trials[trials.phase == "final"].groupby(["model", "setting"])[fields].first()
    tuned = trials[trials.phase == "tune"]
    rows = []
    for model in sorted(tuned.model.unique()):
        for method in in_order(tuned.setting[tuned.model == model]):
            cell = tuned[(tuned.model == model) & (tuned.setting == method)]
            points = [tried for _, tried in cell.groupby(["setting", *fields], dropna=False)]
            # A point of which one trial diverged is worse than any of which none did.
            means = pd.Series([tried["last"].mean(skipna=False) for tried in points])
            ranks = means.rank(ascending=False, method="first", na_option="bottom")
            for tried, rank in zip(points, ranks, strict=True):
                values = tried[fields].iloc[0]
                cell_key = (model, method)
                chosen = cell_key in final.index and values.equals(final.loc[cell_key])
                rows.append(
                    {
                        "model": model,
                        "method": method,
                        **{field: _number(values[field]) for field in fields},
                        "validation accuracy": average_cell(tried),
                        "rank": f"{rank:.0f}",
                        "chosen": "yes" if chosen else EMPTY,
                    }
                )
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    r"""A table of text in Markdown.

    >>> print(markdown(pd.DataFrame({"model": ["nn2"], "a|b": ["98.55"]})), end="")
    | model | a\|b |
    | --- | --- |
    | nn2 | 98.55 |
    """
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    escaped = [[text.replace("|", "\\|") for text in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def _grid(trials: pd.DataFrame, text_of: Callable[[pd.DataFrame], str]) -> pd.DataFrame:
    """The text of each cell's trials, which may be none, with the models as the index."""
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


def _difference(points: np.ndarray) -> str:
    if not len(points):
        return EMPTY
    mean, half_width = statistics.mean_interval(points)
    return f"{mean:+.2f}" if len(points) == 1 else f"{mean:+.2f} ± {half_width:.2f}"


def _number(value: float) -> str:
    return EMPTY if math.isnan(value) else f"{value:g}"
