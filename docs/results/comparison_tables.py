"""The tables of a comparison that followed docs/results/protocol.md, from its stored trials."""

import math
from collections.abc import Sequence

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
EARLY_EPOCH = 6  # of 15, where the second of five cycles is about to end
# Folder of docs/results/data and method -> the folder with the trials of this method, which was
# tuned again. docs/results/cifar10.md has the reason.
TUNED_AGAIN = {("cifar10", "log (normalized)"): "cifar10_five_cycles"}


def trials_of(name: str, method: str) -> Sweep:
    """Returns the sweep that has the trials of a method.

    Args:
      name: folder of docs/results/data.
      method: one of its methods.
    """
    return stored.load(TUNED_AGAIN.get((name, method), name))


def scores(name: str, method: str) -> np.ndarray:
    """Returns the scores of the final trials of a method by seed."""
    return trials_of(name, method).scores(method)


def results(name: str) -> str:
    """Returns one row per method, the best mean first.

    Args:
      name: folder of docs/results/data.
    """
    rows = []
    for method in best_first(name):
        sweep, values = trials_of(name, method), scores(name, method)
        middle, low, high = interquartile_mean([values])
        decimals = decimals_of(values)
        failed = f", {sweep.lost(method).sum()} failed" if sweep.lost(method).any() else ""
        others = ["", ""] if method == BASELINE else [contrast(name, method), better(name, method)]
        rows.append(
            {
                "method": method,
                "peak": sweep.peak(method),
                f"test {sweep.objective.label}": with_interval(values) + failed,
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
    rows = []
    for method in best_first(name):
        sweep = trials_of(name, method)
        row = {"method": method}
        for peak, trials in sweep.tuned[sweep.tuned.setting == method].groupby(PEAK):
            text = tables.shown(trials["last"].mean(), sweep.objective)
            if trials.failed.any():
                text = f"{trials.failed.sum()} of {len(trials)} failed"
            row[f"{peak:g}"] = f"**{text}**" if f"{peak:g}" == sweep.peak(method) else text
        rows.append(row)
    # Methods that were tuned again may have other peaks.
    peaks = sorted({peak for row in rows for peak in row} - {"method"}, key=float)
    return tables.markdown(pd.DataFrame(rows, columns=["method", *peaks]).fillna("")).rstrip()


def budgets(name: str) -> str:
    """Returns the expected validation result of the best of k random peaks, one row per method.

    Args:
      name: folder of docs/results/data.
    """
    rows = []
    for method in best_first(name):
        sweep = trials_of(name, method)
        worst_first = sweep.objective.direction == "max"
        of_method = sweep.tuned[sweep.tuned.setting == method]
        means = np.sort(of_method.groupby(PEAK)["last"].mean())
        means = means if worst_first else means[::-1]
        row = {"method": method}
        for k in range(1, len(means) + 1):
            # Out of all subsets of k peaks, C(i, k - 1) have the peak of rank i as their best.
            weights = np.array([math.comb(rank, k - 1) for rank in range(len(means))])
            expected = float(weights @ means / weights.sum())
            row[f"{k} peak{'s' if k > 1 else ''}"] = tables.shown(expected, sweep.objective)
        rows.append(row)
    return tables.markdown(pd.DataFrame(rows).fillna("")).rstrip()


def target(sweep: Sweep) -> float:
    """Returns the best mean of a constant rate in tuning, which times to a target refer to."""
    constant = sweep.tuned[sweep.tuned.setting == "constant"].groupby(PEAK)["last"].mean()
    return float(constant.max() if sweep.objective.direction == "max" else constant.min())


def times_to_target(name: str) -> str:
    """Returns the epochs after which final trials first reach the target, one row per method.

    Args:
      name: folder of docs/results/data.
    """
    aim = target(stored.load(name))
    rows = []
    for method in best_first(name):
        sweep = trials_of(name, method)
        epochs = sweep.epochs(method)
        values = epochs[f"test_{sweep.objective.name}"]
        reached = values >= aim if sweep.objective.direction == "max" else values <= aim
        first = epochs[reached].groupby("seed").epoch.min()
        num_trials = epochs.seed.nunique()
        rows.append(
            {
                "method": method,
                "trials that reach it": f"{len(first)} of {num_trials}",
                "epochs, median (min to max)": f"{first.median():g} ({first.min():g} to "
                f"{first.max():g})"
                if len(first)
                else "",
            }
        )
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def anytime(name: str, epochs: Sequence[float]) -> str:
    """Returns the mean test result of the final trials after some epochs, one row per method.

    Args:
      name: folder of docs/results/data.
      epochs: the epochs to show; each must have been evaluated.
    """
    rows = []
    for method in best_first(name):
        sweep = trials_of(name, method)
        means = sweep.epochs(method).groupby("epoch")[f"test_{sweep.objective.name}"].mean()
        shown = {f"{each:g}": tables.shown(means.loc[each], sweep.objective) for each in epochs}
        rows.append({"method": method, **shown})
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def best_first(name: str) -> list[str]:
    """Returns the methods of a comparison, the best mean of the final trials first."""
    sweep = stored.load(name)
    sign = -1 if sweep.objective.direction == "max" else 1
    return sorted(sweep.methods, key=lambda method: sign * scores(name, method).mean())


def contrast(name: str, ours: str, theirs: str = BASELINE) -> str:
    """Returns one method minus another, with its interval over seeds."""
    return with_interval(scores(name, ours) - scores(name, theirs), sign="+")


def is_better(name: str, ours: str, theirs: str = BASELINE) -> bool:
    """Returns whether the interval of one method minus another lies on the better side of 0."""
    sign = 1 if stored.load(name).objective.direction == "max" else -1
    mean, half_width = mean_interval(sign * (scores(name, ours) - scores(name, theirs)))
    return bool(mean > half_width)


def is_worse(name: str, ours: str, theirs: str = BASELINE) -> bool:
    """Returns whether the interval of one method minus another lies on the worse side of 0."""
    return is_better(name, theirs, ours)


def worse_by(name: str, ours: str) -> str:
    """Returns by how much one method is worse than the baseline; a better one has a minus sign."""
    sign = -1 if stored.load(name).objective.direction == "max" else 1
    return with_interval(sign * (scores(name, ours) - scores(name, BASELINE)))


def early_contrast(name: str, ours: str, theirs: str = BASELINE) -> str:
    """Returns one method minus another after `EARLY_EPOCH` epochs, with its interval."""
    values = []
    for method in (ours, theirs):
        sweep = trials_of(name, method)
        epochs = sweep.epochs(method)
        found = epochs[epochs.epoch == EARLY_EPOCH].sort_values("seed")
        values.append(sweep.objective.scale * found[f"test_{sweep.objective.name}"].to_numpy())
    return with_interval(values[0] - values[1], sign="+")


def p_value(name: str, ours: str, theirs: str = BASELINE) -> float:
    """Returns the p-value of the exact sign-flip test of two methods."""
    return sign_flip_p_value(scores(name, ours), scores(name, theirs))


def better(name: str, method: str) -> str:
    """Returns how likely a run of a method is better than a run of the baseline."""
    sign = 1 if stored.load(name).objective.direction == "max" else -1
    found = probability_of_improvement(
        *([sign * scores(name, each)] for each in (method, BASELINE))
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
