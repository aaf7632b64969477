"""Draws the scores of schedules over their peaks, and at the best peak of each."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.results import intervals
from experiments.results.described import Metric
from experiments.results.figures import COLORS

INCHES = (9.2, 3.8)


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
    figure = Figure(figsize=INCHES, dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(dict.fromkeys(trials.schedule))
    for place, name in enumerate(names):
        of_schedule = trials[trials.schedule == name]
        by_peak = {
            float(peak): objective.scale * of_peak.score.to_numpy()
            for peak, of_peak in of_schedule.groupby("peak")
        }
        color = COLORS[place % len(COLORS)]
        _points(left, list(by_peak), list(by_peak.values()), color=color, label=name, line="-")
        means = {peak: values.mean() for peak, values in by_peak.items()}
        kept = {peak: mean for peak, mean in means.items() if not np.isnan(mean)}
        if not kept:
            right.annotate("all failed", (place, 0), ha="center")
            continue
        best = (max if objective.direction == "max" else min)(kept, key=kept.__getitem__)
        _points(right, [place], [by_peak[best]], color=color, label=name, line="none")
        failed = of_schedule[of_schedule.peak == best].failed
        remark = f"\n{failed.sum()}/{len(failed)} failed" if failed.any() else ""
        right.annotate(
            f"peak {best:g}{remark}",
            (place, means[best]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    if min(trials.peak) > 0 and trials.peak.nunique() > 1:
        left.set_xscale("log")
    left.set_xlabel("peak learning rate", fontsize=9)
    left.set_ylabel(objective.label + (" (%)" if objective.percent else ""), fontsize=9)
    left.legend(fontsize=8)
    right.set_xticks(range(len(names)), [name.replace("$", r"\$") for name in names], fontsize=8)
    right.set_xlim(-0.5, len(names))
    right.set_xlabel("at the best peak of each", fontsize=9)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure


def _points(
    axis: Axes, places: list[float], values: list[np.ndarray], *, color: str, label: str, line: str
) -> None:
    """Draws means with their intervals; one value has no bar, and two have their range."""
    means = [of.mean() for of in values]
    bars = np.zeros((2, len(values)))
    for index, of in enumerate(values):
        if len(of) >= intervals.FEWEST_TRIALS:
            bars[:, index] = intervals.mean_interval(of)[1]
        elif len(of) == 2:
            bars[:, index] = of.mean() - of.min(), of.max() - of.mean()
    shown = label.replace("$", r"\$")
    axis.errorbar(
        places,
        means,
        bars,
        color=color,
        linestyle=line,
        marker="o",
        markersize=4,
        capsize=3,
        linewidth=1.4,
        label=shown,
    )
