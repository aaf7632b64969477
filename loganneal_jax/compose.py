"""Transforms any schedule: warmup, chaining, repetition, scaling, clipping, and tabulation.

A schedule is an `optax.Schedule`, a function from a step count to a value. The schedules built here
return float32 values with the shape of the count. They call the schedules they wrap with
nonnegative int32 counts only.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from loganneal_jax import arguments, cycles

_WARMUPS = ("linear", "cosine", "exponential")


def with_warmup(
    schedule: optax.Schedule,
    warmup_steps: int,
    init_value: ArrayLike = 0.0,
    *,
    warmup: str = "linear",
) -> optax.Schedule:
    """Prepends a warmup to a schedule.

    After the warmup, the schedule starts at its own step 0. With `x = count / warmup_steps`, the
    value during the warmup is

        linear:       init_value + (schedule(0) - init_value) * x
        cosine:       init_value + (schedule(0) - init_value) * 1/2 (1 - cos(pi x))
        exponential:  init_value * (schedule(0) / init_value)**x

    Args:
      schedule: Any schedule.
      warmup_steps: Number of warmup steps; 0 means no warmup. The value at step `warmup_steps` is
        `schedule(0)`.
      init_value: Value at step 0, a scalar. It must be positive for an exponential warmup.
      warmup: "linear", "cosine", or "exponential".

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If `warmup_steps` is negative, `init_value` is not finite, or `warmup` is unknown.
      TypeError: If an argument has the wrong type.

    >>> schedule = with_warmup(optax.constant_schedule(0.1), warmup_steps=4)
    >>> print(schedule(jnp.arange(6)))
    [0.    0.025 0.05  0.075 0.1   0.1  ]
    """
    arguments.function("schedule", schedule)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, minimum=0)
    arguments.choice("warmup", warmup, _WARMUPS)
    above = 0.0 if warmup == "exponential" else None
    init_value = arguments.number("init_value", init_value, above=above)
    if warmup_steps == 0:
        return _canonicalize(schedule)

    def warmup_schedule(count: ArrayLike) -> jax.Array:
        elapsed, _ = cycles.single(count, warmup_steps)
        progress = elapsed / warmup_steps
        start = jnp.asarray(init_value, jnp.float32)
        target = jnp.asarray(schedule(jnp.int32(0)), jnp.float32)
        if warmup == "exponential":
            return start * (target / start) ** progress
        if warmup == "cosine":
            progress = jnp.sin(np.float32(np.pi / 2) * progress) ** 2
        return start * (1.0 - progress) + target * progress

    return chain_schedules([warmup_schedule, schedule], [warmup_steps])


def chain_schedules(
    schedules: Sequence[optax.Schedule], boundaries: Sequence[int]
) -> optax.Schedule:
    """Runs schedules one after another, each from its own step 0.

    This is `optax.join_schedules`, except that no schedule is evaluated at a negative count. The
    value of an inactive schedule is discarded, but if it is not finite, it makes the gradient NaN.

    Args:
      schedules: Schedules, one more than there are boundaries.
      boundaries: Steps at which the next schedule starts, strictly increasing and positive.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If the boundaries are not positive and strictly increasing, or if their number
        does not match the number of schedules.
      TypeError: If an argument has the wrong type.

    >>> constants = [optax.constant_schedule(0.1), optax.constant_schedule(0.01)]
    >>> schedule = chain_schedules(constants, [2])
    >>> print(schedule(jnp.arange(4)))
    [0.1  0.1  0.01 0.01]
    """
    boundaries = arguments.boundaries("boundaries", boundaries)
    if len(schedules) != len(boundaries) + 1:
        raise ValueError(
            f"schedules must have length {len(boundaries) + 1}, one more than boundaries, "
            f"got length {len(schedules)}."
        )
    for i, schedule in enumerate(schedules):
        arguments.function(f"schedules[{i}]", schedule)
    return _canonicalize(optax.join_schedules([_canonicalize(s) for s in schedules], boundaries))


def repeat_schedule(
    schedule: optax.Schedule, num_steps: int, times: int | None = None
) -> optax.Schedule:
    """Restarts a schedule every `num_steps` steps.

    Args:
      schedule: Any schedule.
      num_steps: Number of steps of each repetition, at least 1.
      times: Number of repetitions, at least 1. The last repetition continues beyond `num_steps`.
        `None` repeats forever.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If `num_steps` or `times` is not positive.
      TypeError: If an argument has the wrong type.

    >>> schedule = repeat_schedule(optax.linear_schedule(1.0, 0.0, 2), 2, times=2)
    >>> print(schedule(jnp.arange(6)))
    [1.  0.5 1.  0.5 0.  0. ]
    """
    arguments.function("schedule", schedule)
    num_steps = arguments.steps("num_steps", num_steps)
    last = arguments.MAX_STEPS if times is None else arguments.steps("times", times) - 1

    def repeated(count: ArrayLike) -> ArrayLike:
        count = cycles.as_count(count)
        return schedule(count - jnp.minimum(count // num_steps, last) * num_steps)

    return _canonicalize(repeated)


def per_epoch(schedule: optax.Schedule, steps_per_epoch: int) -> optax.Schedule:
    """Holds the value of a schedule constant within each epoch.

    The value at `count` is `schedule(count // steps_per_epoch * steps_per_epoch)`, the value at the
    first step of the epoch.

    Args:
      schedule: Any schedule that counts steps.
      steps_per_epoch: Number of steps per epoch, at least 1.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If `steps_per_epoch` is not positive.
      TypeError: If an argument has the wrong type.

    >>> schedule = per_epoch(optax.linear_schedule(1.0, 0.0, 4), steps_per_epoch=2)
    >>> print(schedule(jnp.arange(5)))
    [1.  1.  0.5 0.5 0. ]
    """
    arguments.function("schedule", schedule)
    steps_per_epoch = arguments.steps("steps_per_epoch", steps_per_epoch)

    def held(count: ArrayLike) -> ArrayLike:
        return schedule(cycles.as_count(count) // steps_per_epoch * steps_per_epoch)

    return _canonicalize(held)


def scale_schedule(schedule: optax.Schedule, factor: ArrayLike) -> optax.Schedule:
    """Multiplies a schedule by a constant factor.

    Args:
      schedule: Any schedule.
      factor: Factor, a scalar.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If `factor` is not finite.
      TypeError: If an argument has the wrong type.

    >>> print(scale_schedule(optax.linear_schedule(1.0, 0.0, 4), 0.5)(jnp.arange(3)))
    [0.5   0.375 0.25 ]
    """
    arguments.function("schedule", schedule)
    factor = arguments.number("factor", factor)
    values = _canonicalize(schedule)
    return lambda count: values(count) * jnp.asarray(factor, jnp.float32)


def scale_for_batch_size(
    schedule: optax.Schedule, batch_size: int, base_batch_size: int = 256
) -> optax.Schedule:
    """Scales a schedule linearly with the batch size.

    The scaling factor is `batch_size / base_batch_size`.

    Args:
      schedule: Any schedule, tuned for a batch size of `base_batch_size`.
      batch_size: Number of examples per batch across all devices, at least 1.
      base_batch_size: Batch size for which the schedule was tuned, at least 1.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a batch size is not positive.
      TypeError: If an argument has the wrong type.

    >>> print(scale_for_batch_size(optax.constant_schedule(0.1), batch_size=1024)(0))
    0.4

    Source: Goyal et al. 2017, arXiv 1706.02677, section 2.1.
    """
    batch_size = arguments.steps("batch_size", batch_size)
    base_batch_size = arguments.steps("base_batch_size", base_batch_size)
    return scale_schedule(schedule, batch_size / base_batch_size)


def clip_schedule(
    schedule: optax.Schedule, min_value: ArrayLike, max_value: ArrayLike
) -> optax.Schedule:
    """Clips the values of a schedule to a range.

    Args:
      schedule: Any schedule.
      min_value: Lower bound, a scalar.
      max_value: Upper bound, a scalar, at least `min_value`.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a bound is not finite or `min_value > max_value`.
      TypeError: If an argument has the wrong type.

    >>> print(clip_schedule(optax.linear_schedule(1.0, 0.0, 4), 0.3, 0.8)(jnp.arange(5)))
    [0.8  0.75 0.5  0.3  0.3 ]
    """
    arguments.function("schedule", schedule)
    min_value = arguments.number("min_value", min_value)
    max_value = arguments.number("max_value", max_value)
    arguments.ordered("min_value", min_value, "max_value", max_value)
    values = _canonicalize(schedule)

    def clipped(count: ArrayLike) -> jax.Array:
        low = jnp.asarray(min_value, jnp.float32)
        return jnp.clip(values(count), low, jnp.asarray(max_value, jnp.float32))

    return clipped


def tabulate(schedule: optax.Schedule, num_steps: int) -> jax.Array:
    """Returns the values of a schedule at steps 0 to `num_steps - 1` as an array.

    Args:
      schedule: Any schedule.
      num_steps: Number of steps, at least 1.

    Returns:
      A float32 array of shape `[num_steps]`.

    Raises:
      ValueError: If `num_steps` is not positive.
      TypeError: If an argument has the wrong type.

    >>> print(tabulate(optax.linear_schedule(1.0, 0.0, transition_steps=4), 5))
    [1.   0.75 0.5  0.25 0.  ]
    """
    arguments.function("schedule", schedule)
    num_steps = arguments.steps("num_steps", num_steps)
    # Use vmap, because schedules from other libraries may accept only scalar counts.
    return jax.vmap(_canonicalize(schedule))(jnp.arange(num_steps, dtype=jnp.int32))


def from_values(values: ArrayLike) -> optax.Schedule:
    """Builds a schedule from an array of values, then holds the last value.

    The array may be traced, so one compiled training step works with any schedule.

    Args:
      values: Value of each step, a float array of shape `[num_steps]` with `num_steps >= 1`.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If `values` is not one-dimensional, is empty, or contains a value that is not
        finite.
      TypeError: If `values` does not contain numbers.

    >>> schedule = from_values([0.1, 0.05, 0.02])
    >>> print(schedule(jnp.array([0, 1, 2, 99])))
    [0.1  0.05 0.02 0.02]
    """
    values = arguments.array("values", values)

    def schedule(count: ArrayLike) -> jax.Array:
        table = jnp.asarray(values, jnp.float32)
        return table[jnp.minimum(cycles.as_count(count), table.shape[0] - 1)]

    return schedule


def _canonicalize(schedule: optax.Schedule) -> optax.Schedule:
    """Wraps a schedule so that it takes nonnegative int32 counts and returns float32 values."""

    def canonical(count: ArrayLike) -> jax.Array:
        count = cycles.as_count(count)
        # Some schedules, such as optax.constant_schedule, return a scalar for an array of counts.
        return jnp.broadcast_to(jnp.asarray(schedule(count), jnp.float32), count.shape)

    return canonical
