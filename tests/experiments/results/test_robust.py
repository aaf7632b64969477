"""Statistics for few runs match values computed by hand, by enumeration, or by scipy."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from experiments.results import robust


def test_interquartile_mean_leaves_out_a_quarter_at_each_end():
    ten = np.array([5.0, 1, 2, 90, 4, 3, 6, -70, 7, 8])
    # Sorted, they are -70, 1, 2, 3, 4, 5, 6, 7, 8, 90; two of ten are left out at each end.
    assert robust.interquartile_mean([ten]).value == pytest.approx((2 + 3 + 4 + 5 + 6 + 7) / 6)
    assert robust.interquartile_mean([ten[:4], ten[4:]]).value == pytest.approx(4.5)


def test_interval_of_two_runs_is_that_of_all_four_resamples():
    """Resamples of 0 and 1 have the mean 0, 1/2, or 1, with probability 1/4, 1/2, and 1/4."""
    assert robust.interquartile_mean([np.array([0.0, 1.0])]) == (0.5, 0.0, 1.0)


def test_interval_matches_the_bootstrap_of_scipy():
    runs = np.random.default_rng(3).normal(size=10)
    expected = scipy.stats.bootstrap(
        [runs],
        lambda values, axis: scipy.stats.trim_mean(values, 0.25, axis=axis),
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(4),
    ).confidence_interval
    found = robust.interquartile_mean([runs])
    np.testing.assert_allclose(found[1:], expected, atol=0.03)


def test_resampling_is_stratified_by_task():
    """Every resample has two runs of each task, so the middle two are never of one task only."""
    found = robust.interquartile_mean([np.array([0.0, 0.0]), np.array([1.0, 1.0])])
    assert found == (0.5, 0.5, 0.5)
    improved = robust.probability_of_improvement(
        [np.array([1.0, 2.0]), np.array([0.0, 0.0])], [np.array([0.0]), np.array([1.0])]
    )
    assert improved == (0.5, 0.5, 0.5)


def test_same_runs_have_the_same_interval():
    runs = [np.arange(10.0) ** 2]
    assert robust.interquartile_mean(runs) == robust.interquartile_mean(runs)


def test_probability_of_improvement_counts_pairs():
    ours, theirs = np.array([1.0, 2.0, 5.0]), np.array([2.0, 0.0])
    # 1 > 0; 2 > 0 and 2 = 2; 5 > 2 and 5 > 0.
    expected = (1 + 1.5 + 2) / 6
    found = robust.probability_of_improvement([ours], [theirs])
    assert found.value == pytest.approx(expected)
    u = scipy.stats.mannwhitneyu(ours, theirs).statistic
    assert found.value == pytest.approx(u / 6)
    opposite = robust.probability_of_improvement([theirs], [ours])
    assert opposite.value == pytest.approx(1 - expected)
    assert 0 <= found.low < found.value < found.high <= 1


def test_methods_need_the_same_tasks():
    with pytest.raises(ValueError, match="1 tasks of one method and 2 of the other"):
        robust.probability_of_improvement([np.zeros(2)], [np.zeros(2), np.zeros(2)])


@pytest.mark.parametrize("pairs", [1, 2, 5, 8])
def test_sign_flip_test_enumerates_all_patterns(pairs):
    theirs = np.random.default_rng(pairs).uniform(size=pairs)
    differences = np.random.default_rng(pairs + 1).normal(0.5, 1, size=pairs)
    flipped = [
        abs(np.dot(signs, differences)) >= abs(differences.sum()) - 1e-4
        for signs in itertools.product([-1, 1], repeat=pairs)
    ]
    found = robust.sign_flip_p_value(theirs + differences, theirs)
    assert found == pytest.approx(np.mean(flipped), rel=1e-12)


def test_smallest_p_value_of_ten_pairs_is_two_in_1024():
    assert robust.sign_flip_p_value(np.arange(1.0, 11), np.zeros(10)) == 2 / 1024


def test_sign_flip_test_takes_twenty_pairs_and_no_more():
    ours = np.random.default_rng(0).normal(0.3, 1, size=21)
    found = robust.sign_flip_p_value(ours[:20], np.zeros(20))
    reference = scipy.stats.permutation_test(
        [ours[:20], np.zeros(20)],
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=3000,
        vectorized=False,
        rng=np.random.default_rng(1),
    ).pvalue
    assert found == pytest.approx(reference, abs=0.04)
    with pytest.raises(ValueError, match="21 pairs; the exact test takes at most 20"):
        robust.sign_flip_p_value(ours, np.zeros(21))


def test_sums_that_differ_in_their_last_digits_are_equal():
    theirs = np.array([0.1, 0.2, 0.7])
    # Of 8 patterns, two have a sum of 0.3 and six have one of 0.1, whichever sign is observed.
    assert robust.sign_flip_p_value(theirs + np.array([0.1, 0.1, -0.1]), theirs) == 1.0
    assert robust.sign_flip_p_value(1e-30 * (theirs + 0.1), 1e-30 * theirs) == 0.25


def test_equal_methods_and_no_pairs():
    assert robust.sign_flip_p_value(np.ones(4), np.ones(4)) == 1.0
    assert math.isnan(robust.sign_flip_p_value(np.array([]), np.array([])))


def test_failure_rate_has_the_exact_interval():
    assert robust.failure_rate(np.array([True, False])).value == 0.5
    none = robust.failure_rate(np.zeros(10, dtype=bool))
    # Without a failure, the upper end solves (1 - p)^10 = 0.025.
    assert none[:2] == (0.0, 0.0)
    assert none.high == pytest.approx(1 - 0.025**0.1)


@pytest.mark.parametrize(("chance", "best"), [(0.1, 0.9), (2.3, 0.3)])
def test_normalized_scores_are_zero_at_chance_and_one_at_the_best(chance, best):
    scores = np.array([chance, best, (chance + best) / 2])
    np.testing.assert_allclose(robust.normalized(scores, chance=chance, best=best), [0, 1, 0.5])


def test_profile_is_the_fraction_of_runs_above_a_threshold():
    runs = [np.array([0.0, 0.5, 1.0]), np.array([1.0])]
    found = robust.performance_profile(runs, np.array([-1, 0, 0.5, 0.75, 1]))
    np.testing.assert_array_equal(found, [1, 0.75, 0.5, 0.5, 0])
