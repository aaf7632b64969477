"""The expected risk and its derivatives are exact, and nothing improves the best schedule."""

import numpy as np
import pytest

from experiments.tasks.expected_risk import (
    Problem,
    derivatives,
    excess_risk,
    optimal_rates,
    power_law,
)

PROBLEMS = [
    Problem(power_law(6, 1.0), noise=0.3, batch_size=1),
    Problem(power_law(3, 2.0), noise=1.0, batch_size=4),
    Problem(power_law(4, 0.0), noise=0.0, batch_size=2),
]
each_problem = pytest.mark.parametrize("problem", PROBLEMS)


def rates_of(num_steps, seed=0):
    return 0.02 + 0.1 * np.random.default_rng(seed).random(num_steps)


def test_one_step_in_one_dimension_has_the_moments_of_a_gaussian():
    """E[(1 - e x^2)^2] = 1 - 2 e l + 3 e^2 l^2, and the noise adds e^2 s^2 l."""
    problem = Problem(np.array([0.5]), noise=2.0, batch_size=1)
    expected = 0.5 / 2 * (1 - 2 * 0.3 * 0.5 + 3 * 0.3**2 * 0.5**2 + 0.3**2 * 4 * 0.5)
    np.testing.assert_allclose(excess_risk(np.array([0.3]), problem), expected, rtol=1e-14)


@each_problem
def test_risk_equals_that_of_the_whole_covariance_matrix(problem):
    """The covariance C of w - w* follows the same recursion in every basis."""
    spectrum, covariance = np.diag(problem.eigenvalues), np.eye(len(problem.eigenvalues))
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=covariance.shape))
    spectrum = rotation @ spectrum @ rotation.T
    rates = rates_of(9)
    for rate in rates:
        mean = spectrum @ covariance @ spectrum
        total = np.trace(spectrum @ covariance) + problem.noise**2
        second = (2 * mean + total * spectrum) / problem.batch_size
        second += (1 - 1 / problem.batch_size) * mean
        crossed = spectrum @ covariance
        covariance = covariance - rate * (crossed + crossed.T) + rate**2 * second
    expected = np.trace(spectrum @ covariance) / 2
    np.testing.assert_allclose(excess_risk(rates, problem), expected, rtol=1e-12)


@each_problem
def test_derivatives_equal_finite_differences(problem):
    rates, steps = rates_of(5), 1e-5 * np.eye(5)
    risk, gradient, hessian = derivatives(rates, problem)
    np.testing.assert_allclose(risk, excess_risk(rates, problem), rtol=1e-14)
    differences = (excess_risk(rates + steps, problem) - excess_risk(rates - steps, problem)) / 2e-5
    np.testing.assert_allclose(gradient, differences, rtol=1e-7)
    second = [
        (derivatives(rates + step, problem)[1] - derivatives(rates - step, problem)[1]) / 2e-5
        for step in steps
    ]
    np.testing.assert_allclose(hessian, second, rtol=1e-6, atol=1e-8)


def test_diverging_rates_have_an_infinite_risk():
    rates = np.stack([np.full(900, 5.0), np.full(900, 0.01), np.full(900, np.nan)])
    risks = excess_risk(rates, PROBLEMS[0])
    assert np.isinf(risks[[0, 2]]).all()
    assert risks[1] < 1


@each_problem
def test_no_perturbation_improves_the_limit(problem):
    starts = [np.full(24, 0.05), rates_of(24, seed=2), 0.3 / np.arange(1, 25)]
    limit = optimal_rates(starts, problem)
    rates, risk = limit.rates, limit.risk
    # The starts end at the same risk, so they do not depend on luck.
    np.testing.assert_allclose(limit.risks, risk, rtol=1e-9)
    _, gradient, hessian = derivatives(rates, problem)
    assert np.linalg.norm(rates * gradient / risk) < 1e-7
    logarithmic = np.outer(rates, rates) * hessian + np.diag(rates * gradient)
    assert np.linalg.eigvalsh(logarithmic).min() > -1e-9 * risk
    draw = np.random.default_rng(3).normal
    sizes = np.geomspace(1e-4, 2, 200)[:, None]
    directions = draw(size=(200, 24))
    assert excess_risk(rates * np.exp(sizes * directions), problem).min() >= risk * (1 - 1e-12)
    # Any other rate of a single step, from 0 to far beyond stability, is worse.
    for step in range(24):
        others = np.tile(rates, (60, 1))
        others[:, step] = np.linspace(0, 3, 60)
        assert excess_risk(others, problem).min() >= risk * (1 - 1e-12)


def test_without_noise_a_single_dimension_is_solved_by_the_rate_of_the_smallest_moment():
    """The minimum of 1 - 2 e + 3 e^2 is at 1/3, whatever the number of steps."""
    limit = optimal_rates([np.full(4, 0.1)], Problem(np.ones(1), noise=0.0, batch_size=1))
    np.testing.assert_allclose(limit.rates, 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(limit.risk, 0.5 * (2 / 3) ** 4, rtol=1e-9)
