"""Draws the scores of schedules over their peaks, and at the best peak of each."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.results import intervals, style
from experiments.results.described import Metric

HEIGHT_INCHES = 3.2


def draw(trials: pd.DataFrame, objective: Metric) -> Figure:
    """Draws two panels: scores over peaks, and scores at the best peak.

    Args:
      trials: one row per trial, with the columns `schedule`, `peak`, `seed`, `failed`, and `score`.
      objective: the metric that the scores are of.

    Returns:
      The figure. A point is the mean over seeds. Its bar is the 95% t interval of the mean, or the
      range of two seeds. The best peak is that of the best mean, which favors schedules that were
      tried at more peaks.
    """
    figure = style.make_figure(HEIGHT_INCHES)
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys(trials.schedule))
    for place, name in enumerate(names):
        of_schedule = trials[trials.schedule == name]
        by_peak = {
            float(peak): objective.scale * of_peak.score.to_numpy()
            for peak, of_peak in of_schedule.groupby("peak")
        }
        look = {
            "color": style.PALETTE[place % len(style.PALETTE)],
            "marker": style.MARKERS[place % len(style.MARKERS)],
            "label": style.plain(name),
        }
        _points(left, list(by_peak), list(by_peak.values()), linestyle="-", **look)
        means = {peak: values.mean() for peak, values in by_peak.items()}
        kept = {peak: mean for peak, mean in means.items() if not np.isnan(mean)}
        if not kept:
            right.annotate("all failed", (place, 0), ha="center")
            continue
        best = (max if objective.direction == "max" else min)(kept, key=kept.__getitem__)
        _points(right, [place], [by_peak[best]], linestyle="none", **look)
        failed = of_schedule[of_schedule.peak == best].failed
        remark = f"\n{failed.sum()}/{len(failed)} failed" if failed.any() else ""
        right.annotate(
            f"peak {best:g}{remark}",
            (place, means[best]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=style.SMALL,
        )
    if min(trials.peak) > 0 and trials.peak.nunique() > 1:
        left.set_xscale("log")
    left.set_xlabel("peak learning rate", fontsize=style.NORMAL)
    left.set_ylabel(objective.label + (" (%)" if objective.percent else ""), fontsize=style.NORMAL)
    left.legend(fontsize=style.SMALL)
    right.set_xticks(range(len(names)), [style.plain(name) for name in names], fontsize=style.SMALL)
    right.set_xlim(-0.5, len(names))
    right.set_xlabel("at the best peak of each", fontsize=style.NORMAL)
    for axis in (left, right):
        style.tidy(axis)
    return figure


def _points(axis: Axes, places: list[float], values: list[np.ndarray], **look: Any) -> None:
    """Draws means with their intervals; one value has no bar, and two have their range."""
    means = [of.mean() for of in values]
    bars = np.zeros((2, len(values)))
    for index, of in enumerate(values):
        if len(of) >= intervals.FEWEST_TRIALS:
            bars[:, index] = intervals.mean_interval(of)[1]
        elif len(of) == 2:
            bars[:, index] = of.mean() - of.min(), of.max() - of.mean()
    axis.errorbar(places, means, bars, markersize=4, capsize=3, linewidth=1.3, **look)
