"""The recursion of `expected_risk`, compiled in float64, and the limit of long runs.

Newton's method in all T learning rates needs a Hessian of T x T numbers, which takes too long for
thousands of steps. So the logarithm of the rate is linear here between at most a few hundred knots.
The best of these schedules cannot be better than the best of all schedules, so its risk is an upper
bound on the limit's.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from experiments.tasks.expected_risk import Optimum, Problem

Array = np.ndarray

TOLERANCE = 1e-5  # norm of the gradient of the log risk by the log rates at the knots
MAX_ITERATIONS = 200


def excess_risks(rates: Array, problem: Problem) -> Array:
    """Returns the expected excess risk after SGD with many rows of learning rates.

    Args:
      rates: float64 [N, T], learning rates of T steps.
      problem: the regression.

    Returns:
      float64 [N]; infinity where it exceeds the range of float64.
    """
    with jax.enable_x64(True):
        risks = np.asarray(_excess_risks(np.asarray(rates, np.float64).T, *_arrays(problem)))
    return np.where(np.isfinite(risks), risks, np.inf)


def knot_steps(num_steps: int, num_knots: int) -> Array:
    """Returns the steps of the knots, half of which approach the end geometrically.

    A quarter leaves the start geometrically, and a quarter is spread evenly.

    Args:
      num_steps: number of steps T of the run.
      num_knots: largest number of knots; if it is T or more, every step is a knot.

    Returns:
      int64 [at most num_knots], ascending from 0 to T - 1.

    >>> knot_steps(5, 10)
    array([0, 1, 2, 3, 4])
    >>> knot_steps(1000, 12)
    array([  0,   1,  32, 500, 748, 936, 983, 995, 998, 999])
    """
    if num_knots >= num_steps:
        return np.arange(num_steps)
    last, quarter = num_steps - 1, num_knots // 4
    from_end = last - np.geomspace(1, last, num_knots - 2 * quarter)
    from_start = np.geomspace(1, last, quarter)
    evenly = np.linspace(0, last, quarter)
    return np.unique(np.concatenate([from_end, from_start, evenly, [last]]).round()).astype(int)


def between_knots(num_steps: int, knots: Array) -> Array:
    """Returns the weights that interpolate linearly between knots.

    Args:
      num_steps: number of steps T of the run.
      knots: int [K], ascending steps from 0 to T - 1.

    Returns:
      float64 [T, K]; times values at the knots, it gives values at all steps.
    """
    steps = np.arange(num_steps)
    return np.stack([np.interp(steps, knots, row) for row in np.eye(len(knots))], axis=1)


def optimal_rates_at_knots(starts: Sequence[Array], problem: Problem, knots: Array) -> Optimum:
    """Returns the best learning rates whose logarithm is linear between knots.

    Args:
      starts: float64 [T] each, positive learning rates from which to search.
      problem: the regression.
      knots: int [K], ascending steps from 0 to T - 1.

    Returns:
      The best end of all searches.
    """
    weights = between_knots(len(starts[0]), knots)

    @functools.lru_cache(maxsize=1)
    def at(logs: bytes) -> tuple[float, Array, Array]:
        """Returns the log risk, its gradient, and its Hessian by the log rates at the knots."""
        risk, slope, curvature = derivatives(weights, np.frombuffer(logs), problem)
        if not np.isfinite([risk, *slope, *curvature.flat]).all():
            # A trial step may be so long that a number overflows; then the region shrinks.
            return np.inf, np.zeros_like(slope), np.eye(len(slope))
        slope, curvature = slope / risk, curvature / risk
        return float(np.log(risk)), slope, curvature - np.outer(slope, slope)

    ends = []
    for start in starts:
        found = scipy.optimize.minimize(
            lambda logs: at(logs.tobytes())[:2],
            np.log(start[knots]),
            jac=True,
            hess=lambda logs: at(logs.tobytes())[2],
            method="trust-exact",
            options={"gtol": TOLERANCE, "maxiter": MAX_ITERATIONS},
        )
        ends.append(np.exp(weights @ found.x))
    risks = [float(risk) for risk in excess_risks(np.stack(ends), problem)]
    best = int(np.argmin(risks))
    return Optimum(ends[best], risks[best], tuple(risks))


def derivatives(weights: Array, logs: Array, problem: Problem) -> tuple[float, Array, Array]:
    """Returns the expected excess risk and its derivatives by the log rates at the knots.

    Args:
      weights: float64 [T, K], weights of the knots at each step.
      logs: float64 [K], logarithms of the learning rates at the knots.
      problem: the regression.

    Returns:
      The excess risk, its gradient [K], and its Hessian [K, K].
    """
    with jax.enable_x64(True):
        risk, gradient, hessian = _derivatives(weights, logs, *_arrays(problem))
        return float(risk), np.asarray(gradient), np.asarray(hessian)


def _arrays(problem: Problem) -> tuple[Array, float, float]:
    """Returns the problem with floats, so that another batch size does not compile again."""
    return problem.eigenvalues, float(problem.noise), float(problem.batch_size)


@jax.jit
def _excess_risks(
    rates: jax.Array, eigenvalues: jax.Array, noise: jax.Array, batch_size: jax.Array
) -> jax.Array:
    column = eigenvalues[:, None]

    def step(second: jax.Array, rate: jax.Array) -> tuple[jax.Array, None]:
        scaled = column * rate[None]
        total = (column * second).sum(axis=0) + noise**2
        second = second * (1 - 2 * scaled + scaled**2 * (1 + 1 / batch_size))
        return second + scaled * (rate * total / batch_size)[None], None

    start = jnp.ones((len(eigenvalues), rates.shape[1]))
    second, _ = jax.lax.scan(step, start, rates)
    return (column * second).sum(axis=0) / 2


@jax.jit
def _derivatives(
    weights: jax.Array,
    logs: jax.Array,
    eigenvalues: jax.Array,
    noise: jax.Array,
    batch_size: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The formulas are those of `expected_risk.derivatives`, summed over the steps."""
    rates = jnp.exp(weights @ logs)
    own = eigenvalues**2 * (1 + 1 / batch_size)

    def of(rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the factors of one step: of each m alone, and of the sum over all."""
        return 1 - 2 * rate * eigenvalues + rate**2 * own, rate**2 / batch_size

    def forward(second: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        scale, shared = of(rate)
        total = second @ eigenvalues + noise**2
        return scale * second + shared * total * eigenvalues, second

    def backward(adjoint: jax.Array, rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        scale, shared = of(rate)
        return scale * adjoint + shared * (adjoint @ eigenvalues) * eigenvalues, adjoint

    last, seconds = jax.lax.scan(forward, jnp.ones_like(eigenvalues), rates)
    _, after = jax.lax.scan(backward, eigenvalues / 2, rates, reverse=True)

    totals = seconds @ eigenvalues + noise**2
    slopes = 2 * (jnp.outer(rates, own) - eigenvalues[None])
    shared_slopes = 2 * rates / batch_size
    own_changes = slopes * seconds + jnp.outer(shared_slopes * totals, eigenvalues)
    gradient = (after * own_changes).sum(axis=1)
    curvatures = 2 * own[None] * seconds + jnp.outer(2 / batch_size * totals, eigenvalues)
    mixed = slopes * after + jnp.outer(shared_slopes * (after @ eigenvalues), eigenvalues)

    jacobian = rates[:, None] * weights  # of the rates by the logs

    def spread(
        changes: jax.Array, at: tuple[jax.Array, jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """Follows the derivative of m by the logs, and takes its product with `mixed`."""
        rate, row, own_change, mixed_change = at
        scale, shared = of(rate)
        product = (changes * mixed_change[None]).sum(axis=1)
        total = (changes * eigenvalues[None]).sum(axis=1)
        changes = scale[None] * changes + shared * jnp.outer(total, eigenvalues)
        changes += jnp.outer(row, own_change)
        return changes, product

    start = jnp.zeros((weights.shape[1], len(eigenvalues)))
    _, products = jax.lax.scan(spread, start, (rates, jacobian, own_changes, mixed))
    cross = products.T @ jacobian
    own_curvature = (after * curvatures).sum(axis=1) * rates**2 + gradient * rates
    hessian = cross + cross.T + weights.T @ (own_curvature[:, None] * weights)
    return last @ eigenvalues / 2, jacobian.T @ gradient, hessian
