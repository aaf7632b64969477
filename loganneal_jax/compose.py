"""Transforms any schedule: chaining, repetition, shifting, scaling, clipping, and tabulation.

The functions accept any `optax.Schedule`, a function from a step count to a value. They call it
with nonnegative int32 counts only. See `loganneal_jax.warmups` for warmups and cooldowns.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from loganneal_jax import arguments, lookup
from loganneal_jax.schedule import (
    ScheduleFunction,
    ScheduleLike,
    as_function,
    returns_schedule,
)


@returns_schedule
def chain_schedules(
    schedules: Sequence[ScheduleLike], boundaries: Sequence[int]
) -> ScheduleFunction:
    """Runs schedules one after another, each from its own step 0.

    This is `optax.join_schedules`, except that no schedule is evaluated at a negative count. The
    value of an inactive schedule is discarded, but if it is not finite, it makes the gradient NaN.

    Args:
      schedules: Schedules, one more than there are boundaries.
      boundaries: Steps at which the next schedule starts, strictly increasing and positive.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If the boundaries are not positive and strictly increasing, or if their number
        does not match the number of schedules.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> constants = [optax.constant_schedule(0.1), optax.constant_schedule(0.01)]
    >>> schedule = chain_schedules(constants, [2])
    >>> print(schedule(jnp.arange(4)))
    [0.1  0.1  0.01 0.01]
    """
    arguments.schedules("schedules", schedules)
    boundaries = arguments.boundaries("boundaries", boundaries)
    if len(schedules) != len(boundaries) + 1:
        raise ValueError(
            f"schedules must have length {len(boundaries) + 1}, one more than boundaries, "
            f"got length {len(schedules)}."
        )
    first, *others = map(as_function, schedules)

    def chained(count: jax.Array) -> jax.Array:
        value = first(count)
        for start, function in zip(boundaries, others, strict=True):
            own_count = jnp.maximum(count - start, 0)
            value = jnp.where(count < start, value, function(own_count))
        return value

    return chained


@returns_schedule
def repeat_schedule(
    schedule: ScheduleLike, num_steps: int, times: int | None = None
) -> ScheduleFunction:
    """Restarts a schedule every `num_steps` steps.

    Args:
      schedule: Any schedule.
      num_steps: Number of steps of each repetition, at least 1.
      times: Number of repetitions, at least 1. The last repetition continues beyond `num_steps`.
        `None` repeats forever.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If `num_steps` or `times` is not positive.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> schedule = repeat_schedule(optax.linear_schedule(1.0, 0.0, 2), 2, times=2)
    >>> print(schedule(jnp.arange(6)))
    [1.  0.5 1.  0.5 0.  0. ]
    """
    arguments.schedule("schedule", schedule)
    num_steps = arguments.steps("num_steps", num_steps)
    last = arguments.MAX_STEPS if times is None else arguments.steps("times", times) - 1

    values = as_function(schedule)
    return lambda count: values(count - jnp.minimum(count // num_steps, last) * num_steps)


@returns_schedule
def per_epoch(schedule: ScheduleLike, steps_per_epoch: int) -> ScheduleFunction:
    """Holds the value of a schedule constant within each epoch.

    The value at `count` is `schedule(count // steps_per_epoch * steps_per_epoch)`, the value at the
    first step of the epoch.

    Args:
      schedule: Any schedule that counts steps.
      steps_per_epoch: Number of steps per epoch, at least 1.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If `steps_per_epoch` is not positive.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> schedule = per_epoch(optax.linear_schedule(1.0, 0.0, 4), steps_per_epoch=2)
    >>> print(schedule(jnp.arange(5)))
    [1.  1.  0.5 0.5 0. ]
    """
    arguments.schedule("schedule", schedule)
    steps_per_epoch = arguments.steps("steps_per_epoch", steps_per_epoch)
    values = as_function(schedule)
    return lambda count: values(count // steps_per_epoch * steps_per_epoch)


@returns_schedule
def scale_schedule(schedule: ScheduleLike, factor: ArrayLike) -> ScheduleFunction:
    """Multiplies a schedule by a constant factor.

    Args:
      schedule: Any schedule.
      factor: Factor, a scalar.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If `factor` is not finite.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> print(scale_schedule(optax.linear_schedule(1.0, 0.0, 4), 0.5)(jnp.arange(3)))
    [0.5   0.375 0.25 ]
    """
    arguments.schedule("schedule", schedule)
    factor = arguments.number("factor", factor)
    values = as_function(schedule)
    return lambda count: values(count) * jnp.asarray(factor, jnp.float32)


@returns_schedule
def scale_for_batch_size(
    schedule: ScheduleLike, batch_size: int, base_batch_size: int = 256
) -> ScheduleFunction:
    """Scales a schedule linearly with the batch size.

    The scaling factor is `batch_size / base_batch_size`.

    Args:
      schedule: Any schedule, tuned for a batch size of `base_batch_size`.
      batch_size: Number of examples per batch across all devices, at least 1.
      base_batch_size: Batch size for which the schedule was tuned, at least 1.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a batch size is not positive.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> print(scale_for_batch_size(optax.constant_schedule(0.1), batch_size=1024)(0))
    0.4

    Source: Goyal et al. 2017, arXiv 1706.02677, section 2.1.
    """
    batch_size = arguments.steps("batch_size", batch_size)
    base_batch_size = arguments.steps("base_batch_size", base_batch_size)
    return scale_schedule(schedule, batch_size / base_batch_size)


@returns_schedule
def shift_schedule(schedule: ScheduleLike, offset: int) -> ScheduleFunction:
    """Shifts the steps of a schedule: the value at `count` is `schedule(count + offset)`.

    A positive offset skips the first steps, for example to continue a run whose step count starts
    at 0 again. A negative offset delays the schedule, which holds its first value until then.

    Args:
      schedule: Any schedule.
      offset: Number of steps to skip, or the negative number of steps of the delay.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If the magnitude of `offset` exceeds the largest int32.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> line = optax.linear_schedule(1.0, 0.0, 4)
    >>> print(shift_schedule(line, 2)(jnp.arange(4)))
    [0.5  0.25 0.   0.  ]
    >>> print(shift_schedule(line, -2)(jnp.arange(4)))
    [1.   1.   1.   0.75]
    """
    arguments.schedule("schedule", schedule)
    offset = arguments.steps("offset", offset, minimum=-arguments.MAX_STEPS)
    values = as_function(schedule)
    # Saturate instead of exceeding the largest int32.
    last = arguments.MAX_STEPS - max(offset, 0)
    return lambda count: values(jnp.maximum(jnp.minimum(count, last) + offset, 0))


@returns_schedule
def multiply_schedules(*schedules: ScheduleLike) -> ScheduleFunction:
    """Multiplies schedules with each other.

    For example, the product of a schedule and a decay from 1 decays the schedule.

    Args:
      *schedules: Any schedules, at least one.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If there is no schedule.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> line = optax.linear_schedule(1.0, 0.0, 4)
    >>> print(multiply_schedules(optax.constant_schedule(0.5), line)(jnp.arange(5)))
    [0.5   0.375 0.25  0.125 0.   ]
    """
    arguments.schedules("schedules", schedules)
    if not schedules:
        raise ValueError("schedules must contain at least one schedule, got none.")
    functions = [as_function(schedule) for schedule in schedules]

    def product(count: jax.Array) -> jax.Array:
        value = functions[0](count)
        for function in functions[1:]:
            value = value * function(count)
        return value

    return product


@returns_schedule
def clip_schedule(
    schedule: ScheduleLike, min_value: ArrayLike, max_value: ArrayLike
) -> ScheduleFunction:
    """Clips the values of a schedule to a range.

    Args:
      schedule: Any schedule.
      min_value: Lower bound, a scalar.
      max_value: Upper bound, a scalar, at least `min_value`.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a bound is not finite or `min_value > max_value`.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> print(clip_schedule(optax.linear_schedule(1.0, 0.0, 4), 0.3, 0.8)(jnp.arange(5)))
    [0.8  0.75 0.5  0.3  0.3 ]
    """
    arguments.schedule("schedule", schedule)
    min_value = arguments.number("min_value", min_value)
    max_value = arguments.number("max_value", max_value)
    arguments.ordered("min_value", min_value, "max_value", max_value)
    values = as_function(schedule)

    def clipped(count: jax.Array) -> jax.Array:
        low = jnp.asarray(min_value, jnp.float32)
        return jnp.clip(values(count), low, jnp.asarray(max_value, jnp.float32))

    return clipped


def tabulate(schedule: ScheduleLike, num_steps: int) -> jax.Array:
    """Returns the values of a schedule at steps 0 to `num_steps - 1` as an array.

    Args:
      schedule: Any schedule.
      num_steps: Number of steps, at least 1.

    Returns:
      A float32 array of shape `[num_steps]`.

    Raises:
      ValueError: If `num_steps` is not positive.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> print(tabulate(optax.linear_schedule(1.0, 0.0, transition_steps=4), 5))
    [1.   0.75 0.5  0.25 0.  ]
    """
    arguments.schedule("schedule", schedule)
    num_steps = arguments.steps("num_steps", num_steps)
    # Use vmap, because schedules from other libraries may accept only scalar counts.
    # The constants of a schedule go to the device here, which a transfer guard would refuse.
    with jax.transfer_guard("allow"):
        return jax.vmap(as_function(schedule))(jnp.arange(num_steps, dtype=jnp.int32))


@returns_schedule
def from_values(values: ArrayLike | Sequence[float]) -> ScheduleFunction:
    """Builds a schedule from an array of values, then holds the last value.

    The array may be traced, so one compiled training step works with any schedule.

    Args:
      values: Value of each step, a float array of shape `[num_steps]` with `num_steps >= 1`.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If `values` is not one-dimensional, is empty, or contains a value that is not
        finite.
      TypeError: If `values` does not contain numbers.

    >>> schedule = from_values([0.1, 0.05, 0.02])
    >>> print(schedule(jnp.array([0, 1, 2, 99])))
    [0.1  0.05 0.02 0.02]
    """
    checked = arguments.array("values", values)

    def schedule(count: jax.Array) -> jax.Array:
        table = jnp.asarray(checked, jnp.float32)
        return lookup.take(table, jnp.minimum(count, table.shape[0] - 1))

    return schedule
