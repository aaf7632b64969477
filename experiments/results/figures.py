"""Draws curves over epochs: one method against the baseline in each panel, and learning rates."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.results import intervals, ranking, style
from experiments.results.described import Metric
from experiments.results.learning_rates import Rates
from experiments.results.rows import TRIAL
from experiments.results.style import Role

MAX_COLUMNS = 4
PANEL_INCHES = 1.75  # height of the two axes of a method
FRAME_INCHES = 0.6  # height of the label below and the legend
TITLE_LETTERS = 24  # in a panel of a quarter of the width
STEPS_LINE_WIDTH = 0.8
LINE_WIDTH = 1.3
# With several methods, at most this percentage of the means in the second half of training may lie
# below the panel. With fewer, only the first fifth of training may.
HIDDEN_PERCENT = 10
SEVERAL = 5
# A learning rate below this share of the axis looks like zero, so the panel has its number.
SMALL_RATE = 0.05


class _Curve(NamedTuple):
    """The mean of a method at each epoch, and its interval or range, `[epochs]` each."""

    epochs: np.ndarray
    mean: np.ndarray
    low: np.ndarray | None
    high: np.ndarray | None


def draw(
    rows: pd.DataFrame,
    trials: pd.DataFrame,
    split: str,
    metric: Metric,
    rates: Mapping[str, Rates],
    roles: Mapping[str, Role],
    *,
    objective: Metric,
    chance: float | None,
    floors: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Draws one panel per method of one model, the best first, with its learning rate below.

    All panels have the same axes. The axis of a metric to maximize is cut to where the curves end,
    and a panel notes where its method ends below it. The axis of a metric to minimize is
    logarithmic, unless a mean is negative.

    Args:
      rows: final rows of one data set and one model, as returned by `read.read`.
      trials: their summaries, as returned by `failures.per_trial`.
      split: "train" or "test"; the latter may be a validation split, according to `rows.split`.
      metric: the metric to draw.
      rates: method -> learning rates.
      roles: method -> how it looks. The baseline is in the panels of all other methods.
      objective: the metric that `trials` summarizes, by which the panels are sorted.
      chance: chance level of the metric, if there is one.
      floors: what the metric is compared with, such as "entropy rate of the chain", and its values,
        drawn as dotted lines.

    Returns:
      The figure. A line is the mean over trials, and its band is the 95% t interval of the mean, or
      the range of two trials. From the epoch at which a trial diverged, it counts with the chance
      level, or with the worst value in the figure.
    """
    methods = ranking.best_first(trials, objective)
    baseline = next((name for name in methods if roles[name] is style.BASELINE), None)
    shown = [name for name in methods if name != baseline] or methods
    columns = min(len(shown), MAX_COLUMNS)
    bands = -(-len(shown) // columns)
    lines_of_title = max(_title(name, trials, columns).count("\n") + 1 for name in shown)
    height = (PANEL_INCHES + 0.13 * (lines_of_title - 1)) * bands * (1.25 if columns < 3 else 1)
    figure = style.make_figure(height + FRAME_INCHES)
    heights = [*[2.6, 1] * bands]
    grid = figure.subplots(2 * bands, columns, sharex=True, squeeze=False, height_ratios=heights)
    uppers, lowers = list(grid[::2].flat), list(grid[1::2].flat)
    for axis in (*uppers[len(shown) :], *lowers[len(shown) :]):
        axis.remove()
    uppers, lowers = uppers[: len(shown)], lowers[: len(shown)]
    curves = _curves(_scored(rows, f"{split}_{metric.name}", metric, chance), metric.scale)
    levels = [metric.scale * value for of in (floors or {}).values() for value in of]
    limits = _limits([curve.mean for curve in curves.values()], metric, levels)
    rate_limits = _rate_limits(rates)
    for method, upper, lower in zip(shown, uppers, lowers, strict=True):
        pair = [name for name in (baseline, method) if name is not None]
        for name in dict.fromkeys(pair):
            if name in curves:
                _draw_curve(upper, curves[name], roles[name])
            if name in rates:
                _draw_rates(lower, rates[name], roles[name])
        for level in levels:
            upper.axhline(level, color="black", linestyle=":", linewidth=1)
        _note(upper, curves.get(method), limits)
        title = _title(method, trials, columns)
        weight = "bold" if roles[method] is style.LOG else "normal"
        color = style.LOG.color if roles[method] is style.LOG else "black"
        upper.set_title(title, fontsize=style.NORMAL, color=color, fontweight=weight)
        _set_limits(upper, limits)
        lower.set_ylim(*rate_limits)
        lower.set_xlim(0, rows.epoch.max())
        lower.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if method in rates:
            _note_rate(lower, rates[method], rate_limits)
        for axis in (upper, lower):
            style.tidy(axis)
            axis.grid(color=style.GRID, linewidth=0.5)
            axis.set_axisbelow(True)
    _label_edges(uppers, lowers, columns)
    part = "train" if split == "train" else rows.split.iloc[0]
    label = f"{part} {metric.label}" + (" (%)" if metric.percent else "")
    figure.supylabel(label, fontsize=style.NORMAL)
    figure.supxlabel("epoch; below each panel, the learning rate", fontsize=style.NORMAL)
    handles = _handles({name: roles[name] for name in methods})
    handles += [
        Line2D([], [], color="black", linestyle=":", linewidth=1, label=style.plain(meaning))
        for meaning in floors or {}
    ]
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=len(handles),
        fontsize=style.SMALL,
        frameon=False,
    )
    return figure


def _scored(rows: pd.DataFrame, column: str, metric: Metric, chance: float | None) -> pd.DataFrame:
    """Adds the column `value`, in which diverged epochs have their score, NaN if there is none."""
    kept = rows[column][~rows.diverged]
    worst = kept.min() if metric.direction == "max" else kept.max()
    score = worst if chance is None else chance
    return rows.assign(value=rows[column].where(~rows.diverged, score))


def _curves(rows: pd.DataFrame, scale: float) -> dict[str, _Curve]:
    """Returns the curve of each method that has a value at every epoch."""
    curves = {}
    rows = rows.assign(line=rows.groupby(TRIAL).cumcount())
    for method, trials in rows.groupby("setting"):
        if trials.value.isna().any():
            continue
        epochs = trials.groupby("line").epoch.first().to_numpy()
        values = scale * trials.pivot(index="seed", columns="line", values="value").to_numpy()
        mean, half_width = intervals.mean_interval(values)
        low, high = mean - half_width, mean + half_width
        if len(values) < intervals.FEWEST_TRIALS:
            low, high = values.min(axis=0), values.max(axis=0)
        alone = len(values) == 1
        curves[method] = _Curve(epochs, mean, None if alone else low, None if alone else high)
    return curves


def _draw_curve(axis: Axes, curve: _Curve, role: Role) -> None:
    # A line through a single point is invisible, so mark the point.
    marker = "." if len(curve.epochs) == 1 else None
    axis.plot(
        curve.epochs,
        curve.mean,
        color=role.color,
        linestyle=role.line,
        linewidth=LINE_WIDTH,
        marker=marker,
    )
    if curve.low is not None and curve.high is not None:
        axis.fill_between(
            curve.epochs, curve.low, curve.high, color=role.color, alpha=0.18, linewidth=0
        )


def _draw_rates(axis: Axes, rates: Rates, role: Role) -> None:
    """Draws learning rates: thin lines if they show every step, because spikes overlap."""
    axis.plot(
        rates.epochs,
        rates.values,
        color=role.color,
        linestyle=role.line,
        linewidth=STEPS_LINE_WIDTH if rates.every_step else LINE_WIDTH,
        marker="." if len(rates.epochs) == 1 else None,
    )


class _Limits(NamedTuple):
    scale: str
    low: float | None
    high: float | None


def _limits(means: Sequence[np.ndarray], metric: Metric, floors: Sequence[float]) -> _Limits:
    """Returns the vertical scale and range.

    Only the means and, for a metric to minimize, the floors determine the range, because the
    interval of two trials can be very wide.
    """
    if not means:
        return _Limits("linear", None, None)
    drawn = np.concatenate(means)
    if metric.direction == "min":
        positive = drawn[drawn > 0]
        if positive.size and drawn.min() >= 0:
            low = min([positive.min(), *(value for value in floors if value > 0)])
            return _Limits("log", 0.8 * low, 1.25 * positive.max())
        return _Limits("linear", None, None)
    if len(means) < SEVERAL:
        bottom = min(mean[len(mean) // 5 :].min() for mean in means)
    else:
        second_halves = np.concatenate([mean[len(mean) // 2 :] for mean in means])
        bottom = np.percentile(second_halves, HIDDEN_PERCENT)
    margin = 0.1 * (drawn.max() - bottom)
    if margin <= 0:
        return _Limits("linear", None, None)
    top = drawn.max() + margin
    return _Limits("linear", bottom - margin, min(top, 100) if metric.percent else top)


def _set_limits(axis: Axes, limits: _Limits) -> None:
    axis.set_yscale(limits.scale)
    if limits.low is not None:
        axis.set_ylim(limits.low, limits.high)


def _rate_limits(rates: Mapping[str, Rates]) -> tuple[float, float]:
    """Returns the range of all learning rates, from 0 unless one is negative."""
    values = [of.values[np.isfinite(of.values)] for of in rates.values()]
    lows, highs = ([edge(of) for of in values if of.size] for edge in (np.min, np.max))
    low, high = min([0.0, *lows]), max([0.0, *highs])
    margin = 0.06 * (high - low) or 1.0
    return low - (margin if low < 0 else 0.0), high + margin


def _note(axis: Axes, curve: _Curve | None, limits: _Limits) -> None:
    """Says in the panel if there is no curve, or if it ends below the axis."""
    if curve is None:
        text = "diverged: no value"
    elif limits.scale == "linear" and limits.low is not None and curve.mean[-1] < limits.low:
        text = f"ends at {curve.mean[-1]:.4g}"
    else:
        return
    _write(axis, text, 0.5, 0.06)


def _note_rate(axis: Axes, rates: Rates, limits: tuple[float, float]) -> None:
    """Writes the highest learning rate of a method if it looks like zero."""
    highest = np.abs(rates.values[np.isfinite(rates.values)]).max(initial=0)
    if 0 < highest < SMALL_RATE * limits[1]:
        _write(axis, f"at most {highest:.2g}", 0.75, 0.6)


def _write(axis: Axes, text: str, right: float, up: float) -> None:
    """Writes text into a panel, at a share of its width and height."""
    axis.text(
        right,
        up,
        text,
        transform=axis.transAxes,
        ha="center",
        fontsize=style.SMALL,
        zorder=10,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )


def _label_edges(uppers: Sequence[Axes], lowers: Sequence[Axes], columns: int) -> None:
    """Shows numbers on the leftmost and lowest axes only, because all panels share their axes."""
    for place, (upper, lower) in enumerate(zip(uppers, lowers, strict=True)):
        is_lowest = place + columns >= len(uppers)
        upper.tick_params(labelbottom=False)
        lower.tick_params(labelbottom=is_lowest)
        if place % columns:
            upper.tick_params(labelleft=False, which="both")
            lower.tick_params(labelleft=False)


def _title(method: str, trials: pd.DataFrame, columns: int) -> str:
    """Returns the name of a method, and its number of failed trials, or that it has one trial."""
    failed = trials[trials.setting == method].failed
    remark = f"{failed.sum()}/{len(failed)} failed" if failed.any() else ""
    if len(failed) == 1 and not failed.any():
        remark = "1 trial"
    return _label(f"{method} ({remark})" if remark else method, columns)


def _label(text: str, columns: int) -> str:
    """Returns a text in lines that fit into a panel."""
    letters = TITLE_LETTERS * MAX_COLUMNS // columns
    return style.plain("\n".join(textwrap.wrap(text, letters) or [text]))


def _handles(roles: Mapping[str, Role]) -> list[Line2D]:
    """Returns the entries of the legend, once for each role."""
    handles = []
    for role in (style.BASELINE, style.LOG, style.OTHER):
        names = [name for name, of in roles.items() if of is role]
        if not names:
            continue
        label = role.meaning
        if role is style.BASELINE:
            label = f"{label}: {names[0]}"
        elif len(names) == 1:
            label = names[0]
        # A legend leaves out labels that begin with an underscore.
        label = f" {label}" if label.startswith("_") else label
        handles.append(
            Line2D(
                [],
                [],
                color=role.color,
                linestyle=role.line,
                linewidth=LINE_WIDTH,
                label=style.plain(label),
            )
        )
    return handles
