"""The tables of a comparison that followed docs/results/protocol.md, from its stored trials."""

import math

import numpy as np
import pandas as pd

from docs.results import stored
from docs.results.stored import Sweep
from experiments.results import tables
from experiments.results.intervals import mean_interval
from experiments.results.robust import (
    interquartile_mean,
    probability_of_improvement,
    sign_flip_p_value,
)

BASELINE = "cosine"
PEAK = "schedule.peak_value"


def results(name: str) -> str:
    """Returns one row per method, the best mean first.

    Args:
      name: folder of docs/results/data.
    """
    sweep = stored.load(name)
    rows = []
    for method in best_first(sweep):
        scores = sweep.scores(method)
        middle, low, high = interquartile_mean([scores])
        decimals = decimals_of(scores)
        failed = f", {sweep.lost(method).sum()} failed" if sweep.lost(method).any() else ""
        others = ["", ""] if method == BASELINE else [contrast(name, method), better(sweep, method)]
        rows.append(
            {
                "method": method,
                "peak": sweep.peak(method),
                f"test {sweep.objective.label}": with_interval(scores) + failed,
                "interquartile mean": f"{middle:.{decimals}f} ({low:.{decimals}f} to "
                f"{high:.{decimals}f})",
                "minus cosine": others[0],
                "better than cosine": others[1],
            }
        )
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def tuning(name: str) -> str:
    """Returns the validation result of each peak, one row per method; the chosen one is bold.

    Args:
      name: folder of docs/results/data.
    """
    sweep = stored.load(name)
    rows = []
    for method in best_first(sweep):
        row = {"method": method}
        for peak, trials in sweep.tuned[sweep.tuned.setting == method].groupby(PEAK):
            text = tables.shown(trials["last"].mean(), sweep.objective)
            if trials.failed.any():
                text = f"{trials.failed.sum()} of {len(trials)} failed"
            row[f"{peak:g}"] = f"**{text}**" if f"{peak:g}" == sweep.peak(method) else text
        rows.append(row)
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def best_first(sweep: Sweep) -> list[str]:
    """Returns the methods of a comparison, the best mean of the final trials first."""
    sign = -1 if sweep.objective.direction == "max" else 1
    return sorted(sweep.methods, key=lambda method: sign * sweep.scores(method).mean())


def contrast(name: str, ours: str, theirs: str = BASELINE) -> str:
    """Returns one method minus another, with its interval over seeds."""
    sweep = stored.load(name)
    return with_interval(sweep.scores(ours) - sweep.scores(theirs), sign="+")


def p_value(name: str, ours: str, theirs: str = BASELINE) -> float:
    """Returns the p-value of the exact sign-flip test of two methods."""
    sweep = stored.load(name)
    return sign_flip_p_value(sweep.scores(ours), sweep.scores(theirs))


def better(sweep: Sweep, method: str) -> str:
    """Returns how likely a run of a method is better than a run of the baseline."""
    sign = 1 if sweep.objective.direction == "max" else -1
    found = probability_of_improvement(
        *([sign * sweep.scores(each)] for each in (method, BASELINE))
    )
    return f"{found.value:.0%} ({found.low:.0%} to {found.high:.0%})"


def with_interval(values: np.ndarray, sign: str = "") -> str:
    """Returns a mean with its 95% interval, whose half-width has two significant digits.

    >>> with_interval(np.array([0.011, 0.012, 0.013])), with_interval(np.array([1.0, 5.0, 9.0]))
    ('0.0120 ± 0.0025', '5.0 ± 9.9')
    """
    mean, half_width = mean_interval(values)
    decimals = decimals_of(values)
    return f"{mean:{sign}.{decimals}f} ± {half_width:.{decimals}f}"


def decimals_of(values: np.ndarray) -> int:
    """Returns the decimals with which the half-width of an interval has two significant digits."""
    half_width = float(mean_interval(values)[1])
    return max(0, 1 - math.floor(math.log10(half_width))) if half_width > 0 else 4
