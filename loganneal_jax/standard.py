"""Standard schedules of other libraries: constant, cosine, polynomial, tanh, and inverse time."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, shapes
from loganneal_jax.schedule import ScheduleFunction, returns_schedule


@returns_schedule
def constant_schedule(value: ArrayLike) -> ScheduleFunction:
    """Returns the same value at every step.

    Args:
      value: The value, a scalar.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If `value` is not finite or not a scalar.
      TypeError: If `value` is not a number.

    >>> print(constant_schedule(0.1)(jnp.arange(3)))
    [0.1 0.1 0.1]
    """
    value = arguments.number("value", value)
    return lambda count: jnp.full_like(count, value, dtype=jnp.float32)


@returns_schedule
def cosine_decay_schedule(
    init_value: ArrayLike,
    end_value: ArrayLike | None,
    decay_steps: int,
    *,
    end_fraction: ArrayLike | None = None,
    exponent: ArrayLike = 1.0,
    k: ArrayLike = 1.0,
) -> ScheduleFunction:
    """Decays along a cosine from `init_value` to `end_value`, then holds `end_value`.

    `lr = end_value + (init_value - end_value) (1/2 (1 + cos(pi x**k)))**exponent`, where
    `x = min(count / decay_steps, 1)`.

    Args:
      init_value: Value at step 0, a scalar.
      end_value: Value from step `decay_steps` on, a scalar, or `None` if `end_fraction` is set.
      decay_steps: Number of steps of the decay, at least 1.
      end_fraction: The end value as a fraction of `init_value`, a scalar. optax and Keras call it
        `alpha`.
      exponent: Positive scalar. A larger exponent falls faster at the start.
      k: Exponent of k-decay, a positive scalar. Above 1, the value stays high for longer.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above, or if not exactly
        one of `end_value` and `end_fraction` is set.
      TypeError: If an argument has the wrong type.

    >>> import numpy
    >>> print(numpy.asarray(cosine_decay_schedule(1.0, 0.0, 4)(jnp.arange(6))).round(4))
    [1.     0.8536 0.5    0.1464 0.     0.    ]

    Source: Loshchilov and Hutter 2017, arXiv 1608.03983; Zhang and Li 2020, arXiv 2004.05909
    (k-decay).
    """
    end = resolve_end("init_value", init_value, end_value, end_fraction)
    exponent = arguments.number("exponent", exponent, above=0.0)
    k = arguments.number("k", k, above=0.0)
    shape = _bind(shapes.cosine, shapes.cosine_power, exponent=exponent)
    return annealing.anneal(_with_k_decay(shape, k), init_value, end, decay_steps)


@returns_schedule
def polynomial_decay_schedule(
    init_value: ArrayLike,
    end_value: ArrayLike | None,
    decay_steps: int,
    *,
    end_fraction: ArrayLike | None = None,
    power: ArrayLike = 1.0,
    k: ArrayLike = 1.0,
    cycle: bool = False,
) -> ScheduleFunction:
    """Decays along a polynomial from `init_value` to `end_value`, once or in cycles.

    `lr = end_value + (init_value - end_value) (1 - x**k)**power`. Without cycles,
    `x = min(count / decay_steps, 1)`. With cycles, `x = count / (n decay_steps)`, where
    `n = max(1, ceil(count / decay_steps))`. At each multiple of `decay_steps`, the value therefore
    reaches `end_value`, then jumps to a peak that decreases from cycle to cycle.

    Args:
      init_value: Value at step 0, a scalar.
      end_value: Value at step `decay_steps`, a scalar, or `None` if `end_fraction` is set.
      decay_steps: Number of steps of the decay, at least 1.
      end_fraction: The end value as a fraction of `init_value`, a scalar.
      power: Positive scalar. 1 is linear; a larger power falls faster at the start.
      k: Exponent of k-decay, a positive scalar. Above 1, the value stays high for longer.
      cycle: Whether to continue in cycles, as Keras and TensorFlow 1 do. If False, the schedule
        holds `end_value`.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above, or if not exactly
        one of `end_value` and `end_fraction` is set.
      TypeError: If an argument has the wrong type.

    >>> print(polynomial_decay_schedule(1.0, 0.0, 4, power=2.0)(jnp.arange(6)))
    [1.     0.5625 0.25   0.0625 0.     0.    ]
    >>> print(polynomial_decay_schedule(1.0, 0.0, 2, cycle=True)(jnp.arange(6)))
    [1.         0.5        0.         0.25       0.         0.16666667]

    Source: Zhang and Li 2020, arXiv 2004.05909 (k-decay).
    """
    end = resolve_end("init_value", init_value, end_value, end_fraction)
    decay_steps = arguments.steps("decay_steps", decay_steps)
    power = arguments.number("power", power, above=0.0)
    k = arguments.number("k", k, above=0.0)
    if not isinstance(cycle, bool):
        raise TypeError(f"cycle must be True or False, got {cycle!r}.")
    shape = _with_k_decay(_bind(shapes.linear, shapes.polynomial, power=power), k)
    if not cycle:
        return annealing.anneal(shape, init_value, end, decay_steps)
    init_value = arguments.number("init_value", init_value)
    curve = annealing.curve_from_shape(shape)

    def schedule(count: jax.Array) -> jax.Array:
        # Use uint32, because the end of the last cycle may exceed the largest int32.
        elapsed = count.astype(jnp.uint32)
        length = jnp.uint32(decay_steps)
        # The first step belongs to the first cycle, and so does step `decay_steps`.
        period = (jnp.maximum(elapsed, 1) - 1) // length * length + length
        return curve(
            elapsed.astype(jnp.float32),
            (period - elapsed).astype(jnp.float32),
            jnp.asarray(init_value, jnp.float32),
            jnp.asarray(end, jnp.float32),
        )

    return schedule


@returns_schedule
def tanh_decay_schedule(
    init_value: ArrayLike,
    end_value: ArrayLike | None,
    decay_steps: int,
    *,
    end_fraction: ArrayLike | None = None,
    lower: ArrayLike = -7.0,
    upper: ArrayLike = 3.0,
) -> ScheduleFunction:
    """Decays along a hyperbolic tangent, then holds the last value.

    `lr = end_value + 1/2 (init_value - end_value) (1 - tanh(lower (1 - x) + upper x))`, where
    `x = min(count / decay_steps, 1)`. The schedule approaches `init_value` and `end_value` but does
    not reach them. With the default bounds, it falls from 0.999999 to 0.0025 of the range.

    Args:
      init_value: Value that the schedule starts close to, a scalar.
      end_value: Value that the schedule ends close to, a scalar, or `None` if `end_fraction` is
        set.
      decay_steps: Number of steps of the decay, at least 1.
      end_fraction: The end value as a fraction of `init_value`, a scalar.
      lower: Argument of tanh at step 0, a scalar below `upper`.
      upper: Argument of tanh at step `decay_steps`, a scalar.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite, if `lower >= upper`, or if not exactly one of
        `end_value` and `end_fraction` is set.
      TypeError: If an argument has the wrong type.

    >>> import numpy
    >>> print(numpy.asarray(tanh_decay_schedule(1.0, 0.0, 10)(jnp.array([0, 7, 10]))).round(4))
    [1.     0.5    0.0025]

    Source: Hsueh, Li and Wu 2019, arXiv 1806.01593.
    """
    end = resolve_end("init_value", init_value, end_value, end_fraction)
    lower = arguments.number("lower", lower)
    upper = arguments.number("upper", upper)
    if isinstance(lower, float) and isinstance(upper, float) and lower >= upper:
        raise ValueError(f"lower must be below upper={upper}, got {lower}.")
    shape = functools.partial(shapes.tanh, lower=lower, upper=upper)
    return annealing.anneal(shape, init_value, end, decay_steps)


@returns_schedule
def inverse_time_schedule(
    init_value: ArrayLike,
    decay_steps: int,
    *,
    decay_rate: ArrayLike,
    staircase: bool = False,
) -> ScheduleFunction:
    """Decays with the inverse of the step, forever.

    `lr = init_value / (1 + decay_rate x)`, where `x = count / decay_steps`, or
    `x = floor(count / decay_steps)` if `staircase` is set.

    Args:
      init_value: Value at step 0, a scalar.
      decay_steps: Number of steps over which `x` grows by 1, at least 1.
      decay_rate: Growth of the divisor per `decay_steps` steps, a scalar, at least 0.
      staircase: Whether the value changes only every `decay_steps` steps.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(inverse_time_schedule(1.0, 10, decay_rate=1.0)(jnp.array([0, 10, 30])))
    [1.   0.5  0.25]

    Source: Robbins and Monro 1951, doi 10.1214/aoms/1177729586.
    """
    init_value = arguments.number("init_value", init_value)
    decay_steps = arguments.steps("decay_steps", decay_steps)
    decay_rate = arguments.number("decay_rate", decay_rate, minimum=0.0)
    if not isinstance(staircase, bool):
        raise TypeError(f"staircase must be True or False, got {staircase!r}.")

    def schedule(count: jax.Array) -> jax.Array:
        if staircase:
            elapsed = (count // decay_steps).astype(jnp.float32)
        else:
            elapsed = count.astype(jnp.float32) / decay_steps
        return jnp.asarray(init_value, jnp.float32) / (
            1.0 + jnp.asarray(decay_rate, jnp.float32) * elapsed
        )

    return schedule


def resolve_end(
    name: str, start: ArrayLike, end_value: ArrayLike | None, end_fraction: ArrayLike | None
) -> float | jax.Array:
    """Returns the end value, which is given as a value or as a fraction of `start`."""
    if (end_value is None) == (end_fraction is None):
        raise ValueError(
            "Set exactly one of end_value and end_fraction to a number and leave the other None, "
            f"got end_value={end_value} and end_fraction={end_fraction}."
        )
    start = arguments.number(name, start)
    if end_fraction is None:
        return arguments.number("end_value", end_value)
    return start * arguments.number("end_fraction", end_fraction)


def _bind(
    plain: shapes.Shape, general: Callable[..., jax.Array], **parameter: float | jax.Array
) -> shapes.Shape:
    """Binds a shape's exponent. For an exponent of 1, returns the plain, exact shape."""
    (value,) = parameter.values()
    if isinstance(value, float) and value == 1.0:
        return plain
    return functools.partial(general, **parameter)


def _with_k_decay(shape: shapes.Shape, k: float | jax.Array) -> shapes.Shape:
    if isinstance(k, float) and k == 1.0:
        return shape
    return functools.partial(shapes.k_decay, shape=shape, k=k)
