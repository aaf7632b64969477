"""Draws the main figure of a report: methods sorted by result, a dot and an interval each."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.results import intervals, style, tables
from experiments.results.described import Metric
from experiments.results.style import Role

METHOD_INCHES = 0.21
PANEL_INCHES = 0.75  # the title and the axis of a panel
LABEL_LETTERS = 44
# Means beyond this many interquartile ranges from the quartiles are drawn at the edge (Tukey).
FENCE = 1.5
FEWEST_METHODS = 5  # to have an outlier
MARGIN = 0.06


def draw(
    trials: pd.DataFrame,
    split: str,
    objective: Metric,
    roles: Mapping[tuple[str, str], Role],
    *,
    floors: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Draws one panel per model, with the best method at the top.

    Args:
      trials: final trials of one data set, as returned by `failures.per_trial`.
      split: the split that is evaluated, for the label of the axis.
      objective: the metric that `trials` summarizes.
      roles: model and method -> how it looks.
      floors: what the metric is compared with, and its values, drawn as dotted lines.

    Returns:
      The figure. A dot is the mean over trials, and its bar is the 95% t interval of the mean, or
      the range of two trials; a single trial has a hollow dot without a bar. An arrow marks a mean
      outside the axis. The numbers stand at the right.
    """
    models = sorted(trials.model.unique())
    ranked = {model: best_first(trials[trials.model == model], objective) for model in models}
    heights = [METHOD_INCHES * len(methods) + PANEL_INCHES for methods in ranked.values()]
    figure = style.make_figure(sum(heights) + 0.3)
    axes = figure.subplots(len(models), 1, squeeze=False, height_ratios=heights)[:, 0]
    levels = [objective.scale * value for values in (floors or {}).values() for value in values]
    for (model, methods), axis in zip(ranked.items(), axes, strict=True):
        of_model = trials[trials.model == model]
        _draw_panel(axis, of_model, methods, objective, {m: roles[model, m] for m in methods})
        for level in levels:
            axis.axvline(level, color="black", linestyle=":", linewidth=1)
        if levels:
            low, high = axis.get_xlim()
            axis.set_xlim(min(low, *levels), max(high, *levels))
        axis.set_title(style.plain(model), fontsize=style.NORMAL, fontweight="bold", loc="left")
    unit = " (%)" if objective.percent else ""
    better = "higher" if objective.direction == "max" else "lower"
    axes[-1].set_xlabel(
        f"{split} {objective.label}{unit}, {better} is better", fontsize=style.NORMAL
    )
    handles = [
        _handle(role) for role in (style.BASELINE, style.LOG, style.OTHER) if role in roles.values()
    ]
    handles += [
        Line2D([], [], color="black", linestyle=":", linewidth=1, label=style.plain(meaning))
        for meaning in floors or {}
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        fontsize=style.SMALL,
        frameon=False,
    )
    return figure


def best_first(trials: pd.DataFrame, objective: Metric) -> list[str]:
    """Sorts the methods of one model by their mean; those without a score come last.

    Args:
      trials: final trials of one model, as returned by `failures.per_trial`.
      objective: the metric that `trials` summarizes.

    Returns:
      The methods, best first. Equal methods are in the order of `tables.in_order`.
    """
    means = trials.groupby("setting")["last"].agg(lambda last: last.mean(skipna=False))
    sign = -1 if objective.direction == "max" else 1
    scores = {method: sign * mean for method, mean in means.items()}
    ordered = tables.in_order(scores)
    return sorted(ordered, key=lambda name: (np.isnan(scores[name]), scores[name]))


def _draw_panel(
    axis: Axes,
    trials: pd.DataFrame,
    methods: Sequence[str],
    objective: Metric,
    roles: Mapping[str, Role],
) -> None:
    cells = {method: trials[trials.setting == method] for method in methods}
    values = {name: objective.scale * cell["last"].to_numpy() for name, cell in cells.items()}
    drawn = {name: of for name, of in values.items() if not np.isnan(of).any()}
    low, high = _limits(drawn)
    for place, method in enumerate(methods):
        if method in drawn:
            _draw_method(axis, place, drawn[method], roles[method], (low, high))
    for method, of in drawn.items():
        if roles[method] is style.BASELINE and low <= of.mean() <= high:
            axis.axvline(of.mean(), color=style.BASELINE.color, linewidth=0.8, zorder=0)
    axis.set_xlim(low, high)
    axis.set_ylim(len(methods) - 0.5, -0.5)
    axis.set_yticks(range(len(methods)), [_short(method) for method in methods])
    numbers = axis.twinx()
    numbers.set_ylim(axis.get_ylim())
    texts = [style.plain(tables.average_cell(cells[method], objective)) for method in methods]
    numbers.set_yticks(range(len(methods)), texts)
    for side in (axis, numbers):
        style.tidy(side)
        side.spines["left"].set_visible(False)
        side.tick_params(axis="y", length=0)
        for method, label in zip(methods, side.get_yticklabels(), strict=True):
            label.set_color(roles[method].color if roles[method] is style.LOG else "black")
            label.set_fontweight("normal" if roles[method] is style.OTHER else "bold")
    axis.grid(axis="x", color=style.GRID, linewidth=0.6)
    axis.set_axisbelow(True)


def _draw_method(
    axis: Axes, place: int, values: np.ndarray, role: Role, limits: tuple[float, float]
) -> None:
    """Draws the dot and the bar of a method, or an arrow at the edge that hides its dot."""
    low, high = limits
    mean, half_width = intervals.mean_interval(values)
    bar = (mean - half_width, mean + half_width)
    if len(values) < intervals.FEWEST_TRIALS:
        bar = (values.min(), values.max())
    axis.plot(np.clip(bar, low, high), [place, place], color=role.color, linewidth=1.4)
    if low <= mean <= high:
        # A single trial has no interval, and its dot shows that.
        face = "white" if len(values) == 1 else role.color
        marker = role.marker
    else:
        face, marker = role.color, "<" if mean < low else ">"
    axis.plot(
        np.clip(mean, low, high),
        place,
        marker=marker,
        color=role.color,
        markerfacecolor=face,
        markersize=4.5,
        clip_on=False,
        linestyle="none",
    )


def _limits(values: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Returns the range of an axis: all means, their intervals, but no outliers."""
    if not values:
        return 0.0, 1.0
    means = np.array([of.mean() for of in values.values()])
    kept = np.ones(len(means), dtype=bool)
    if len(means) >= FEWEST_METHODS:
        first, third = np.quantile(means, [0.25, 0.75])
        reach = FENCE * (third - first)
        if reach > 0:
            kept = (means >= first - reach) & (means <= third + reach)
    spread = np.ptp(means[kept])
    edges = [means[kept].min(), means[kept].max()]
    for of, is_kept in zip(values.values(), kept, strict=True):
        if is_kept and len(of) > 1:
            mean, half_width = intervals.mean_interval(of)
            low, high = mean - half_width, mean + half_width
            if len(of) < intervals.FEWEST_TRIALS:
                low, high = of.min(), of.max()
            # An interval that is wider than all means together is cut.
            edges += [max(low, means[kept].min() - spread) if spread else low]
            edges += [min(high, means[kept].max() + spread) if spread else high]
    width = max(edges) - min(edges) or abs(means[0]) or 1.0
    return min(edges) - MARGIN * width, max(edges) + MARGIN * width


def _handle(role: Role) -> Line2D:
    return Line2D([], [], color=role.color, marker=role.marker, markersize=4.5, label=role.meaning)


def _short(method: str) -> str:
    """Returns the name of a method as the axis shows it, in two lines if it is long."""
    lines = textwrap.wrap(method, LABEL_LETTERS) or [method]
    more = "..." if len(lines) > 2 else ""
    return style.plain("\n".join(lines[:2]) + more)
