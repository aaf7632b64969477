"""The exact expected risk of SGD on linear regression, and the schedule that minimizes it.

The inputs x are Gaussian with covariance diag(l), the labels are x @ w* + s * noise, and a step is

    w <- w - e * mean over B examples of (x @ w - y) x

With d = w - w*, m_i = E[d_i^2], and g the mean gradient of a batch, E[d_i g_i] = l_i m_i, and

    E[g_i^2] = (1 - 1/B) l_i^2 m_i + (1/B) E[(x @ d - s * noise)^2 x_i^2]
             = (1 - 1/B) l_i^2 m_i + (1/B) (2 l_i^2 m_i + l_i sum_j l_j m_j + s^2 l_i)

because the fourth moments of a Gaussian are E[x_i^2 x_j^2] = l_i l_j, and 3 l_i^2 if i = j. So

    m_i <- m_i (1 - 2 e l_i + e^2 l_i^2 (1 + 1/B)) + e^2 l_i (sum_j l_j m_j + s^2) / B

and the excess risk over that of w* is sum_i l_i m_i / 2. This is exact, and needs no sampling.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Array = np.ndarray

TOLERANCE = 1e-9  # norm of the gradient of the log risk by the log rates


class Problem(NamedTuple):
    """A linear regression, which SGD begins at a distance of 1 from w* along every axis.

    Attributes:
      eigenvalues: float64 [D], variances l of the inputs.
      noise: standard deviation s of the labels' noise.
      batch_size: examples B per step.
    """

    eigenvalues: Array
    noise: float
    batch_size: int


class Optimum(NamedTuple):
    """The best of all schedules.

    Attributes:
      rates: float64 [T], its learning rates.
      risk: its excess risk after T steps.
      risks: the excess risks that the search reached from each start.
    """

    rates: Array
    risk: float
    risks: tuple[float, ...]

    @property
    def spread(self) -> float:
        """By which fraction the worst end of a search exceeds the best."""
        return max(self.risks) / self.risk - 1


def power_law(dimensions: int, exponent: float) -> Array:
    """Returns the spectrum i**-exponent.

    Args:
      dimensions: number D of eigenvalues.
      exponent: decay of the spectrum; 0 for equal eigenvalues.

    Returns:
      float64 [D].

    >>> power_law(3, 2.0).round(3)
    array([1.   , 0.25 , 0.111])
    """
    return np.arange(1.0, dimensions + 1) ** -exponent


def excess_risk(rates: Array, problem: Problem) -> Array:
    """Returns the expected excess risk after SGD with given learning rates.

    Args:
      rates: float [..., T], learning rates of T steps.
      problem: the regression.

    Returns:
      float64 [...]; infinity where it exceeds the range of float64.

    >>> print(excess_risk(np.array([0.5]), Problem(np.ones(1), noise=1.0, batch_size=1)))
    0.5
    """
    eigenvalues, noise, batch_size = problem
    second = np.ones((*rates.shape[:-1], len(eigenvalues)))  # m
    with np.errstate(over="ignore", invalid="ignore"):
        for step in range(rates.shape[-1]):
            scaled = rates[..., step, None] * eigenvalues
            total = (second @ eigenvalues + noise**2)[..., None]
            second = second * (1 - 2 * scaled + scaled**2 * (1 + 1 / batch_size))
            second += rates[..., step, None] * scaled * total / batch_size
        risk = second @ eigenvalues / 2
    return np.where(np.isfinite(risk), risk, np.inf)


def derivatives(rates: Array, problem: Problem) -> tuple[float, Array, Array]:
    """Returns the expected excess risk and its derivatives by the learning rates.

    Args:
      rates: float64 [T].
      problem: the regression.

    Returns:
      The excess risk, its gradient [T], and its Hessian [T, T].
    """
    eigenvalues, noise, batch_size = problem
    num_steps, own = len(rates), eigenvalues**2 * (1 + 1 / batch_size)
    scales = 1 - 2 * np.outer(rates, eigenvalues) + np.outer(rates**2, own)
    slopes = 2 * (np.outer(rates, own) - eigenvalues)
    shared, shared_slopes = rates**2 / batch_size, 2 * rates / batch_size

    # One step maps m to scale * m + shared * l * (l @ m + s^2). This map is symmetric in m.
    seconds = np.ones((num_steps + 1, len(eigenvalues)))
    for step in range(num_steps):
        total = seconds[step] @ eigenvalues + noise**2
        seconds[step + 1] = scales[step] * seconds[step] + shared[step] * total * eigenvalues
    adjoints = np.empty_like(seconds)  # derivative of the risk by m after each step
    adjoints[-1] = eigenvalues / 2
    for step in reversed(range(num_steps)):
        total = adjoints[step + 1] @ eigenvalues
        adjoints[step] = scales[step] * adjoints[step + 1] + shared[step] * total * eigenvalues

    after, totals = adjoints[1:], seconds[:-1] @ eigenvalues + noise**2
    own_changes = slopes * seconds[:-1] + np.outer(shared_slopes * totals, eigenvalues)
    gradient = (after * own_changes).sum(axis=1)
    curvatures = 2 * own * seconds[:-1] + np.outer(2 / batch_size * totals, eigenvalues)
    # Derivative by m of the gradient of each step.
    mixed = slopes * after + np.outer(shared_slopes * (after @ eigenvalues), eigenvalues)
    hessian = np.diag((after * curvatures).sum(axis=1))
    changes = np.empty((num_steps, len(eigenvalues)))  # derivative of m by each earlier rate
    for step in range(num_steps):
        earlier = changes[:step]
        hessian[:step, step] = hessian[step, :step] = earlier @ mixed[step]
        total = earlier @ eigenvalues
        earlier *= scales[step]
        earlier += np.outer(shared[step] * total, eigenvalues)
        changes[step] = own_changes[step]
    return float(seconds[-1] @ eigenvalues / 2), gradient, hessian


def optimal_rates(starts: Sequence[Array], problem: Problem) -> Optimum:
    """Returns the learning rates with the lowest expected excess risk after the last step.

    Newton's method in a trust region lowers the logarithm of the risk over the logarithms of the
    rates. It ends where the gradient is zero and the Hessian has no negative eigenvalue.

    Args:
      starts: float64 [T] each, positive learning rates from which to search.
      problem: the regression.

    Returns:
      The best end of all searches.
    """
    import scipy.optimize  # takes half a second

    @functools.lru_cache(maxsize=1)
    def at(logs: bytes) -> tuple[float, Array, Array]:
        """Returns the log risk, its gradient, and its Hessian by the log rates."""
        # A trial step may be so long that the risk overflows; then the region shrinks.
        with np.errstate(over="ignore", invalid="ignore"):
            rates = np.exp(np.frombuffer(logs))
            risk, gradient, hessian = derivatives(rates, problem)
            slope = rates * gradient / risk
            curvature = np.outer(rates, rates) * hessian / risk - np.outer(slope, slope)
        log_risk = float(np.log(risk)) if np.isfinite(risk) else np.inf
        return log_risk, slope, curvature + np.diag(slope)

    ends = []
    for start in starts:
        found = scipy.optimize.minimize(
            lambda logs: at(logs.tobytes())[:2],
            np.log(start),
            jac=True,
            hess=lambda logs: at(logs.tobytes())[2],
            method="trust-exact",
            options={"gtol": TOLERANCE, "maxiter": 1000},
        )
        ends.append(np.exp(found.x))
    risks = [float(excess_risk(rates, problem)) for rates in ends]
    best = int(np.argmin(risks))
    return Optimum(ends[best], risks[best], tuple(risks))
