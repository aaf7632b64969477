"""Draws curves over epochs: the mean over trials, its interval, and the learning rate below."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.results import intervals, tables
from experiments.results.described import Metric
from experiments.results.learning_rates import Rates
from experiments.results.rows import TRIAL

MAX_COLUMNS = 3
PANEL_INCHES = (4.6, 4.6)
LEGEND_COLUMNS_PER_PANEL = 2
LEGEND_LINE_INCHES = 0.2
LEGEND_LABEL_LETTERS = 30
STEPS_LINE_WIDTH = 0.8
COLORS = (
    *("#1d4ed8", "#ea580c", "#15803d", "#b91c1c", "#7c3aed"),
    *("#0891b2", "#a16207", "#db2777", "#4b5563"),
)
LINE_STYLES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))
# At most this percentage of the means in the second half of training may lie below the panel.
HIDDEN_PERCENT = 10


def draw(
    rows: pd.DataFrame,
    trials: pd.DataFrame,
    split: str,
    metric: Metric,
    rates: Mapping[tuple[str, str], Rates],
    *,
    chance: float | None,
    floors: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Draws one panel per model, with the learning rate over the same epochs below it.

    The axis of a metric to maximize is cut to where the curves end, and names the methods below it.
    The axis of a metric to minimize is logarithmic, unless a mean is negative.

    Args:
      rows: final rows of one data set, as returned by `read.read`.
      trials: their summaries, as returned by `failures.per_trial`.
      split: "train" or "test"; the latter may be a validation split, according to `rows.split`.
      metric: the metric to draw.
      rates: model and method -> learning rates.
      chance: chance level of the metric, if there is one.
      floors: what the metric is compared with, such as "entropy rate of the chain", and its values,
        drawn as dotted lines.

    Returns:
      The figure. A line is the mean over trials, and its band is the 95% t interval of the mean, or
      the range of two trials. From the epoch at which a trial diverged, it counts with the chance
      level, or with the worst value in the figure.
    """
    methods = tables.in_order(rows.setting)
    models = sorted(rows.model.unique())
    columns = min(len(models), MAX_COLUMNS)
    bands = -(-len(models) // columns)
    legend_columns = LEGEND_COLUMNS_PER_PANEL * columns
    labels = {method: _label(method + _remark(trials, method)) for method in methods}
    entries = [*labels.values(), *map(_label, floors or {})]
    legend_inches = LEGEND_LINE_INCHES * _legend_lines(entries, legend_columns)
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * bands + legend_inches)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    grid = figure.subplots(
        2 * bands, columns, sharex=True, squeeze=False, height_ratios=[3, 1] * bands
    )
    uppers, lowers = grid[::2].flat, grid[1::2].flat
    for axis in (*uppers[len(models) :], *lowers[len(models) :]):
        axis.remove()
    rows = _scored(rows, f"{split}_{metric.name}", metric, chance)
    for model, upper, lower in zip(models, uppers, lowers, strict=False):
        means = _draw_curves(rows[rows.model == model], metric.scale, methods, upper)
        values = [value for of in (floors or {}).values() for value in of]
        for value in values:
            upper.axhline(metric.scale * value, color="black", linestyle=":", linewidth=1)
        _limit(upper, means, metric, values)
        _draw_rates({m: of for (name, m), of in rates.items() if name == model}, methods, lower)
        upper.set_title(_plain(model), fontsize=10)
        lower.set_xlim(0, rows.epoch.max())
        lower.set_xlabel("epoch", fontsize=9)
        lower.tick_params(labelbottom=True)
        for axis in (upper, lower):
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(which="both", labelsize=8)
    shown = "train" if split == "train" else rows.split.iloc[0]
    label = f"{shown} {metric.label}" + (" (%)" if metric.percent else "")
    for upper, lower in zip(grid[::2, 0], grid[1::2, 0], strict=True):
        upper.set_ylabel(label, fontsize=9)
        lower.set_ylabel("learning rate", fontsize=9)
    handles = [
        Line2D([], [], **_style(methods, method), label=labels[method]) for method in methods
    ]
    handles += [
        Line2D([], [], color="black", linestyle=":", linewidth=1, label=_label(meaning))
        for meaning in floors or {}
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns, fontsize=8)
    return figure


def _scored(rows: pd.DataFrame, column: str, metric: Metric, chance: float | None) -> pd.DataFrame:
    """Adds the column `value`, in which diverged epochs have their score, NaN if there is none."""
    kept = rows[column][~rows.diverged]
    worst = kept.min() if metric.direction == "max" else kept.max()
    score = worst if chance is None else chance
    return rows.assign(value=rows[column].where(~rows.diverged, score))


def _draw_curves(
    rows: pd.DataFrame, scale: float, methods: Sequence[str], axis: Axes
) -> dict[str, np.ndarray]:
    """Draws the curves of one model and returns the mean of each method, `[epochs]`."""
    means = {}
    rows = rows.assign(line=rows.groupby(TRIAL).cumcount())
    for method in methods:
        trials = rows[rows.setting == method]
        if trials.empty or trials.value.isna().any():
            continue
        style = _style(methods, method)
        epochs = trials.groupby("line").epoch.first().to_numpy()
        values = scale * trials.pivot(index="seed", columns="line", values="value").to_numpy()
        mean, half_width = intervals.mean_interval(values)
        # A line through a single point is invisible, so mark the point.
        axis.plot(epochs, mean, **style, marker="." if len(epochs) == 1 else None)
        if len(values) > 1:
            low, high = mean - half_width, mean + half_width
            if len(values) < intervals.FEWEST_TRIALS:
                low, high = values.min(axis=0), values.max(axis=0)
            axis.fill_between(epochs, low, high, color=style["color"], alpha=0.12, linewidth=0)
        means[method] = mean
    return means


def _draw_rates(rates: Mapping[str, Rates], methods: Sequence[str], axis: Axes) -> None:
    """Draws learning rates: thin lines if they show every step, because spikes overlap."""
    for method, (epochs, values, every_step) in rates.items():
        style = _style(methods, method)
        if every_step:
            style["linewidth"] = STEPS_LINE_WIDTH
        axis.plot(epochs, values, **style, marker="." if len(epochs) == 1 else None)
    if not any((of.values < 0).any() for of in rates.values()):
        axis.set_ylim(bottom=0)


def _limit(
    axis: Axes, means: dict[str, np.ndarray], metric: Metric, floors: Sequence[float]
) -> None:
    """Sets the vertical scale and range, and names the methods that end below it.

    Only the means and, for a metric to minimize, the floors determine the range, because the
    interval of two trials can be very wide.
    """
    if not means:
        return
    drawn = np.array(list(means.values()))
    if metric.direction == "min":
        positive = drawn[drawn > 0]
        if positive.size and drawn.min() >= 0:
            axis.set_yscale("log")
            low = min([positive.min(), *(metric.scale * value for value in floors if value > 0)])
            axis.set_ylim(0.8 * low, 1.25 * positive.max())
        return
    bottom = np.percentile(drawn[:, drawn.shape[1] // 2 :], HIDDEN_PERCENT)
    margin = 0.1 * (drawn.max() - bottom)
    if margin > 0:
        top = drawn.max() + margin
        axis.set_ylim(bottom - margin, min(top, 100) if metric.percent else top)
        below = [method for method, mean in means.items() if mean[-1] < bottom - margin]
        if below:
            axis.text(
                0.01,
                0.02,
                _plain(f"below: {', '.join(below)}"),
                transform=axis.transAxes,
                fontsize=8,
                zorder=10,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )


def _style(methods: Sequence[str], method: str) -> dict[str, Any]:
    place = methods.index(method)
    return {
        "color": COLORS[place % len(COLORS)],
        "linestyle": LINE_STYLES[place // len(COLORS) % len(LINE_STYLES)],
        "linewidth": 1.4,
    }


def _remark(trials: pd.DataFrame, method: str) -> str:
    """Returns the legend's note about models where a method has one trial, or trials failed."""
    by_model = trials[trials.setting == method].groupby("model").failed.agg(["size", "sum"])
    notes: dict[str, list[str]] = {}
    for model, (number, failed) in by_model.iterrows():
        if number == 1 and not failed:
            notes.setdefault("1 trial", []).append(model)
        if failed:
            notes.setdefault(f"{failed}/{number} failed", []).append(model)
    remarks = [
        text + ("" if len(models) == len(by_model) else f" in {', '.join(models)}")
        for text, models in notes.items()
    ]
    return f" ({'; '.join(remarks)})" if remarks else ""


def _label(text: str) -> str:
    """Returns a label as the legend shows it, in several lines if it is long."""
    # A legend leaves out labels that begin with an underscore.
    shown = f" {text}" if text.startswith("_") else text
    return _plain("\n".join(textwrap.wrap(shown, LEGEND_LABEL_LETTERS, drop_whitespace=False)))


def _legend_lines(labels: Sequence[str], columns: int) -> int:
    """Returns the height of a legend in lines; it fills one column after another."""
    height = -(-len(labels) // columns)
    lines = [label.count("\n") + 1 for label in labels]
    return max(sum(lines[start : start + height]) for start in range(0, len(labels), height))


def _plain(text: str) -> str:
    r"""Returns text that matplotlib does not take for a formula.

    >>> print(_plain("$x$"))
    \$x\$
    """
    return text.replace("$", r"\$")
