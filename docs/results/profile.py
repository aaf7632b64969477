"""Draws the performance profile of the comparison over its tasks, from the stored trials."""

import io

import numpy as np

from docs.results import comparison_tables, stored
from experiments.results import robust, style

LOWEST, HIGHEST = 0.82, 1.02  # normalized scores; no method has more than a few runs below
HEIGHT_INCHES = 3.0


def png(names: list[str]) -> bytes:
    """Returns the figure, with one line per method that all tasks compare.

    Args:
      names: folders of docs/results/data.
    """
    common = set.intersection(*(set(stored.load(name).methods) for name in names))
    thresholds = np.linspace(LOWEST, HIGHEST, 401)
    profiles = {
        method: robust.performance_profile(
            [_normalized(name, method) for name in names], thresholds
        )
        for method in common
    }
    figure = style.make_figure(HEIGHT_INCHES)
    axis = figure.subplots()
    best_first = sorted(profiles, key=lambda method: (-profiles[method].sum(), method))
    # There are fewer colors than methods, so log annealings share theirs with dashed lines only.
    by_style = sorted(best_first, key=lambda method: method.startswith("log"))
    for method in best_first:
        is_log = method.startswith("log")
        axis.plot(
            thresholds,
            100 * profiles[method],
            color=style.PALETTE[by_style.index(method) % len(style.PALETTE)],
            linestyle="-" if is_log else "--",
            linewidth=1.8 if is_log else 1.2,
            label=style.plain(method),
        )
    axis.set_xlabel(
        "threshold: 0 is chance, 1 is the mean of the best method", fontsize=style.NORMAL
    )
    axis.set_ylabel("runs above the threshold (%)", fontsize=style.NORMAL)
    axis.grid(color=style.GRID, linewidth=0.6)
    axis.legend(fontsize=style.SMALL)
    style.tidy(axis)
    with io.BytesIO() as picture:
        figure.savefig(picture, format="png")
        return picture.getvalue()


def _normalized(name: str, method: str) -> np.ndarray:
    """Returns the scores of a method between chance and the mean of the best method."""
    sweep = stored.load(name)
    best = comparison_tables.scores(name, comparison_tables.best_first(name)[0]).mean()
    (chance,) = sweep.results.chance[sweep.objective.name].values()
    return robust.normalized(
        comparison_tables.scores(name, method), chance=sweep.objective.scale * chance, best=best
    )
