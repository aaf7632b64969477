"""Shapes: how an annealing falls from 1, its peak, to 0, its end.

A shape is a pure function `f(elapsed, remaining, ...) -> fraction` of the steps of a cycle that are
over and of those still to come, float32 arrays of one shape; together they are the cycle's period
`T = elapsed + remaining`, at least 1. Shapes take `remaining` and not the period because the
difference of two float32 loses the last steps of a long cycle, where the fraction is smallest and
its relative error largest. A learning rate is `peak * fraction + end * (1 - fraction)`.

Below, `x = elapsed / T` and `r = remaining / T = 1 - x`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_EPSILON = float(np.finfo(np.float32).eps)


def constant(elapsed: jax.Array, remaining: jax.Array) -> jax.Array:
    """Stays at the peak: `f = 1`.

    >>> print(constant(jnp.float32(3), jnp.float32(1)))
    1.0
    """
    del remaining
    return jnp.ones_like(elapsed)


def linear(elapsed: jax.Array, remaining: jax.Array) -> jax.Array:
    """Falls along a line: `f = 1 - x`.

    >>> print(linear(jnp.float32(3), jnp.float32(1)))
    0.25
    """
    return remaining / (elapsed + remaining)


def polynomial(elapsed: jax.Array, remaining: jax.Array, power: ArrayLike) -> jax.Array:
    """Falls as a power of what remains: `f = (1 - x)**power`, as `optax.polynomial_schedule`.

    Args:
      elapsed: float32, steps of the cycle that are over.
      remaining: float32, steps of the cycle to come.
      power: scalar above 0; 1 is linear, 2 falls fast and then slowly.

    Returns:
      The fraction, float32: exactly 1 at `elapsed = 0` and 0 at `remaining = 0`.

    >>> print(polynomial(jnp.float32(3), jnp.float32(1), power=2))
    0.0625
    """
    return linear(elapsed, remaining) ** jnp.asarray(power, jnp.float32)


def cosine(elapsed: jax.Array, remaining: jax.Array) -> jax.Array:
    """Falls along half a cosine: `f = 1/2 (1 + cos(pi x))` (Loshchilov and Hutter 2017, eq. 5).

    >>> print(np.asarray(cosine(jnp.float32(3), jnp.float32(1))).round(4))
    0.1464
    """
    # The same number without the subtraction of nearly equal ones at the end of the cycle.
    return jnp.sin(np.float32(np.pi / 2) * linear(elapsed, remaining)) ** 2


def exponential(elapsed: jax.Array, remaining: jax.Array, log_rate: ArrayLike) -> jax.Array:
    """Falls by the same factor every step: `f = (exp(x c) - exp(c)) / (1 - exp(c))`.

    With `c = log(end / peak)` the learning rate is `peak * (end / peak)**x`: the exponential decay
    from `peak` to `end`, as `optax.exponential_decay`.

    Args:
      elapsed: float32, steps of the cycle that are over.
      remaining: float32, steps of the cycle to come.
      log_rate: `c`, scalar at most 0, the natural logarithm of the factor over the whole cycle.

    Returns:
      The fraction, float32: exactly 1 at `elapsed = 0` and 0 at `remaining = 0`.

    >>> fraction = exponential(jnp.float32(1), jnp.float32(1), log_rate=jnp.log(0.01))
    >>> print(np.asarray(fraction).round(4))
    0.0909
    """
    log_rate = jnp.asarray(log_rate, jnp.float32)
    # At rate 1 the expression is 0/0 and its limit a line; both where's keep gradients finite.
    curved = log_rate < 0
    rate = jnp.where(curved, log_rate, -1.0)
    period = elapsed + remaining
    start = jnp.exp(rate * (elapsed / period))
    fall = start * jnp.expm1(rate * (remaining / period)) / jnp.expm1(rate)
    # XLA may round the two expm1 differently, so that their ratio at the start is not quite 1.
    return jnp.where(curved & (elapsed > 0), fall, linear(elapsed, remaining))


def sigmoid(elapsed: jax.Array, remaining: jax.Array, slope: ArrayLike = 5.0) -> jax.Array:
    """Falls along a sigmoid: `f = 1 / (1 + exp(slope (2x - 1)))` (Nakamura et al. 2021, eq. 3).

    Args:
      elapsed: float32, steps of the cycle that are over.
      remaining: float32, steps of the cycle to come.
      slope: scalar; the steeper, the nearer the ends come to 1 and 0, which they never reach.

    Returns:
      The fraction, float32, from `1 / (1 + exp(-slope))` to `1 / (1 + exp(slope))`.

    >>> print(np.asarray(sigmoid(jnp.float32([0, 2, 4]), jnp.float32([4, 2, 0]))).round(4))
    [0.9933 0.5    0.0067]
    """
    centred = (remaining - elapsed) / (elapsed + remaining)
    return jax.nn.sigmoid(jnp.asarray(slope, jnp.float32) * centred)


def one_minus_sqrt(elapsed: jax.Array, remaining: jax.Array) -> jax.Array:
    """Falls as a root: `f = 1 - sqrt(x)` (Hagele et al. 2024, the 1-sqrt cooldown).

    >>> print(one_minus_sqrt(jnp.float32(1), jnp.float32(3)))
    0.5
    """
    # 1 - sqrt(1 - r), without the subtraction of nearly equal numbers.
    period = elapsed + remaining
    return (remaining / period) / (1.0 + jnp.sqrt(elapsed / period))


def rex(elapsed: jax.Array, remaining: jax.Array) -> jax.Array:
    """Falls slowly, then fast: `f = (1 - x) / (1 - x / 2)` (Chen et al. 2022, REX).

    >>> print(rex(jnp.float32(3), jnp.float32(1)))
    0.4
    """
    return 2.0 * remaining / (elapsed + 2.0 * remaining)


def log(
    elapsed: jax.Array, remaining: jax.Array, log_base: ArrayLike, first_step: ArrayLike = 1
) -> jax.Array:
    """Spikes and falls as a logarithm: `f = 1/2 (1 + log_b(pi T / T_cur))` (Naveen 2024, eq. 4).

    `T_cur = min(elapsed + first_step, T)`. The fraction does not keep to 0..1: it ends at
    `1/2 (1 + log_b(pi))`.

    Args:
      elapsed: float32, steps of the cycle that are over.
      remaining: float32, steps of the cycle to come.
      log_base: `ln(b)`, scalar; the logarithm, because that of the paper's base `1 / range` stays
        finite, with its gradient, where the range of learning rates vanishes.
      first_step: scalar above 0, `T_cur` at the first step of the cycle.

    Returns:
      The fraction, float32.

    >>> fraction = log(jnp.float32([0, 9]), jnp.float32([10, 1]), log_base=jnp.log(10))
    >>> print(np.asarray(fraction).round(4))
    [1.2486 0.7486]
    """
    log_base = jnp.asarray(log_base, jnp.float32)
    # No logarithm has base 1. Next to it, float32 stops at a distance of epsilon.
    log_base = jnp.where(jnp.abs(log_base) < _EPSILON, _EPSILON, log_base)
    log_argument = np.float32(np.log(np.pi)) + _log_period_over(elapsed, remaining, first_step)
    return 0.5 * (1.0 + log_argument / log_base)


def normalised_log(
    elapsed: jax.Array, remaining: jax.Array, first_step: ArrayLike = 1
) -> jax.Array:
    """Spikes and falls as a logarithm, from 1 to 0: `f = ln(T / T_cur) / ln(T / first_step)`.

    `T_cur = min(elapsed + first_step, T)`. With `first_step = 1` and an end of 0 it is the
    logarithmic step size of Shamaee et al. 2024, arXiv 2404.01257.

    Args:
      elapsed: float32, steps of the cycle that are over.
      remaining: float32, steps of the cycle to come.
      first_step: scalar above 0, `T_cur` at the first step of the cycle.

    Returns:
      The fraction, float32: exactly 1 at `elapsed = 0`, exactly 0 from `remaining = first_step`
      on, and 1 throughout a cycle that is no longer than `first_step`.

    >>> print(np.asarray(normalised_log(jnp.float32([0, 4, 9]), jnp.float32([10, 6, 1]))).round(4))
    [1.    0.301 0.   ]
    """
    whole = _log_period_over(jnp.zeros_like(elapsed), elapsed + remaining, first_step)
    fraction = _log_period_over(elapsed, remaining, first_step) / jnp.where(whole > 0, whole, 1.0)
    # XLA may round the two logarithms differently, so that their ratio at the start is not quite 1.
    return jnp.where((whole > 0) & (elapsed > 0), fraction, 1.0)


def _log_period_over(elapsed: jax.Array, remaining: jax.Array, first_step: ArrayLike) -> jax.Array:
    """`ln(T / T_cur)`, which log1p keeps accurate to the last step, where it comes near 0."""
    first_step = jnp.asarray(first_step, jnp.float32)
    return jnp.log1p(jnp.maximum(remaining - first_step, 0.0) / (elapsed + first_step))
