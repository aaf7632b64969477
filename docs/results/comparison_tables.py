"""The tables of a comparison that followed docs/results/protocol.md, from its stored trials."""

import numpy as np
import pandas as pd

from docs.results import stored
from docs.results.stored import Sweep
from experiments.results import tables
from experiments.results.intervals import mean_interval
from experiments.results.robust import (
    Estimate,
    interquartile_mean,
    probability_of_improvement,
    sign_flip_p_value,
)

BASELINE = "cosine"
PRIMARY = "log (normalized)"  # is compared with the baseline by a test
PEAK = "schedule.peak_value"


def results(name: str) -> str:
    """Returns one row per method, the best mean first.

    Args:
      name: folder of docs/results/data.
    """
    sweep = stored.load(name)
    rows = [
        {
            "method": method,
            "peak": sweep.peak(method),
            f"test {sweep.objective.label}": sweep.mean(method),
            "interquartile mean": _text(interquartile_mean([sweep.scores(method)]), 4),
            "minus cosine": "" if method == BASELINE else sweep.difference(method, BASELINE),
            "better than cosine": "" if method == BASELINE else _better(sweep, method),
        }
        for method in best_first(sweep)
    ]
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def tuning(name: str) -> str:
    """Returns the validation result of each peak, one row per method; the chosen one is bold.

    Args:
      name: folder of docs/results/data.
    """
    sweep = stored.load(name)
    rows = []
    for method in best_first(sweep):
        of_method = sweep.tuned[sweep.tuned.setting == method]
        row = {"method": method}
        for peak, trials in of_method.groupby(PEAK):
            text = tables.shown(trials["last"].mean(), sweep.objective)
            failed = f", {trials.failed.sum()}/{len(trials)} failed" if trials.failed.any() else ""
            chosen = f"{peak:g}" == sweep.peak(method)
            row[f"{peak:g}"] = (f"**{text}**" if chosen else text) + failed
        rows.append(row)
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def best_first(sweep: Sweep) -> list[str]:
    """Returns the methods of a comparison, the best mean of the final trials first."""
    sign = -1 if sweep.objective.direction == "max" else 1
    return sorted(sweep.methods, key=lambda method: sign * sweep.scores(method).mean())


def primary(name: str) -> tuple[str, str]:
    """Returns the primary contrast with its interval, and the p-value of the exact test.

    Args:
      name: folder of docs/results/data.
    """
    sweep = stored.load(name)
    p_value = sign_flip_p_value(sweep.scores(PRIMARY), sweep.scores(BASELINE))
    return sweep.difference(PRIMARY, BASELINE), f"{p_value:.2g}"


def half_width(sweep: Sweep, ours: str, theirs: str) -> float:
    """Returns the half-width of the 95% interval of a paired difference."""
    return float(mean_interval(sweep.scores(ours) - sweep.scores(theirs))[1])


def _better(sweep: Sweep, method: str) -> str:
    """Returns how likely a run of a method is better than a run of the baseline."""
    sign = 1 if sweep.objective.direction == "max" else -1
    ours, theirs = (sign * sweep.scores(each) for each in (method, BASELINE))
    return _text(probability_of_improvement([ours], [theirs]), 2)


def _text(estimate: Estimate, digits: int) -> str:
    """Returns an estimate and its interval.

    >>> _text(Estimate(0.5, 0.25, 0.75), 2)
    '0.5 (0.25 to 0.75)'
    """
    value, low, high = (f"{np.round(number, digits):.4g}" for number in estimate)
    return f"{value} ({low} to {high})"
