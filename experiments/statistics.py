"""Student t intervals, paired differences and Holm's correction: what scipy and statsmodels say."""

import numpy as np
import scipy.stats
from statsmodels.stats.multitest import multipletests

CONFIDENCE = 0.95
# Accuracies are float32: differences that are equal in truth are equal to about 1e-7.
EQUAL = 1e-6


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over trials, and half the width of its 95% Student t interval.

    Args:
      values: `[trials, ...]`, at least one trial.

    Returns:
      Two arrays of shape `[...]`; the half widths of a single trial are NaN.

    >>> mean, half_width = mean_interval(np.array([1.0, 2.0, 3.0]))
    >>> print(f"{mean:.2f} ± {half_width:.2f}")
    2.00 ± 2.48
    """
    trials = len(values)
    mean = values.mean(axis=0)
    if trials == 1:
        return mean, np.full_like(mean, np.nan)
    t = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, df=trials - 1)
    return mean, t * values.std(axis=0, ddof=1) / np.sqrt(trials)


def paired_p_value(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The two-sided p value of a paired t test.

    Args:
      ours: `[trials]`.
      theirs: `[trials]`, the same seeds in the same order.

    Returns:
      The p value, or NaN where there is no test: of fewer than two pairs, and of pairs that all
      differ by the same, which t says nothing of.

    >>> round(paired_p_value(np.array([0.5, 0.6, 0.9]), np.array([0.4, 0.4, 0.6])), 4)
    0.0742
    """
    if len(ours) < 2 or np.ptp(ours - theirs) < EQUAL:
        return float("nan")
    return float(scipy.stats.ttest_rel(ours, theirs).pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's correction for as many tests as there are p values that are not NaN.

    Args:
      p_values: `[comparisons]`, NaN where there was no test.

    Returns:
      `[comparisons]`, NaN where there was no test.

    >>> print(holm(np.array([0.5, 0.01, np.nan, 0.02])))
    [0.5  0.03  nan 0.04]
    """
    corrected = np.full(len(p_values), np.nan)
    tested = ~np.isnan(p_values)
    if tested.any():
        corrected[tested] = multipletests(p_values[tested], method="holm")[1]
    return corrected
