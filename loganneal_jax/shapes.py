"""Annealing shapes: functions that fall from 1 at the peak to 0 at the end of a cycle.

A shape is a pure function `f(elapsed, remaining, ...) -> fraction`. `elapsed` and `remaining` are
the steps before and after the current position in the cycle, as float32 arrays of the same shape.
Their sum is the period `T` of the cycle, which is at least 1. The learning rate is
`peak * fraction + end * (1 - fraction)`.

Shapes take `remaining` rather than `T` because `T - elapsed` in float32 loses the last steps of a
long cycle. The fraction is smallest there, so its relative error would be largest.

The formulas below use `x = elapsed / T`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Shape = Callable[[jax.Array, jax.Array], jax.Array]
_EPSILON = float(np.finfo(np.float32).eps)


def constant(elapsed: jax.Array, remaining: jax.Array) -> jax.Array:
    """Constant shape: `f = 1`.

    >>> print(constant(jnp.float32(3), jnp.float32(1)))
    1.0
    """
    del remaining
    return jnp.ones_like(elapsed)


def linear(elapsed: jax.Array, remaining: jax.Array) -> jax.Array:
    """Linear shape: `f = 1 - x`.

    >>> print(linear(jnp.float32(3), jnp.float32(1)))
    0.25
    """
    return remaining / (elapsed + remaining)


def polynomial(elapsed: jax.Array, remaining: jax.Array, power: ArrayLike) -> jax.Array:
    """Polynomial shape: `f = (1 - x)**power`, as in `optax.polynomial_schedule`.

    Args:
      elapsed: Steps since the start of the cycle, float32.
      remaining: Steps until the end of the cycle, float32.
      power: Positive scalar. 1 is linear; a larger power falls faster at the start.

    Returns:
      The fraction, float32. It is exactly 1 at `elapsed = 0` and exactly 0 at `remaining = 0`.

    >>> print(polynomial(jnp.float32(3), jnp.float32(1), power=2))
    0.0625
    """
    return linear(elapsed, remaining) ** jnp.asarray(power, jnp.float32)


def cosine(elapsed: jax.Array, remaining: jax.Array) -> jax.Array:
    """Cosine shape: `f = 1/2 (1 + cos(pi x))` (Loshchilov and Hutter 2017, eq. 5).

    >>> print(np.asarray(cosine(jnp.float32(3), jnp.float32(1))).round(4))
    0.1464
    """
    # sin(pi/2 (1 - x))**2 is the same value without cancellation near the end of the cycle.
    return jnp.sin(np.float32(np.pi / 2) * linear(elapsed, remaining)) ** 2


def cosine_power(elapsed: jax.Array, remaining: jax.Array, exponent: ArrayLike) -> jax.Array:
    """Cosine shape raised to a power: `f = (1/2 (1 + cos(pi x)))**exponent`.

    This is the parameter `exponent` of `optax.cosine_decay_schedule`.

    Args:
      elapsed: Steps since the start of the cycle, float32.
      remaining: Steps until the end of the cycle, float32.
      exponent: Positive scalar. 1 is the cosine; a larger exponent falls faster at the start.

    Returns:
      The fraction, float32. It is exactly 1 at `elapsed = 0` and exactly 0 at `remaining = 0`.

    >>> fraction = cosine_power(jnp.float32(2), jnp.float32(2), exponent=2.0)
    >>> print(np.asarray(fraction).round(4))
    0.25
    """
    return cosine(elapsed, remaining) ** jnp.asarray(exponent, jnp.float32)


def tanh(
    elapsed: jax.Array, remaining: jax.Array, lower: ArrayLike = -7.0, upper: ArrayLike = 3.0
) -> jax.Array:
    """Shape of a hyperbolic tangent (Hsueh et al. 2019), as in the `TanhLRScheduler` of timm.

    `f = 1/2 (1 - tanh(lower (1 - x) + upper x))`.

    Args:
      elapsed: Steps since the start of the cycle, float32.
      remaining: Steps until the end of the cycle, float32.
      lower: Argument of tanh at the start, a scalar. The lower it is, the closer the fraction
        starts to 1, and the longer it stays there.
      upper: Argument of tanh at the end, a scalar, above `lower`. The higher it is, the closer the
        fraction ends to 0. It never reaches 0.

    Returns:
      The fraction, float32. It falls from `1/2 (1 - tanh(lower))` to `1/2 (1 - tanh(upper))`.

    >>> print(np.asarray(tanh(jnp.float32([0, 7, 10]), jnp.float32([10, 3, 0]))).round(4))
    [1.     0.5    0.0025]
    """
    weighted = (
        jnp.asarray(lower, jnp.float32) * remaining + jnp.asarray(upper, jnp.float32) * elapsed
    )
    # 1/2 (1 - tanh(z)) equals sigmoid(-2 z), without cancellation where tanh is close to 1.
    return jax.nn.sigmoid(-2.0 * (weighted / (elapsed + remaining)))


def k_decay(elapsed: jax.Array, remaining: jax.Array, shape: Shape, k: ArrayLike) -> jax.Array:
    """Shape with k-decay: evaluates another shape at `x**k` (Zhang and Li 2020).

    This is the parameter `k_decay` of timm's `CosineLRScheduler` and `PolyLRScheduler`. To pass it
    to `anneal` or `restarts`, use `functools.partial(shapes.k_decay, shape=shapes.cosine, k=2.0)`.

    Args:
      elapsed: Steps since the start of the cycle, float32.
      remaining: Steps until the end of the cycle, float32.
      shape: Any shape that depends on `x` only.
      k: Positive scalar. 1 leaves the shape unchanged. Above 1, the fraction stays high for longer
        and then falls faster.

    Returns:
      The fraction, float32. It equals that of `shape` at both ends.

    >>> print(k_decay(jnp.float32(2), jnp.float32(2), shape=linear, k=2.0))
    0.75
    """
    period = elapsed + remaining
    is_inside = (elapsed > 0) & (remaining > 0)
    half = 0.5 * period
    inner_elapsed = jnp.where(is_inside, elapsed, half)
    inner_remaining = jnp.where(is_inside, remaining, half)
    # Close to the end, log(x) from `elapsed` loses the last steps of a long cycle.
    log_x = jnp.where(
        inner_remaining < inner_elapsed,
        jnp.log1p(-jnp.minimum(inner_remaining, half) / period),
        jnp.log(jnp.minimum(inner_elapsed, half) / period),
    )
    log_power = jnp.asarray(k, jnp.float32) * log_x
    return shape(
        jnp.where(is_inside, period * jnp.exp(log_power), elapsed),
        jnp.where(is_inside, -period * jnp.expm1(log_power), remaining),
    )


def exponential(elapsed: jax.Array, remaining: jax.Array, log_rate: ArrayLike) -> jax.Array:
    """Exponential shape: `f = (exp(c x) - exp(c)) / (1 - exp(c))`.

    With `c = log(end / peak)`, the learning rate is `peak * (end / peak)**x`, the exponential decay
    from `peak` to `end`, as in `optax.exponential_decay`.

    Args:
      elapsed: Steps since the start of the cycle, float32.
      remaining: Steps until the end of the cycle, float32.
      log_rate: `c`, the natural logarithm of the decay factor over the entire cycle. A scalar, at
        most 0.

    Returns:
      The fraction, float32. It is exactly 1 at `elapsed = 0` and exactly 0 at `remaining = 0`.

    >>> fraction = exponential(jnp.float32(1), jnp.float32(1), log_rate=jnp.log(0.01))
    >>> print(np.asarray(fraction).round(4))
    0.0909
    """
    log_rate = jnp.asarray(log_rate, jnp.float32)
    # For c = 0 the expression is 0/0 and its limit is a line. Both `where`s keep gradients finite.
    is_decaying = log_rate < 0
    rate = jnp.where(is_decaying, log_rate, -1.0)
    period = elapsed + remaining
    start = jnp.exp(rate * (elapsed / period))
    fraction = start * jnp.expm1(rate * (remaining / period)) / jnp.expm1(rate)
    # XLA may round the two expm1 differently, so their ratio at elapsed = 0 may differ from 1.
    return jnp.where(is_decaying & (elapsed > 0), fraction, linear(elapsed, remaining))


def sigmoid(elapsed: jax.Array, remaining: jax.Array, slope: ArrayLike = 5.0) -> jax.Array:
    """Sigmoid shape: `f = 1 / (1 + exp(slope (2x - 1)))` (Nakamura et al. 2021, eq. 3).

    Args:
      elapsed: Steps since the start of the cycle, float32.
      remaining: Steps until the end of the cycle, float32.
      slope: Steepness, a scalar. With a larger slope, the fraction starts closer to 1 and ends
        closer to 0, but it never reaches them.

    Returns:
      The fraction, float32. It falls from `1 / (1 + exp(-slope))` to `1 / (1 + exp(slope))`.

    >>> print(np.asarray(sigmoid(jnp.float32([0, 2, 4]), jnp.float32([4, 2, 0]))).round(4))
    [0.9933 0.5    0.0067]
    """
    centered = (remaining - elapsed) / (elapsed + remaining)
    return jax.nn.sigmoid(jnp.asarray(slope, jnp.float32) * centered)


def one_minus_sqrt(elapsed: jax.Array, remaining: jax.Array) -> jax.Array:
    """1-sqrt shape: `f = 1 - sqrt(x)` (Hagele et al. 2024).

    >>> print(one_minus_sqrt(jnp.float32(1), jnp.float32(3)))
    0.5
    """
    # (1 - x) / (1 + sqrt(x)) is the same value without cancellation near the end of the cycle.
    period = elapsed + remaining
    return (remaining / period) / (1.0 + jnp.sqrt(elapsed / period))


def rex(elapsed: jax.Array, remaining: jax.Array) -> jax.Array:
    """REX shape (reflected exponential): `f = (1 - x) / (1 - x / 2)` (Chen et al. 2022).

    >>> print(rex(jnp.float32(3), jnp.float32(1)))
    0.4
    """
    return 2.0 * remaining / (elapsed + 2.0 * remaining)


def log(
    elapsed: jax.Array, remaining: jax.Array, log_base: ArrayLike, first_step: ArrayLike = 1
) -> jax.Array:
    """Logarithmic shape: `f = 1/2 (1 + log_b(pi T / T_cur))` (Naveen 2024, eq. 4).

    `T_cur = min(elapsed + first_step, T)`. The fraction is not limited to [0, 1]. It ends at
    `1/2 (1 + log_b(pi))`.

    Args:
      elapsed: Steps since the start of the cycle, float32.
      remaining: Steps until the end of the cycle, float32.
      log_base: `ln(b)`, a scalar. The shape takes `ln(b)` rather than `b` because the paper's base
        `1 / (peak - end)` overflows as the range shrinks to 0, whereas its logarithm and gradient
        stay finite.
      first_step: `T_cur` at the first step of the cycle, a positive scalar.

    Returns:
      The fraction, float32.

    >>> fraction = log(jnp.float32([0, 9]), jnp.float32([10, 1]), log_base=jnp.log(10))
    >>> print(np.asarray(fraction).round(4))
    [1.2486 0.7486]
    """
    log_base = jnp.asarray(log_base, jnp.float32)
    # Base 1 has no logarithm, so keep ln(b) away from 0 by at least the float32 epsilon.
    log_base = jnp.where(jnp.abs(log_base) < _EPSILON, _EPSILON, log_base)
    log_argument = np.float32(np.log(np.pi)) + _log_period_ratio(elapsed, remaining, first_step)
    return 0.5 * (1.0 + log_argument / log_base)


def normalized_log(
    elapsed: jax.Array, remaining: jax.Array, first_step: ArrayLike = 1
) -> jax.Array:
    """Logarithmic shape from 1 to 0: `f = ln(T / T_cur) / ln(T / first_step)`.

    `T_cur = min(elapsed + first_step, T)`. With `first_step = 1` and an end value of 0, this is the
    logarithmic step size of Shamaee et al. 2024, arXiv 2404.01257.

    Args:
      elapsed: Steps since the start of the cycle, float32.
      remaining: Steps until the end of the cycle, float32.
      first_step: `T_cur` at the first step of the cycle, a positive scalar.

    Returns:
      The fraction, float32. It is exactly 1 at `elapsed = 0` and exactly 0 once
      `remaining <= first_step`. If the cycle is not longer than `first_step`, it is 1 throughout.

    >>> print(np.asarray(normalized_log(jnp.float32([0, 4, 9]), jnp.float32([10, 6, 1]))).round(4))
    [1.    0.301 0.   ]
    """
    total = _log_period_ratio(jnp.zeros_like(elapsed), elapsed + remaining, first_step)
    fraction = _log_period_ratio(elapsed, remaining, first_step) / jnp.where(total > 0, total, 1.0)
    # XLA may round the two logarithms differently, so their ratio at elapsed = 0 may differ from 1.
    return jnp.where((total > 0) & (elapsed > 0), fraction, 1.0)


def _log_period_ratio(elapsed: jax.Array, remaining: jax.Array, first_step: ArrayLike) -> jax.Array:
    """Returns `ln(T / T_cur)`, using log1p to stay accurate near 0 at the end of the cycle."""
    first_step = jnp.asarray(first_step, jnp.float32)
    return jnp.log1p(jnp.maximum(remaining - first_step, 0.0) / (elapsed + first_step))
