"""Decay schedules without restarts, as baselines for cyclical annealing.

Each of them rises if its last value is above its first one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, cycles, lookup, shapes, warmups
from loganneal_jax.schedule import ScheduleFunction, returns_schedule

_FLOAT32_TINY = float(np.finfo(np.float32).tiny)


@returns_schedule
def linear_decay_schedule(
    init_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> ScheduleFunction:
    """Decays linearly from `init_value` to `end_value`, then holds `end_value`.

    `lr = end_value + (init_value - end_value) (1 - x)`, where `x = min(count / decay_steps, 1)`.
    With `end_value = 0`, this is linear decay to zero.

    Args:
      init_value: Value at step 0, a scalar.
      end_value: Value from step `decay_steps` on, a scalar.
      decay_steps: Number of steps of the decay, at least 1.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(linear_decay_schedule(1.0, 0.0, decay_steps=4)(jnp.arange(6)))
    [1.   0.75 0.5  0.25 0.   0.  ]

    Source: Bergsma et al. 2025, arXiv 2502.15938 (linear to zero).
    """
    init_value, end_value = annealing.validate_range("init_value", init_value, end_value)
    return annealing.anneal(shapes.linear, init_value, end_value, decay_steps)


@returns_schedule
def exponential_decay_schedule(
    init_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> ScheduleFunction:
    """Decays exponentially from `init_value` to `end_value`, then holds `end_value`.

    `lr = init_value (end_value / init_value)**x`, where `x = min(count / decay_steps, 1)`. Nakamura
    et al. 2021 call this schedule `exp`.

    Args:
      init_value: Value at step 0, a positive scalar.
      end_value: Value from step `decay_steps` on, a positive scalar.
      decay_steps: Number of steps of the decay, at least 1.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(np.asarray(exponential_decay_schedule(1.0, 0.01, 4)(jnp.arange(6))).round(4))
    [1.     0.3162 0.1    0.0316 0.01   0.01  ]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, figure 1.
    """
    init_value = arguments.number("init_value", init_value, minimum=_FLOAT32_TINY)
    end_value = arguments.number("end_value", end_value, minimum=_FLOAT32_TINY)
    decay_steps = arguments.steps("decay_steps", decay_steps)
    log_rate = annealing.log(end_value) - annealing.log(init_value)
    if isinstance(log_rate, float):
        curve = _rising_exponential(log_rate) if log_rate > 0 else _falling_exponential(log_rate)
        return annealing.anneal_once(curve, init_value, end_value, decay_steps)

    def either(
        elapsed: jax.Array, remaining: jax.Array, peak: jax.Array, end: jax.Array
    ) -> jax.Array:
        falling = _falling_exponential(jnp.minimum(log_rate, 0.0))(elapsed, remaining, peak, end)
        rising = _rising_exponential(jnp.maximum(log_rate, 0.0))(elapsed, remaining, peak, end)
        return jnp.where(log_rate > 0, rising, falling)

    return annealing.anneal_once(either, init_value, end_value, decay_steps)


def _falling_exponential(log_rate: float | jax.Array) -> annealing.Curve:
    return annealing.curve_from_shape(
        lambda elapsed, remaining: shapes.exponential(elapsed, remaining, log_rate)
    )


def _rising_exponential(log_rate: float | jax.Array) -> annealing.Curve:
    """Returns the falling curve from the end to the start, which is accurate near the start."""
    falling = _falling_exponential(-log_rate)
    return lambda elapsed, remaining, peak, end: falling(remaining, elapsed, end, peak)


@returns_schedule
def sigmoid_decay_schedule(
    init_value: ArrayLike, end_value: ArrayLike, decay_steps: int, *, slope: ArrayLike = 5.0
) -> ScheduleFunction:
    """Decays along a sigmoid, then holds the last value.

    `lr = end_value + (init_value - end_value) / (1 + exp(slope (2x - 1)))`, where
    `x = min(count / decay_steps, 1)`. Nakamura et al. 2021 call this schedule `sig`.

    The schedule approaches `init_value` and `end_value` but does not reach them. With slope 5, it
    falls from 0.9933 to 0.0067 of the range. The paper prints the slope as `kappa = 1/5`, which
    yields an almost constant schedule, but its figure shows a slope of `1 / kappa`.

    Args:
      init_value: eta_up, a scalar.
      end_value: eta_low, a scalar.
      decay_steps: Number of steps of the decay, at least 1.
      slope: Steepness, a positive scalar.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(np.asarray(sigmoid_decay_schedule(0.1, 0.001, 4)(jnp.arange(6))).round(4))
    [0.0993 0.0925 0.0505 0.0085 0.0017 0.0017]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, eq. (3).
    """
    init_value, end_value = annealing.validate_range("init_value", init_value, end_value)
    slope = arguments.number("slope", slope, above=0.0)
    decay_steps = arguments.steps("decay_steps", decay_steps)
    curve = annealing.curve_from_shape(
        lambda elapsed, remaining: shapes.sigmoid(elapsed, remaining, slope)
    )
    return annealing.anneal_once(curve, init_value, end_value, decay_steps)


@returns_schedule
def rex_schedule(init_value: ArrayLike, end_value: ArrayLike, decay_steps: int) -> ScheduleFunction:
    """REX (reflected exponential): decays slowly at first and fast at the end.

    `lr = end_value + (init_value - end_value) (1 - x) / (1 - x / 2)`, where
    `x = min(count / decay_steps, 1)`. After the decay, the schedule holds `end_value`.

    Args:
      init_value: Value at step 0, a scalar.
      end_value: Value from step `decay_steps` on, a scalar.
      decay_steps: Number of steps of the decay, at least 1.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(np.asarray(rex_schedule(1.0, 0.0, decay_steps=4)(jnp.arange(6))).round(4))
    [1.     0.8571 0.6667 0.4    0.     0.    ]

    Source: Chen, Wolfe and Kyrillidis 2022, arXiv 2107.04197.
    """
    init_value, end_value = annealing.validate_range("init_value", init_value, end_value)
    return annealing.anneal(shapes.rex, init_value, end_value, decay_steps)


@returns_schedule
def inverse_sqrt_schedule(
    peak_value: ArrayLike,
    *,
    warmup_steps: int,
    warmup_init_value: ArrayLike = 0.0,
    timescale: ArrayLike | None = None,
    shift: ArrayLike = 0,
) -> ScheduleFunction:
    """Warms up linearly, then decays with the inverse square root of the step, forever.

    From step `warmup_steps` on,
    `lr = peak_value sqrt(timescale / (timescale + shift + count - warmup_steps))`. By default, this
    is `peak_value sqrt(warmup_steps / count)`.

    Args:
      peak_value: Value at step `warmup_steps`, a scalar. With a `shift`, the value there is
        `peak_value sqrt(timescale / (timescale + shift))`.
      warmup_steps: Number of warmup steps; 0 means no warmup.
      warmup_init_value: Value at step 0, a scalar.
      timescale: Number of steps after which the value has fallen by a factor of `sqrt(2)`, a
        positive scalar. `None` selects `warmup_steps`, which must then be at least 1.
      shift: Number of steps that the decay is ahead, a scalar above `-timescale`. For example, it
        continues a run with another batch size.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite, is outside the range given above, or has no effect.
      TypeError: If an argument has the wrong type.

    >>> print(inverse_sqrt_schedule(1.0, warmup_steps=2)(jnp.array([0, 1, 2, 8, 32])))
    [0.   0.5  1.   0.5  0.25]

    Source: Vaswani et al. 2017, arXiv 1706.03762, eq. (3); Zhai et al. 2022, arXiv 2106.04560
    (timescale).
    """
    peak_value = arguments.number("peak_value", peak_value)
    warmup_steps, warmup_init_value = arguments.warmup(warmup_steps, warmup_init_value)
    if warmup_steps == 0 and timescale is None:
        raise ValueError("timescale must be set if warmup_steps is 0, got None.")
    scale: float | jax.Array = float(warmup_steps)
    if timescale is not None:
        scale = arguments.number("timescale", timescale, minimum=1e-6)
    shift = arguments.number("shift", shift)
    start = scale + shift
    if isinstance(start, float) and not start >= 1e-6:
        raise ValueError(f"shift must be above -timescale={-scale}, got {shift}.")

    def decay(count: ArrayLike) -> jax.Array:
        step = cycles.as_count(count).astype(jnp.float32) + jnp.asarray(start, jnp.float32)
        ratio = jnp.asarray(scale, jnp.float32) / step
        return jnp.asarray(peak_value, jnp.float32) * jnp.sqrt(ratio)

    return warmups.with_warmup(decay, warmup_steps, warmup_init_value)


@returns_schedule
def staircase_schedule(
    init_value: ArrayLike, *, boundaries: Sequence[int], decay_rate: ArrayLike = 0.1
) -> ScheduleFunction:
    """Multiplies the learning rate by a constant factor at each boundary.

    `lr = init_value * decay_rate**n`, where `n` is the number of boundaries at or before `count`.
    Nakamura et al. 2021 call this schedule `str`. If the factors differ between boundaries, use
    `optax.piecewise_constant_schedule`.

    Args:
      init_value: Value at step 0, a scalar.
      boundaries: Steps at which the value changes, positive and not decreasing. The new value
        applies from the boundary itself. A repeated boundary applies the factor again.
      decay_rate: Factor at each boundary, a positive scalar. Above 1, the value rises.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite, is outside the range given above, or has no effect.
      TypeError: If an argument has the wrong type.

    >>> print(staircase_schedule(1.0, boundaries=[2, 4], decay_rate=0.5)(jnp.arange(6)))
    [1.   1.   0.5  0.5  0.25 0.25]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, figure 1.
    """
    init_value = arguments.number("init_value", init_value)
    steps = arguments.boundaries("boundaries", boundaries, repeats=True)
    decay_rate = arguments.number("decay_rate", decay_rate, above=0.0)
    if not steps:
        arguments.unused("decay_rate", decay_rate, 0.1, needs="at least one boundary")
    _check_last_step(init_value, decay_rate, len(steps))
    edges = np.array(steps, np.int32)

    def schedule(count: ArrayLike) -> jax.Array:
        factor = jnp.asarray(decay_rate, jnp.float32)
        passed = lookup.count_at_most(edges, cycles.as_count(count))
        return jnp.asarray(init_value, jnp.float32) * factor ** passed.astype(jnp.float32)

    return schedule


def _check_last_step(
    init_value: float | jax.Array, decay_rate: float | jax.Array, num_boundaries: int
) -> None:
    """Raises a ValueError if a rising staircase exceeds what float32 represents."""
    if not (isinstance(init_value, float) and isinstance(decay_rate, float)):
        return
    if num_boundaries * math.log(decay_rate) > math.log(arguments.MAX_MAGNITUDE):
        raise ValueError(
            f"decay_rate must not exceed {arguments.MAX_MAGNITUDE:g} in total over the boundaries, "
            f"got {decay_rate} at {num_boundaries} boundaries."
        )
    arguments.number("init_value * decay_rate**n", init_value * decay_rate**num_boundaries)
