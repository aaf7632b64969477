"""The compiled recursion is the one of `expected_risk`, and knots come close to its limit."""

import numpy as np
import pytest

from experiments.tasks import compiled_risk, expected_risk
from experiments.tasks.expected_risk import Problem, power_law

PROBLEMS = [
    Problem(power_law(6, 1.0), noise=0.3, batch_size=1),
    Problem(power_law(6, 2.0), noise=1.0, batch_size=4),
]
each_problem = pytest.mark.parametrize("problem", PROBLEMS)


def rates_of(*shape):
    return 0.02 + 0.3 * np.random.default_rng(0).random(shape)


@each_problem
def test_risks_are_those_of_expected_risk(problem):
    rates = rates_of(5, 40)
    expected = expected_risk.excess_risk(rates, problem)
    np.testing.assert_allclose(compiled_risk.excess_risks(rates, problem), expected, rtol=1e-10)


def test_diverging_rates_have_an_infinite_risk():
    rates = np.stack([np.full(900, 5.0), np.full(900, 0.01), np.full(900, np.nan)])
    risks = compiled_risk.excess_risks(rates, PROBLEMS[0])
    assert np.isinf(risks[[0, 2]]).all()
    assert risks[1] < 1


@each_problem
def test_derivatives_follow_from_those_by_every_rate(problem):
    knots = np.array([0, 2, 3, 8])
    weights = compiled_risk.between_knots(9, knots)
    logs = np.log(rates_of(4))
    rates = np.exp(np.interp(np.arange(9), knots, logs))
    expected_risk_, by_rate, by_rates = expected_risk.derivatives(rates, problem)
    jacobian = rates[:, None] * weights
    bend = weights.T @ np.diag(by_rate * rates) @ weights
    risk, gradient, hessian = compiled_risk.derivatives(weights, logs, problem)
    np.testing.assert_allclose(risk, expected_risk_, rtol=1e-10)
    np.testing.assert_allclose(gradient, by_rate @ jacobian, rtol=1e-10)
    np.testing.assert_allclose(hessian, jacobian.T @ by_rates @ jacobian + bend, rtol=1e-9)


@each_problem
def test_limit_at_knots_is_slightly_above_the_limit(problem):
    num_steps = 40
    starts = [np.full(num_steps, 0.1), np.linspace(0.2, 0.001, num_steps)]
    limit = expected_risk.optimal_rates(starts, problem)

    def at_knots(num_knots):
        knots = compiled_risk.knot_steps(num_steps, num_knots)
        return compiled_risk.optimal_rates_at_knots(starts, problem, knots)

    np.testing.assert_allclose(at_knots(num_steps).risk, limit.risk, rtol=1e-9)
    few, more = at_knots(8), at_knots(20)
    assert 1e-6 < few.risk / limit.risk - 1 < 3e-2
    assert -1e-9 < more.risk / limit.risk - 1 < 1e-4
    np.testing.assert_allclose(few.risk, expected_risk.excess_risk(few.rates, problem), rtol=1e-10)
    np.testing.assert_allclose(few.risks, few.risk, rtol=1e-8)


@pytest.mark.parametrize(("num_steps", "num_knots"), [(5, 9), (40, 8), (1000, 64), (10_000, 64)])
def test_knots_are_ascending_and_contain_both_ends(num_steps, num_knots):
    knots = compiled_risk.knot_steps(num_steps, num_knots)
    assert len(knots) <= num_knots
    assert (np.diff(knots) > 0).all()
    assert (knots[0], knots[-1]) == (0, num_steps - 1)


def test_search_survives_a_start_that_overflows_after_one_step():
    """The first trial step is so long that no number is finite there."""
    problem = Problem(power_law(6, 0.0), noise=0.0, batch_size=1)
    start = np.full(300, 1e-6)
    found = compiled_risk.optimal_rates_at_knots([start], problem, np.array([0, 299]))
    assert found.risk < expected_risk.excess_risk(start, problem) / 2
