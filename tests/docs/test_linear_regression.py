"""The map of docs/results/linear_regression.md is complete, and its limit is as sharp as stated."""

import numpy as np

from docs.results import regression_claims
from experiments.results.limit_map import KEY, Point
from experiments.tasks.compiled_risk import knot_steps, optimal_rates_at_knots

STORED = regression_claims.load()


def test_map_is_complete():
    methods = 24  # twelve, with and without a warmup
    assert len(STORED.rows) == len(STORED.problems) * methods
    assert not STORED.rows.duplicated([*KEY, "method", "warmup"]).any()
    excess = STORED.rows["risk"] / STORED.rows["limit"] - 1
    np.testing.assert_allclose(STORED.rows["excess"], excess, rtol=1e-6)
    assert not STORED.lengths.between(17, regression_claims.LONG).any()


def test_limit_with_little_noise_and_large_batches_is_not_smooth():
    point = Point(100, 2.0, 0.03, 16, 100)
    start = np.linspace(1.0, 0.001, point.steps)

    def limit(knots):
        return optimal_rates_at_knots([start], point.problem(), knots)

    smooth, free = limit(knot_steps(100, 64)), limit(np.arange(100))
    stored = STORED.problems.loc[tuple(point), "limit"]
    # Another version of a library may end in another of the many minima.
    np.testing.assert_allclose(free.risk, stored, rtol=0.02)
    assert 0.25 < smooth.risk / stored - 1 < 0.42
    assert free.rates.max() > 40
