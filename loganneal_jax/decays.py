"""Decay schedules without restarts, as baselines for cyclical annealing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, compose, cycles, shapes

_FLOAT32_TINY = float(np.finfo(np.float32).tiny)


def linear_decay_schedule(
    init_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> optax.Schedule:
    """Decays linearly from `init_value` to `end_value`, then holds `end_value`.

    `lr = end_value + (init_value - end_value) (1 - x)`, where `x = min(count / decay_steps, 1)`.
    With `end_value = 0`, this is linear decay to zero.

    Args:
      init_value: Value at step 0, a scalar.
      end_value: Value from step `decay_steps` on, a scalar, at most `init_value`.
      decay_steps: Number of steps of the decay, at least 1.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(linear_decay_schedule(1.0, 0.0, decay_steps=4)(jnp.arange(6)))
    [1.   0.75 0.5  0.25 0.   0.  ]

    Source: Bergsma et al. 2025, arXiv 2502.15938 (linear to zero).
    """
    init_value, end_value = annealing.validate_range("init_value", init_value, end_value)
    return annealing.anneal(shapes.linear, init_value, end_value, decay_steps)


def exponential_decay_schedule(
    init_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> optax.Schedule:
    """Decays exponentially from `init_value` to `end_value`, then holds `end_value`.

    `lr = init_value (end_value / init_value)**x`, where `x = min(count / decay_steps, 1)`. Nakamura
    et al. 2021 call this schedule `exp`.

    Args:
      init_value: Value at step 0, a scalar.
      end_value: Value from step `decay_steps` on, a positive scalar, at most `init_value`.
      decay_steps: Number of steps of the decay, at least 1.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(np.asarray(exponential_decay_schedule(1.0, 0.01, 4)(jnp.arange(6))).round(4))
    [1.     0.3162 0.1    0.0316 0.01   0.01  ]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, figure 1.
    """
    end_value = arguments.number("end_value", end_value, minimum=_FLOAT32_TINY)
    init_value, end_value = annealing.validate_range("init_value", init_value, end_value)
    log_rate = annealing.log(end_value) - annealing.log(init_value)
    return annealing.anneal(
        lambda elapsed, remaining: shapes.exponential(elapsed, remaining, log_rate),
        init_value,
        end_value,
        decay_steps,
    )


def sigmoid_decay_schedule(
    init_value: ArrayLike, end_value: ArrayLike, decay_steps: int, *, slope: ArrayLike = 5.0
) -> optax.Schedule:
    """Decays along a sigmoid, then holds the last value.

    `lr = end_value + (init_value - end_value) / (1 + exp(slope (2x - 1)))`, where
    `x = min(count / decay_steps, 1)`. Nakamura et al. 2021 call this schedule `sig`.

    The schedule approaches `init_value` and `end_value` but does not reach them. With slope 5, it
    falls from 0.9933 to 0.0067 of the range. The paper prints the slope as `kappa = 1/5`, which
    yields an almost constant schedule, but its figure shows a slope of `1 / kappa`.

    Args:
      init_value: eta_up, a scalar.
      end_value: eta_low, a scalar, at most `init_value`.
      decay_steps: Number of steps of the decay, at least 1.
      slope: Steepness, a positive scalar.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(np.asarray(sigmoid_decay_schedule(0.1, 0.001, 4)(jnp.arange(6))).round(4))
    [0.0993 0.0925 0.0505 0.0085 0.0017 0.0017]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, eq. (3).
    """
    init_value, end_value = annealing.validate_range("init_value", init_value, end_value)
    slope = arguments.number("slope", slope, above=0.0)
    return annealing.anneal(
        lambda elapsed, remaining: shapes.sigmoid(elapsed, remaining, slope),
        init_value,
        end_value,
        decay_steps,
    )


def rex_schedule(init_value: ArrayLike, end_value: ArrayLike, decay_steps: int) -> optax.Schedule:
    """REX (reflected exponential): decays slowly at first and fast at the end.

    `lr = end_value + (init_value - end_value) (1 - x) / (1 - x / 2)`, where
    `x = min(count / decay_steps, 1)`. After the decay, the schedule holds `end_value`.

    Args:
      init_value: Value at step 0, a scalar.
      end_value: Value from step `decay_steps` on, a scalar, at most `init_value`.
      decay_steps: Number of steps of the decay, at least 1.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(np.asarray(rex_schedule(1.0, 0.0, decay_steps=4)(jnp.arange(6))).round(4))
    [1.     0.8571 0.6667 0.4    0.     0.    ]

    Source: Chen, Wolfe and Kyrillidis 2022, arXiv 2107.04197.
    """
    init_value, end_value = annealing.validate_range("init_value", init_value, end_value)
    return annealing.anneal(shapes.rex, init_value, end_value, decay_steps)


def inverse_sqrt_schedule(
    peak_value: ArrayLike, *, warmup_steps: int, warmup_init_value: ArrayLike = 0.0
) -> optax.Schedule:
    """Warms up linearly, then decays with the inverse square root of the step, forever.

    From step `warmup_steps` on, `lr = peak_value sqrt(warmup_steps / count)`.

    Args:
      peak_value: Value at step `warmup_steps`, a scalar.
      warmup_steps: Number of warmup steps, at least 1. It also sets the time scale of the decay.
      warmup_init_value: Value at step 0, a scalar.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(inverse_sqrt_schedule(1.0, warmup_steps=2)(jnp.array([0, 1, 2, 8, 32])))
    [0.   0.5  1.   0.5  0.25]

    Source: Vaswani et al. 2017, arXiv 1706.03762, eq. (3).
    """
    peak_value = arguments.number("peak_value", peak_value)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)

    def decay(count: ArrayLike) -> jax.Array:
        step = cycles.as_count(count).astype(jnp.float32) + float(warmup_steps)
        return jnp.asarray(peak_value, jnp.float32) * jnp.sqrt(warmup_steps / step)

    return compose.with_warmup(decay, warmup_steps, warmup_init_value)


def staircase_schedule(
    init_value: ArrayLike, *, boundaries: list[int], decay_rate: ArrayLike = 0.1
) -> optax.Schedule:
    """Multiplies the learning rate by a constant factor at each boundary.

    `lr = init_value * decay_rate**n`, where `n` is the number of boundaries at or before `count`.
    Nakamura et al. 2021 call this schedule `str`. If the factors differ between boundaries, use
    `optax.piecewise_constant_schedule`.

    Args:
      init_value: Value at step 0, a scalar.
      boundaries: Steps at which the value changes, positive and strictly increasing. The new value
        applies from the boundary itself.
      decay_rate: Factor at each boundary, a scalar above 0 and at most 1.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(staircase_schedule(1.0, boundaries=[2, 4], decay_rate=0.5)(jnp.arange(6)))
    [1.   1.   0.5  0.5  0.25 0.25]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, figure 1.
    """
    init_value = arguments.number("init_value", init_value)
    boundaries = arguments.boundaries("boundaries", boundaries)
    decay_rate = arguments.number("decay_rate", decay_rate, above=0.0, maximum=1.0)
    edges = np.array(boundaries, np.int32)

    def schedule(count: ArrayLike) -> jax.Array:
        passed = jnp.searchsorted(jnp.asarray(edges), cycles.as_count(count), side="right")
        factor = jnp.asarray(decay_rate, jnp.float32) ** passed.astype(jnp.float32)
        return jnp.asarray(init_value, jnp.float32) * factor

    return schedule
