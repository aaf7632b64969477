"""Anneals along any shape, either once or in cycles.

The value at each step is `peak * fraction + end * (1 - fraction)`. A shape maps the position in a
cycle to the fraction, and `loganneal_jax.cycles` maps a step to that position. Every schedule takes
a count of any shape and returns float32 values of the same shape; count 0 is the first step.
Numbers of steps and multipliers are Python numbers. All other numeric parameters may be traced
scalars, so `jax.vmap` can sweep over them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from loganneal_jax import arguments, cycles
from loganneal_jax.schedule import ScheduleFunction, returns_schedule

Shape = Callable[[jax.Array, jax.Array], jax.Array]
# (elapsed, remaining, peak, end) -> value. More general than a shape, because the base of the
# logarithm in eq. (4) depends on the cycle's peak and end.
Curve = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


@returns_schedule
def anneal(
    shape: Shape, peak_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> ScheduleFunction:
    """Anneals once along any shape, then holds the last value.

    `lr = end_value + (peak_value - end_value) * shape(elapsed, remaining)`, where
    `elapsed = min(count, decay_steps)` and `remaining = decay_steps - elapsed`.

    Args:
      shape: A function that maps `(elapsed, remaining)`, float32 steps, to a float32 fraction. See
        `loganneal_jax.shapes`.
      peak_value: Value where the fraction is 1, a scalar.
      end_value: Value where the fraction is 0, a scalar. It may be above `peak_value`; the schedule
        then rises.
      decay_steps: Number of steps of the annealing, at least 1.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or `decay_steps < 1`.
      TypeError: If an argument has the wrong type.

    >>> from loganneal_jax import shapes
    >>> print(anneal(shapes.linear, 0.1, 0.0, decay_steps=4)(jnp.arange(6)))
    [0.1   0.075 0.05  0.025 0.    0.   ]
    """
    arguments.shape("shape", shape)
    peak_value, end_value = validate_range("peak_value", peak_value, end_value)
    decay_steps = arguments.steps("decay_steps", decay_steps)
    return anneal_once(curve_from_shape(shape), peak_value, end_value, decay_steps)


@returns_schedule
def restarts(
    shape: Shape,
    peak_value: ArrayLike,
    end_value: ArrayLike,
    *,
    restart_interval: float,
    restart_multiplier: float = 1.0,
    restart_decay: ArrayLike = 1.0,
    warmup_steps: int = 0,
    warmup_init_value: ArrayLike = 0.0,
    hold_steps: int = 0,
    num_cycles: int | None = None,
    round_lengths: bool = True,
) -> ScheduleFunction:
    """Anneals along any shape with warm restarts.

    Cycle k starts with `warmup_steps` steps of linear warmup to its first value. It then anneals
    for `max(1, round(restart_interval * restart_multiplier**k))` steps and holds the last value for
    `hold_steps` steps. Its peak is `peak_value * restart_decay**k`, but not beyond `end_value`.

    Args:
      shape: A function that maps `(elapsed, remaining)`, float32 steps, to a float32 fraction. See
        `loganneal_jax.shapes`.
      peak_value: Peak of the first cycle, a scalar.
      end_value: End of every cycle, a scalar. It may be above `peak_value`; the cycles then rise.
      restart_interval: Number of steps of the first annealing, an int of at least 1. If
        `round_lengths` is False, any number of at least 1.
      restart_multiplier: Ratio of the lengths of consecutive annealings, a positive Python number.
      restart_decay: Ratio of consecutive peaks, a scalar above 0 and at most 1.
      warmup_steps: Number of warmup steps before each annealing.
      warmup_init_value: Initial value of each warmup, a scalar.
      hold_steps: Number of steps to hold the last value after each annealing.
      num_cycles: Number of cycles, at least 1. The schedule then holds the last value. `None`
        restarts forever.
      round_lengths: Whether to round the lengths of the cycles to integers. If False, cycle k lasts
        `restart_interval * restart_multiplier**k` steps and may start between two steps, as in
        timm, Keras, and transformers. This needs `num_cycles`, and excludes warmups and holds.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite, is outside the range given above, or has no effect.
      TypeError: If an argument has the wrong type.

    >>> from loganneal_jax import shapes
    >>> schedule = restarts(shapes.linear, 1.0, 0.0, restart_interval=2, restart_multiplier=2.0)
    >>> print(schedule(jnp.arange(8)))
    [1.    0.5   1.    0.75  0.5   0.25  1.    0.875]
    >>> schedule = restarts(
    ...     shapes.linear, 1.0, 0.0, restart_interval=2.5, num_cycles=2, round_lengths=False
    ... )
    >>> print(schedule(jnp.arange(7)))
    [1.  0.6 0.2 0.8 0.4 0.  0. ]
    """
    arguments.shape("shape", shape)
    peak_value, end_value = validate_range("peak_value", peak_value, end_value)
    return anneal_in_cycles(
        curve_from_shape(shape),
        peak_value,
        end_value,
        restart_interval=restart_interval,
        restart_multiplier=restart_multiplier,
        restart_decay=restart_decay,
        warmup_steps=warmup_steps,
        warmup_init_value=warmup_init_value,
        hold_steps=hold_steps,
        num_cycles=num_cycles,
        round_lengths=round_lengths,
    )


def anneal_once(
    curve: Curve, peak_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> ScheduleFunction:
    """Builds a schedule that anneals once along a curve, from validated arguments."""

    def schedule(count: ArrayLike) -> jax.Array:
        elapsed, remaining = cycles.single(count, decay_steps)
        return curve(
            elapsed,
            remaining,
            jnp.asarray(peak_value, jnp.float32),
            jnp.asarray(end_value, jnp.float32),
        )

    return schedule


def anneal_in_cycles(
    curve: Curve,
    peak_value: ArrayLike,
    end_value: ArrayLike,
    *,
    restart_interval: float,
    restart_multiplier: float,
    restart_decay: ArrayLike,
    warmup_steps: int = 0,
    warmup_init_value: ArrayLike = 0.0,
    hold_steps: int = 0,
    num_cycles: int | None = None,
    round_lengths: bool = True,
) -> ScheduleFunction:
    """Builds a schedule that anneals along a curve in cycles."""
    restart_multiplier = arguments.static_number(
        "restart_multiplier", restart_multiplier, above=0.0
    )
    restart_decay = arguments.number("restart_decay", restart_decay, above=0.0, maximum=1.0)
    warmup_steps, warmup_init_value = arguments.warmup(warmup_steps, warmup_init_value)
    hold_steps = arguments.steps("hold_steps", hold_steps, minimum=0)
    if num_cycles is not None:
        num_cycles = arguments.steps("num_cycles", num_cycles)
    if num_cycles == 1:
        needs = "num_cycles of at least 2"
        arguments.unused("restart_multiplier", restart_multiplier, 1.0, needs=needs)
        arguments.unused("restart_decay", restart_decay, 1.0, needs=needs)
    if round_lengths:
        locate = cycles.repeated(
            arguments.steps("restart_interval", restart_interval),
            restart_multiplier,
            warmup_steps=warmup_steps,
            hold_steps=hold_steps,
            num_cycles=num_cycles,
        )
    else:
        locate = _unrounded_cycles(
            restart_interval, restart_multiplier, warmup_steps, hold_steps, num_cycles
        )
    log_decay = log(restart_decay)

    def schedule(count: ArrayLike) -> jax.Array:
        position = locate(count)
        first_peak = jnp.asarray(peak_value, jnp.float32)
        end = jnp.asarray(end_value, jnp.float32)
        decay = jnp.exp(position.cycle.astype(jnp.float32) * jnp.asarray(log_decay, jnp.float32))
        peak = _limit(first_peak * decay, peak_value, end_value)
        value = curve(position.elapsed, position.remaining, peak, end)
        if warmup_steps == 0:
            return value
        # During the warmup, `elapsed` is 0, so `value` is the cycle's first value: the target.
        start = jnp.asarray(warmup_init_value, jnp.float32)
        progress = position.warmup_elapsed / warmup_steps
        warmup = value * progress + start * (1.0 - progress)
        # Select instead of interpolating: XLA divides by a constant inexactly, so `progress` may
        # not be exactly 1 at the end of the warmup.
        return jnp.where(position.warmup_elapsed < warmup_steps, warmup, value)

    return schedule


def _unrounded_cycles(
    restart_interval: float,
    restart_multiplier: float,
    warmup_steps: int,
    hold_steps: int,
    num_cycles: int | None,
) -> Callable[[ArrayLike], cycles.Position]:
    """Validates the arguments of cycles that may start between two steps and locates them."""
    interval = arguments.static_number(
        "restart_interval", restart_interval, minimum=1.0, maximum=arguments.MAX_STEPS
    )
    if num_cycles is None or num_cycles > cycles.MAX_UNROUNDED_CYCLES:
        raise ValueError(
            "num_cycles must be an int between 1 and "
            f"{cycles.MAX_UNROUNDED_CYCLES} if round_lengths is False, got {num_cycles}."
        )
    needs = "round_lengths=True; use with_warmup for a single warmup"
    arguments.unused("warmup_steps", warmup_steps, 0, needs=needs)
    arguments.unused("hold_steps", hold_steps, 0, needs="round_lengths=True")
    return cycles.unrounded(interval, restart_multiplier, num_cycles)


def _limit(peak: jax.Array, first_peak: ArrayLike, end_value: ArrayLike) -> jax.Array:
    """Keeps the peaks of later cycles from crossing `end_value`, in falling and rising cycles."""
    end = jnp.asarray(end_value, jnp.float32)
    if isinstance(first_peak, float) and isinstance(end_value, float):
        return jnp.minimum(peak, end) if first_peak < end_value else jnp.maximum(peak, end)
    is_rising = jnp.asarray(first_peak, jnp.float32) < end
    return jnp.where(is_rising, jnp.minimum(peak, end), jnp.maximum(peak, end))


def constant(value: ArrayLike) -> ScheduleFunction:
    """Builds a constant schedule from a validated value."""
    return lambda count: jnp.full_like(count, jnp.asarray(value, jnp.float32), dtype=jnp.float32)


def curve_from_shape(shape: Shape) -> Curve:
    """Converts a shape to a curve that equals `peak` at fraction 1 and `end` at fraction 0."""

    def curve(
        elapsed: jax.Array, remaining: jax.Array, peak: jax.Array, end: jax.Array
    ) -> jax.Array:
        fraction = shape(elapsed, remaining)
        return peak * fraction + end * (1.0 - fraction)

    return curve


def validate_range(
    name: str, peak: ArrayLike, end: ArrayLike
) -> tuple[float | jax.Array, float | jax.Array]:
    """Validates the first and the last value of an annealing, in any order, and returns them."""
    return arguments.number(name, peak), arguments.number("end_value", end)


def log(value: float | jax.Array) -> float | jax.Array:
    """Returns the natural logarithm, in float64 for concrete values.

    Callers multiply it by step counts or cycle numbers, which amplifies rounding errors.
    """
    return math.log(value) if isinstance(value, float) else jnp.log(value)
