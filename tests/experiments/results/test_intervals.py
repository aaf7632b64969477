"""Intervals, tests, and the correction match values computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.results import intervals

# Student's t at 97.5%, from a printed table.
T = {1: 12.7062047, 2: 4.30265273, 4: 2.77644511, 9: 2.26215716}


@pytest.mark.parametrize("trials", [2, 3, 5, 10])
def test_interval_is_students(trials):
    values = [0.97 + 0.001 * (i * i % 7) for i in range(trials)]
    mean = math.fsum(values) / trials
    variance = math.fsum((value - mean) ** 2 for value in values) / (trials - 1)
    expected = T[trials - 1] * math.sqrt(variance / trials)
    found = intervals.mean_interval(np.array(values))
    np.testing.assert_allclose(found, (mean, expected), rtol=1e-8)


def test_interval_of_curves_is_computed_per_epoch():
    curves = np.random.default_rng(0).uniform(size=(5, 4))
    mean, half_width = intervals.mean_interval(curves)
    for epoch in range(4):
        expected = intervals.mean_interval(curves[:, epoch])
        np.testing.assert_allclose((mean[epoch], half_width[epoch]), expected, rtol=1e-12)


def test_single_trial_has_no_interval():
    mean, half_width = intervals.mean_interval(np.array([[0.5, 0.6]]))
    np.testing.assert_array_equal(mean, [0.5, 0.6])
    assert np.isnan(half_width).all()


def test_paired_test_matches_closed_form():
    """With 2 degrees of freedom, P(|T| > t) = 1 - t / sqrt(2 + t^2)."""
    differences = np.array([0.1, 0.2, 0.3])
    theirs = np.array([0.4, 0.7, 0.1])
    t = 0.2 / (0.1 / math.sqrt(3))
    found = intervals.paired_p_value(theirs + differences, theirs)
    assert found == pytest.approx(1 - t / math.sqrt(2 + t * t), rel=1e-9)


@pytest.mark.parametrize(
    "differences", [[], [0.1], [0.1, 0.2], [0.0, 0.0, 0.0], [0.1, 0.1 + 1e-8, 0.1]]
)
def test_p_value_needs_three_pairs_that_differ_unequally(differences):
    theirs = np.linspace(0.5, 0.9, len(differences))
    assert math.isnan(intervals.paired_p_value(theirs + np.array(differences), theirs))


def test_p_value_does_not_depend_on_the_unit_of_the_metric():
    theirs, differences = np.array([0.4, 0.7, 0.1]), np.array([0.1, 0.2, 0.3])
    expected = intervals.paired_p_value(theirs + differences, theirs)
    for unit in (1e-300, 1e-9, 1e9, 1e38):
        found = intervals.paired_p_value(unit * (theirs + differences), unit * theirs)
        assert found == pytest.approx(expected, rel=1e-9)


def test_holm_matches_values_computed_by_hand():
    # In increasing order: 3 * 0.01, 2 * 0.03, and 1 * 0.04, raised to the value before it.
    np.testing.assert_allclose(
        intervals.holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06], rtol=1e-12
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.one_of(st.just(math.nan), st.floats(1e-9, 1)), max_size=12))
def test_holm_matches_a_reference_and_ignores_nan(p_values):
    tested = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    expected = [math.nan] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        expected[i] = highest
    np.testing.assert_allclose(intervals.holm(np.array(p_values)), expected, rtol=1e-12)
