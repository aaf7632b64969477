"""Student t intervals, paired t tests, and Holm's correction, by scipy and statsmodels."""

import numpy as np
import scipy.stats
from statsmodels.stats.multitest import multipletests

CONFIDENCE = 0.95
# With two trials, an interval is 12.7 standard errors wide and says nothing, nor does a test.
FEWEST_TRIALS = 3
# Metrics are float32, so differences that should be equal agree to about 1e-7 of the metric.
EQUAL = 1e-6


def mean_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean over trials and the half-width of its 95% Student t interval.

    Args:
      values: `[trials, ...]`, at least one trial.

    Returns:
      Two arrays of shape `[...]`: means and half-widths. With a single trial, half-widths are NaN.

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
    """Returns the two-sided p-value of a paired t test.

    Args:
      ours: `[trials]`.
      theirs: `[trials]`, with the same seeds in the same order.

    Returns:
      The p-value. NaN if there are fewer than `FEWEST_TRIALS` pairs, or if all pairs differ by the
      same amount, because the t statistic is then undefined.

    >>> round(paired_p_value(np.array([0.5, 0.6, 0.9]), np.array([0.4, 0.4, 0.6])), 4)
    0.0742
    """
    if len(ours) < FEWEST_TRIALS:
        return float("nan")
    scale = np.abs([ours, theirs]).max()
    if np.ptp(ours - theirs) <= EQUAL * scale:
        return float("nan")
    # The p-value does not depend on the unit, but the squares of tiny values would underflow.
    return float(scipy.stats.ttest_rel(ours / scale, theirs / scale).pvalue)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Corrects p-values for multiple tests by Holm's method.

    Args:
      p_values: `[comparisons]`, NaN for a comparison without a test. These are not counted.

    Returns:
      Corrected p-values, `[comparisons]`, NaN for a comparison without a test.

    >>> print(holm(np.array([0.5, 0.01, np.nan, 0.02])))
    [0.5  0.03  nan 0.04]
    """
    corrected = np.array(p_values)
    tested = ~np.isnan(p_values)
    # One test needs no correction, and the library would collect garbage, which takes 0.1 s.
    if tested.sum() > 1:
        corrected[tested] = multipletests(p_values[tested], method="holm")[1]
    return corrected
