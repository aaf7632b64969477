"""Statistics for few runs of several tasks: bootstrap intervals, an exact test, and profiles.

Agarwal et al. 2021 (arXiv:2108.13264) propose the interquartile mean, the probability of
improvement, and performance profiles. Where tasks are pooled, the bootstrap draws from the runs of
each task separately (stratified), as their library rliable does.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from experiments.results.intervals import CONFIDENCE, EQUAL

RESAMPLES = 10_000
SEED = 0  # the same data always give the same interval
MOST_PAIRS = 20  # whose 2^20 sign patterns take a fraction of a second

Runs = Sequence[np.ndarray]  # `[runs]` of each task; tasks may differ in their number of runs


class Estimate(NamedTuple):
    """A value and its 95% interval.

    Attributes:
      value: the estimate, from all runs.
      low: lower end of the interval.
      high: upper end of the interval.
    """

    value: float
    low: float
    high: float


def interquartile_mean(runs: Runs) -> Estimate:
    """Returns the mean of the middle half of all runs, with a bootstrap interval.

    A quarter of the runs, rounded down, is left out at each end.

    Args:
      runs: scores of one method, `[runs]` of each task, on a common scale.

    >>> interquartile_mean([np.array([1.0, 2.0, 3.0, 100.0])]).value
    2.5
    """
    return _bootstrapped(lambda *pooled: _middle_mean(np.concatenate(pooled, axis=-1)), runs)


def probability_of_improvement(ours: Runs, theirs: Runs) -> Estimate:
    """Returns how likely a run of one method exceeds a run of another, with a bootstrap interval.

    The two runs are drawn independently, so seeds are not paired. Equal scores count as half. Over
    several tasks, it is the mean of the tasks' probabilities.

    Args:
      ours: scores of one method, `[runs]` of each task, higher is better.
      theirs: scores of the other method on the same tasks in the same order.

    >>> probability_of_improvement([np.array([1.0, 3.0])], [np.array([2.0, 3.0])]).value
    0.375
    """
    tasks = len(ours)
    if len(theirs) != tasks:
        raise ValueError(f"{tasks} tasks of one method and {len(theirs)} of the other")

    def of_tasks(*samples: np.ndarray) -> np.ndarray:
        pairs = zip(samples[:tasks], samples[tasks:], strict=True)
        return np.mean([_exceeding(*pair) for pair in pairs], axis=0)

    return _bootstrapped(of_tasks, [*ours, *theirs])


def sign_flip_p_value(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Returns the two-sided p-value of the exact sign-flip test of paired differences.

    If the two methods are equally good, each difference is as likely as its negative. The p-value
    is the fraction of all 2^pairs sign patterns whose mean is at least as far from zero as the
    observed one, so it is at least 2 / 2^pairs.

    Args:
      ours: `[pairs]`.
      theirs: `[pairs]`, with the same seeds in the same order. At most `MOST_PAIRS` pairs.

    Returns:
      The p-value, or NaN without a pair.

    Raises:
      ValueError: there are more pairs than `MOST_PAIRS`.

    >>> sign_flip_p_value(np.array([0.5, 0.6, 0.9]), np.array([0.4, 0.4, 0.6]))
    0.25
    """
    if not len(ours):
        return float("nan")
    if len(ours) > MOST_PAIRS:
        raise ValueError(f"{len(ours)} pairs; the exact test takes at most {MOST_PAIRS}")
    differences = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    sums = differences[:1]  # by symmetry, the first sign can stay
    for difference in differences[1:]:
        sums = np.concatenate([sums + difference, sums - difference])
    # Sums that should be equal differ in their last digits.
    tolerance = EQUAL * len(differences) * np.abs([ours, theirs]).max()
    return float(np.mean(np.abs(sums) >= abs(differences.sum()) - tolerance))


def failure_rate(failed: np.ndarray) -> Estimate:
    """Returns the fraction of trials that failed, with its exact (Clopper-Pearson) interval.

    Args:
      failed: whether each trial failed, `[trials]`.

    >>> rate = failure_rate(np.array([True, False, False, False, False]))
    >>> print(f"{rate.value:.0%}, {rate.low:.1%} to {rate.high:.1%}")
    20%, 0.5% to 71.6%
    """
    found = scipy.stats.binomtest(int(np.sum(failed)), len(failed))
    interval = found.proportion_ci(CONFIDENCE, method="exact")
    return Estimate(found.statistic, interval.low, interval.high)


def normalized(scores: np.ndarray, *, chance: float, best: float) -> np.ndarray:
    """Returns scores on the scale from chance (0) to the best method's mean (1).

    Args:
      scores: scores of runs, whether higher or lower is better.
      chance: score of a guess.
      best: mean score of the best method.

    >>> print(normalized(np.array([1.5, 1.0]), chance=2.0, best=1.0))
    [0.5 1. ]
    """
    return (scores - chance) / (best - chance)


def performance_profile(runs: Runs, thresholds: np.ndarray) -> np.ndarray:
    """Returns the fraction of all runs whose score exceeds each threshold.

    Args:
      runs: normalized scores of one method, `[runs]` of each task.
      thresholds: `[thresholds]`.

    Returns:
      Fractions, `[thresholds]`, which decrease as thresholds increase.

    >>> scores = [np.array([0.0, 0.9]), np.array([0.5, 1.0])]
    >>> print(performance_profile(scores, np.array([-0.1, 0.5, 0.95])))
    [1.   0.5  0.25]
    """
    return np.mean(np.concatenate(runs)[:, None] > thresholds, axis=0)


def _bootstrapped(statistic: Callable[..., np.ndarray], samples: Runs) -> Estimate:
    """Returns a statistic with its percentile bootstrap interval.

    Args:
      statistic: maps arrays of shape `[..., runs]`, one per sample, to `[...]`.
      samples: `[runs]` each. Every resample draws as many runs from each of them, with replacement.
    """
    samples = [np.asarray(sample, dtype=float) for sample in samples]
    random = np.random.default_rng(SEED)
    drawn = [
        sample[random.integers(len(sample), size=(RESAMPLES, len(sample)))] for sample in samples
    ]
    tails = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
    low, high = np.percentile(statistic(*drawn), tails)
    return Estimate(float(statistic(*samples)), float(low), float(high))


def _middle_mean(values: np.ndarray) -> np.ndarray:
    return scipy.stats.trim_mean(values, 0.25, axis=-1)


def _exceeding(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    ours, theirs = ours[..., :, None], theirs[..., None, :]
    return np.mean((ours > theirs) + 0.5 * (ours == theirs), axis=(-2, -1))
