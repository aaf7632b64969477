"""Draws curves over epochs: the mean over trials, its interval, and the learning rate below."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.results import intervals, tables
from experiments.results.read import TRIAL, Metric

MAX_COLUMNS = 3
PANEL_INCHES = (4.6, 4.6)
LEGEND_COLUMNS_PER_PANEL = 2
LEGEND_LINE_INCHES = 0.2
COLORS = (
    *("#1d4ed8", "#ea580c", "#15803d", "#b91c1c", "#7c3aed"),
    *("#0891b2", "#a16207", "#db2777", "#4b5563"),
)
LINE_STYLES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)))
# At most this percentage of the means in the second half of training may lie below the panel.
HIDDEN_PERCENT = 10


def draw(rows: pd.DataFrame, split: str, metric: Metric) -> Figure:
    """Draws one panel per model, with the learning rate over the same epochs below it.

    The axis of a metric to maximize is cut to where the curves end, and names the methods below it.
    The axis of a metric to minimize is logarithmic, unless a mean is negative.

    Args:
      rows: final rows of one data set, as returned by `read.read`.
      split: "train" or "test".
      metric: the metric to draw.

    Returns:
      The figure. A line is the mean over the trials that did not diverge, and its band is the 95% t
      interval of the mean.
    """
    methods = tables.in_order(rows.setting)
    models = sorted(rows.model.unique())
    columns = min(len(models), MAX_COLUMNS)
    bands = -(-len(models) // columns)
    legend_columns = LEGEND_COLUMNS_PER_PANEL * columns
    legend_inches = LEGEND_LINE_INCHES * -(-len(methods) // legend_columns)
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * bands + legend_inches)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    grid = figure.subplots(
        2 * bands, columns, sharex=True, squeeze=False, height_ratios=[3, 1] * bands
    )
    uppers, lowers = grid[::2].flat, grid[1::2].flat
    for axis in (*uppers[len(models) :], *lowers[len(models) :]):
        axis.remove()
    for model, upper, lower in zip(models, uppers, lowers, strict=False):
        of_model = rows[rows.model == model]
        means = _draw_model(of_model, f"{split}_{metric.name}", metric.scale, methods, upper, lower)
        _limit(upper, means, metric)
        upper.set_title(model, fontsize=10)
        lower.set_xlim(0, rows.epoch.max())
        lower.set_ylim(bottom=0)
        lower.set_xlabel("epoch", fontsize=9)
        lower.tick_params(labelbottom=True)
        for axis in (upper, lower):
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(which="both", labelsize=8)
    label = f"{split} {metric.label}" + (" (%)" if metric.percent else "")
    for upper, lower in zip(grid[::2, 0], grid[1::2, 0], strict=True):
        upper.set_ylabel(label, fontsize=9)
        lower.set_ylabel("learning rate", fontsize=9)
    handles = [
        Line2D([], [], **_style(methods, method), label=method + _remark(rows, method))
        for method in methods
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=legend_columns, fontsize=8)
    return figure


def _draw_model(
    rows: pd.DataFrame,
    column: str,
    scale: float,
    methods: Sequence[str],
    upper: Axes,
    lower: Axes,
) -> dict[str, np.ndarray]:
    """Draws the curves of one model and returns the mean of each method, `[epochs]`."""
    means = {}
    rows = rows.assign(line=rows.groupby(TRIAL).cumcount())
    for method in methods:
        trials = rows[rows.setting == method]
        if trials.empty:
            continue
        style = _style(methods, method)
        by_line = trials.groupby("line")
        epochs = by_line.epoch.first().to_numpy()
        # A line through a single point is invisible, so mark the point.
        marker = "." if len(epochs) == 1 else None
        lower.plot(epochs, by_line.learning_rate.mean(), **style, marker=marker)
        kept = trials[~trials.seed.isin(trials.seed[trials.diverged])]
        if kept.empty:
            continue
        values = kept.pivot(index="seed", columns="line", values=column).to_numpy()
        mean, half_width = intervals.mean_interval(values * scale)
        upper.plot(epochs, mean, **style, marker=marker)
        if len(values) > 1:
            low, high = mean - half_width, mean + half_width
            upper.fill_between(epochs, low, high, color=style["color"], alpha=0.12, linewidth=0)
        means[method] = mean
    return means


def _limit(axis: Axes, means: dict[str, np.ndarray], metric: Metric) -> None:
    """Sets the vertical scale and range, and names the methods that end below it.

    Only the means determine the range, because the interval of two trials can be very wide.
    """
    if not means:
        return
    drawn = np.array(list(means.values()))
    if metric.direction == "min":
        positive = drawn[drawn > 0]
        if positive.size and drawn.min() >= 0:
            axis.set_yscale("log")
            axis.set_ylim(0.8 * positive.min(), 1.25 * positive.max())
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
                f"below: {', '.join(below)}",
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


def _remark(rows: pd.DataFrame, method: str) -> str:
    """Returns the legend's note about models where a method has one trial, or only diverged."""
    trials = rows[rows.setting == method].groupby(["model", "seed"]).diverged.any()
    left = (~trials).groupby("model").sum()
    remarks = []
    for number, text in ((1, "1 trial"), (0, "diverged")):
        models = left.index[left == number]
        if len(models):
            where = "" if len(models) == len(left) else f" in {', '.join(models)}"
            remarks.append(text + where)
    return f" ({'; '.join(remarks)})" if remarks else ""
