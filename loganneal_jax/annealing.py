"""Anneals along any shape, either once or in cycles that restart forever.

The value at each step is `peak * fraction + end * (1 - fraction)`. A shape maps the position in a
cycle to the fraction, and `loganneal_jax.cycles` maps a step to that position. Every schedule takes
a count of any shape and returns float32 values of the same shape; count 0 is the first step.
Numbers of steps and multipliers are Python numbers. All other numeric parameters may be traced
scalars, so `jax.vmap` can sweep over them.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from loganneal_jax import arguments, cycles

Shape = Callable[[jax.Array, jax.Array], jax.Array]
# (elapsed, remaining, peak, end) -> value. More general than a shape, because the base of the
# logarithm in eq. (4) depends on the cycle's peak and end.
Curve = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def anneal(
    shape: Shape, peak_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> optax.Schedule:
    """Anneals once along any shape, then holds the last value.

    `lr = end_value + (peak_value - end_value) * shape(elapsed, remaining)`, where
    `elapsed = min(count, decay_steps)` and `remaining = decay_steps - elapsed`.

    Args:
      shape: A function that maps `(elapsed, remaining)`, float32 steps, to a float32 fraction. See
        `loganneal_jax.shapes`.
      peak_value: Value where the fraction is 1, a scalar.
      end_value: Value where the fraction is 0, a scalar, at most `peak_value`.
      decay_steps: Number of steps of the annealing, at least 1.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite, `end_value > peak_value`, or `decay_steps < 1`.
      TypeError: If an argument has the wrong type.

    >>> from loganneal_jax import shapes
    >>> print(anneal(shapes.linear, 0.1, 0.0, decay_steps=4)(jnp.arange(6)))
    [0.1   0.075 0.05  0.025 0.    0.   ]
    """
    arguments.function("shape", shape)
    peak_value, end_value = validate_range("peak_value", peak_value, end_value)
    decay_steps = arguments.steps("decay_steps", decay_steps)
    return anneal_once(curve_from_shape(shape), peak_value, end_value, decay_steps)


def restarts(
    shape: Shape,
    peak_value: ArrayLike,
    end_value: ArrayLike,
    *,
    restart_interval: int,
    restart_multiplier: float = 1.0,
    restart_decay: ArrayLike = 1.0,
    warmup_steps: int = 0,
    warmup_init_value: ArrayLike = 0.0,
    hold_steps: int = 0,
) -> optax.Schedule:
    """Anneals along any shape with warm restarts, forever.

    Cycle k starts with `warmup_steps` steps of linear warmup to its first value. It then anneals
    for `max(1, round(restart_interval * restart_multiplier**k))` steps and holds the last value for
    `hold_steps` steps. Its peak is `max(peak_value * restart_decay**k, end_value)`.

    Args:
      shape: A function that maps `(elapsed, remaining)`, float32 steps, to a float32 fraction. See
        `loganneal_jax.shapes`.
      peak_value: Peak of the first cycle, a scalar.
      end_value: End of every cycle, a scalar, at most `peak_value`.
      restart_interval: Number of steps of the first annealing, at least 1.
      restart_multiplier: Ratio of the lengths of consecutive annealings, a positive Python number.
      restart_decay: Ratio of consecutive peaks, a scalar above 0 and at most 1.
      warmup_steps: Number of warmup steps before each annealing.
      warmup_init_value: Initial value of each warmup, a scalar.
      hold_steps: Number of steps to hold the last value after each annealing.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> from loganneal_jax import shapes
    >>> schedule = restarts(shapes.linear, 1.0, 0.0, restart_interval=2, restart_multiplier=2.0)
    >>> print(schedule(jnp.arange(8)))
    [1.    0.5   1.    0.75  0.5   0.25  1.    0.875]
    """
    arguments.function("shape", shape)
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
    )


def anneal_once(
    curve: Curve, peak_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> optax.Schedule:
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
    restart_interval: int,
    restart_multiplier: float,
    restart_decay: ArrayLike,
    warmup_steps: int,
    warmup_init_value: ArrayLike,
    hold_steps: int,
) -> optax.Schedule:
    """Builds a schedule that anneals along a curve in cycles, forever."""
    restart_interval = arguments.steps("restart_interval", restart_interval)
    restart_multiplier = arguments.static_number(
        "restart_multiplier", restart_multiplier, above=0.0
    )
    restart_decay = arguments.number("restart_decay", restart_decay, above=0.0, maximum=1.0)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, minimum=0)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)
    hold_steps = arguments.steps("hold_steps", hold_steps, minimum=0)
    locate = cycles.repeated(
        restart_interval, restart_multiplier, warmup_steps=warmup_steps, hold_steps=hold_steps
    )
    log_decay = log(restart_decay)

    def schedule(count: ArrayLike) -> jax.Array:
        position = locate(count)
        end = jnp.asarray(end_value, jnp.float32)
        decay = jnp.exp(position.cycle.astype(jnp.float32) * jnp.asarray(log_decay, jnp.float32))
        peak = jnp.maximum(jnp.asarray(peak_value, jnp.float32) * decay, end)
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
    """Validates the peak and the end of an annealing and returns them."""
    peak = arguments.number(name, peak)
    end = arguments.number("end_value", end)
    arguments.ordered("end_value", end, name, peak)
    return peak, end


def log(value: float | jax.Array) -> float | jax.Array:
    """Returns the natural logarithm, in float64 for concrete values.

    Callers multiply it by step counts or cycle numbers, which amplifies rounding errors.
    """
    return math.log(value) if isinstance(value, float) else jnp.log(value)
