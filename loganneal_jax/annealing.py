"""Annealing along a shape: once, or in cycles that restart for ever.

Each value is `peak * fraction + end * (1 - fraction)`: a shape says how the fraction falls over a
cycle, `cycles` where in which cycle a step lies. Every schedule takes a count of steps of any shape
and returns float32 of that shape; count 0 is the first step. Steps, intervals and multipliers are
Python numbers; every other number may be a traced scalar, so that a sweep is one `jax.vmap`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from loganneal_jax import arguments, cycles

Shape = Callable[[jax.Array, jax.Array], jax.Array]
# (elapsed, remaining, peak, end) -> value. More than a shape, because the base of the paper's
# logarithm depends on the cycle's peak and end.
Curve = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]


def anneal(
    shape: Shape, peak_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> optax.Schedule:
    """Anneals once along any shape, then holds the last value.

    `lr = end_value + (peak_value - end_value) * shape(elapsed, remaining)`, where `elapsed =
    min(count, decay_steps)` and `remaining = decay_steps - elapsed`.

    Args:
      shape: function of `(elapsed, remaining)`, float32 steps, to the fraction, float32, as in
        `loganneal_jax.shapes`.
      peak_value: scalar, the value where the fraction is 1.
      end_value: scalar, the value where the fraction is 0, not above `peak_value`.
      decay_steps: steps of the annealing, at least 1.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite, `end_value > peak_value` or `decay_steps < 1`.
      TypeError: if an argument has the wrong type.

    >>> from loganneal_jax import shapes
    >>> print(anneal(shapes.linear, 0.1, 0.0, decay_steps=4)(jnp.arange(6)))
    [0.1   0.075 0.05  0.025 0.    0.   ]
    """
    arguments.function("shape", shape)
    peak_value, end_value = checked_range("peak_value", peak_value, end_value)
    decay_steps = arguments.steps("decay_steps", decay_steps)
    return once(along(shape), peak_value, end_value, decay_steps)


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
    """Makes any shape cyclical: it anneals, restarts, and goes on for ever.

    Cycle k is `warmup_steps` of linear warmup to its first value, an annealing of `max(1,
    round(restart_interval * restart_multiplier**k))` steps and `hold_steps` at the annealing's end.
    Its peak is `max(peak_value * restart_decay**k, end_value)`.

    Args:
      shape: function of `(elapsed, remaining)`, float32 steps, to the fraction, float32, as in
        `loganneal_jax.shapes`.
      peak_value: scalar, the peak of the first cycle.
      end_value: scalar, the end of every cycle, not above `peak_value`.
      restart_interval: steps of the first annealing, at least 1.
      restart_multiplier: Python number above 0, factor from one annealing's length to the next.
      restart_decay: scalar above 0 and at most 1, factor from one peak to the next.
      warmup_steps: steps of warmup before every annealing.
      warmup_init_value: scalar, the value every warmup starts from.
      hold_steps: steps after every annealing.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> from loganneal_jax import shapes
    >>> schedule = restarts(shapes.linear, 1.0, 0.0, restart_interval=2, restart_multiplier=2.0)
    >>> print(schedule(jnp.arange(8)))
    [1.    0.5   1.    0.75  0.5   0.25  1.    0.875]
    """
    arguments.function("shape", shape)
    peak_value, end_value = checked_range("peak_value", peak_value, end_value)
    return cyclical(
        along(shape),
        peak_value,
        end_value,
        restart_interval=restart_interval,
        restart_multiplier=restart_multiplier,
        restart_decay=restart_decay,
        warmup_steps=warmup_steps,
        warmup_init_value=warmup_init_value,
        hold_steps=hold_steps,
    )


def once(
    curve: Curve, peak_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> optax.Schedule:
    """A single annealing along a curve."""

    def schedule(count: ArrayLike) -> jax.Array:
        elapsed, remaining = cycles.once(count, decay_steps)
        return curve(
            elapsed,
            remaining,
            jnp.asarray(peak_value, jnp.float32),
            jnp.asarray(end_value, jnp.float32),
        )

    return schedule


def cyclical(
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
    """Annealings along a curve, one after another, for ever."""
    restart_interval = arguments.steps("restart_interval", restart_interval)
    restart_multiplier = arguments.concrete("restart_multiplier", restart_multiplier, above=0.0)
    restart_decay = arguments.number("restart_decay", restart_decay, above=0.0, most=1.0)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, least=0)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)
    hold_steps = arguments.steps("hold_steps", hold_steps, least=0)
    position = cycles.repeated(
        restart_interval, restart_multiplier, warmup_steps=warmup_steps, hold_steps=hold_steps
    )
    log_decay = log(restart_decay)

    def schedule(count: ArrayLike) -> jax.Array:
        at = position(count)
        end = jnp.asarray(end_value, jnp.float32)
        decay = jnp.exp(at.cycle.astype(jnp.float32) * jnp.asarray(log_decay, jnp.float32))
        peak = jnp.maximum(jnp.asarray(peak_value, jnp.float32) * decay, end)
        value = curve(at.elapsed, at.remaining, peak, end)
        if warmup_steps == 0:
            return value
        # During its warmup a cycle stands at its first value, so that is where it leads to.
        start = jnp.asarray(warmup_init_value, jnp.float32)
        done = at.warmed / warmup_steps
        rise = value * done + start * (1.0 - done)
        # Chosen, not blended: XLA divides by a constant in a way that misses 1 by a rounding.
        return jnp.where(at.warmed < warmup_steps, rise, value)

    return schedule


def along(shape: Shape) -> Curve:
    """The curve of a shape, exactly its peak at fraction 1 and exactly its end at fraction 0."""

    def curve(
        elapsed: jax.Array, remaining: jax.Array, peak: jax.Array, end: jax.Array
    ) -> jax.Array:
        fraction = shape(elapsed, remaining)
        return peak * fraction + end * (1.0 - fraction)

    return curve


def checked_range(
    name: str, peak: ArrayLike, end: ArrayLike
) -> tuple[float | jax.Array, float | jax.Array]:
    """Checks the two values of an annealing."""
    peak = arguments.number(name, peak)
    end = arguments.number("end_value", end)
    arguments.ordered("end_value", end, name, peak)
    return peak, end


def log(value: float | jax.Array) -> float | jax.Array:
    """The natural logarithm, in float64 where the value is known, as powers of it are taken."""
    return math.log(value) if isinstance(value, float) else jnp.log(value)
