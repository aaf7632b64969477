"""What acts on any schedule, ours or not: warmup, chains, repeats, scales, bounds, tables.

A schedule is an `optax.Schedule`: a function from a count of steps to a value. The ones made here
return float32 of the shape of the count and hand the schedules they are made of int32 counts that
are never negative.
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
    """Puts a warmup before a schedule, which then starts at its own step 0.

    With `g` rising from 0 to 1 over the warmup, the value is `init_value + (schedule(0) -
    init_value) * g`: `g = x` for linear and `g = 1/2 (1 - cos(pi x))` for cosine, where `x = count
    / warmup_steps`. The exponential warmup is `init_value * (schedule(0) / init_value)**x`.

    Args:
      schedule: any schedule.
      warmup_steps: steps of the warmup; 0 is none. Step `warmup_steps` has the value `schedule(0)`.
      init_value: scalar, the value at step 0; above 0 for the exponential warmup.
      warmup: "linear", "cosine" or "exponential".

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if `warmup_steps` is negative, `init_value` is not finite or `warmup` unknown.
      TypeError: if an argument has the wrong type.

    >>> schedule = with_warmup(optax.constant_schedule(0.1), warmup_steps=4)
    >>> print(schedule(jnp.arange(6)))
    [0.    0.025 0.05  0.075 0.1   0.1  ]
    """
    arguments.function("schedule", schedule)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, least=0)
    arguments.choice("warmup", warmup, _WARMUPS)
    above = 0.0 if warmup == "exponential" else None
    init_value = arguments.number("init_value", init_value, above=above)
    if warmup_steps == 0:
        return _from_counts(schedule)

    def rise(count: ArrayLike) -> jax.Array:
        elapsed, _ = cycles.once(count, warmup_steps)
        done = elapsed / warmup_steps
        start = jnp.asarray(init_value, jnp.float32)
        target = jnp.asarray(schedule(jnp.int32(0)), jnp.float32)
        if warmup == "exponential":
            return start * (target / start) ** done
        if warmup == "cosine":
            done = jnp.sin(np.float32(np.pi / 2) * done) ** 2
        return start * (1.0 - done) + target * done

    return chain_schedules([rise, schedule], [warmup_steps])


def chain_schedules(
    schedules: Sequence[optax.Schedule], boundaries: Sequence[int]
) -> optax.Schedule:
    """Runs schedules one after another, each from its own step 0.

    It is `optax.join_schedules`, except that no schedule is evaluated at a negative count, where a
    discarded value that is not finite would still spoil the gradient.

    Args:
      schedules: one more of them than of boundaries.
      boundaries: steps, increasing, at which the next schedule takes over.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if the boundaries do not increase from above 0 or their number does not fit.
      TypeError: if an argument has the wrong type.

    >>> constants = [optax.constant_schedule(0.1), optax.constant_schedule(0.01)]
    >>> schedule = chain_schedules(constants, [2])
    >>> print(schedule(jnp.arange(4)))
    [0.1  0.1  0.01 0.01]
    """
    boundaries = arguments.boundaries("boundaries", boundaries)
    if len(schedules) != len(boundaries) + 1:
        raise ValueError(
            f"schedules must be one more than the {len(boundaries)} boundaries, "
            f"got {len(schedules)}."
        )
    for i, schedule in enumerate(schedules):
        arguments.function(f"schedules[{i}]", schedule)
    return _from_counts(optax.join_schedules([_from_counts(s) for s in schedules], boundaries))


def repeat_schedule(
    schedule: optax.Schedule, num_steps: int, times: int | None = None
) -> optax.Schedule:
    """Starts a schedule again every `num_steps` steps.

    Args:
      schedule: any schedule.
      num_steps: steps of one repetition, at least 1.
      times: how often it runs, at least 1, after which it goes on past its own `num_steps`; `None`
        is for ever.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if `num_steps` or `times` is not positive.
      TypeError: if an argument has the wrong type.

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

    return _from_counts(repeated)


def per_epoch(schedule: optax.Schedule, steps_per_epoch: int) -> optax.Schedule:
    """Holds a schedule's value at an epoch's first step for the whole epoch.

    Args:
      schedule: any schedule, counting steps.
      steps_per_epoch: steps of an epoch, at least 1.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape, `schedule(count //
      steps_per_epoch * steps_per_epoch)`.

    Raises:
      ValueError: if `steps_per_epoch` is not positive.
      TypeError: if an argument has the wrong type.

    >>> schedule = per_epoch(optax.linear_schedule(1.0, 0.0, 4), steps_per_epoch=2)
    >>> print(schedule(jnp.arange(5)))
    [1.  1.  0.5 0.5 0. ]
    """
    arguments.function("schedule", schedule)
    steps_per_epoch = arguments.steps("steps_per_epoch", steps_per_epoch)

    def held(count: ArrayLike) -> ArrayLike:
        return schedule(cycles.as_count(count) // steps_per_epoch * steps_per_epoch)

    return _from_counts(held)


def scale_schedule(schedule: optax.Schedule, factor: ArrayLike) -> optax.Schedule:
    """Multiplies a schedule by a number.

    Args:
      schedule: any schedule.
      factor: scalar.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if `factor` is not finite.
      TypeError: if an argument has the wrong type.

    >>> print(scale_schedule(optax.linear_schedule(1.0, 0.0, 4), 0.5)(jnp.arange(3)))
    [0.5   0.375 0.25 ]
    """
    arguments.function("schedule", schedule)
    factor = arguments.number("factor", factor)
    values = _from_counts(schedule)
    return lambda count: values(count) * jnp.asarray(factor, jnp.float32)


def scale_for_batch_size(
    schedule: optax.Schedule, batch_size: int, base_batch_size: int = 256
) -> optax.Schedule:
    """Scales a schedule linearly with the batch size: by `batch_size / base_batch_size`.

    Args:
      schedule: any schedule, made for batches of `base_batch_size` examples.
      batch_size: examples in a batch, over all devices, at least 1.
      base_batch_size: examples in the batch the schedule was made for, at least 1.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a batch size is not positive.
      TypeError: if an argument has the wrong type.

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
    """Keeps a schedule inside bounds.

    Args:
      schedule: any schedule.
      min_value: scalar, the lower bound.
      max_value: scalar, the upper bound, not below `min_value`.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a bound is not finite or `min_value > max_value`.
      TypeError: if an argument has the wrong type.

    >>> print(clip_schedule(optax.linear_schedule(1.0, 0.0, 4), 0.3, 0.8)(jnp.arange(5)))
    [0.8  0.75 0.5  0.3  0.3 ]
    """
    arguments.function("schedule", schedule)
    min_value = arguments.number("min_value", min_value)
    max_value = arguments.number("max_value", max_value)
    arguments.ordered("min_value", min_value, "max_value", max_value)
    values = _from_counts(schedule)

    def clipped(count: ArrayLike) -> jax.Array:
        low = jnp.asarray(min_value, jnp.float32)
        return jnp.clip(values(count), low, jnp.asarray(max_value, jnp.float32))

    return clipped


def tabulate(schedule: optax.Schedule, num_steps: int) -> jax.Array:
    """The values of a schedule at steps `0 .. num_steps - 1`, as an array.

    Args:
      schedule: any schedule.
      num_steps: how many steps, at least 1.

    Returns:
      float32 of shape `[num_steps]`.

    Raises:
      ValueError: if `num_steps` is not positive.
      TypeError: if an argument has the wrong type.

    >>> print(tabulate(optax.linear_schedule(1.0, 0.0, transition_steps=4), 5))
    [1.   0.75 0.5  0.25 0.  ]
    """
    arguments.function("schedule", schedule)
    num_steps = arguments.steps("num_steps", num_steps)
    # vmap, not a call on the whole array: other people's schedules may take only scalars.
    return jax.vmap(_from_counts(schedule))(jnp.arange(num_steps, dtype=jnp.int32))


def from_values(values: ArrayLike) -> optax.Schedule:
    """A schedule that reads its values from an array and holds the last one after its end.

    The array may be traced: one compiled training step then serves every schedule there is.

    Args:
      values: float of shape `[num_steps]`, `num_steps >= 1`, the value of each step.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if `values` has not one dimension, is empty or holds what is not finite.
      TypeError: if `values` does not hold numbers.

    >>> schedule = from_values([0.1, 0.05, 0.02])
    >>> print(schedule(jnp.array([0, 1, 2, 99])))
    [0.1  0.05 0.02 0.02]
    """
    values = arguments.array("values", values)

    def schedule(count: ArrayLike) -> jax.Array:
        table = jnp.asarray(values, jnp.float32)
        return table[jnp.minimum(cycles.as_count(count), table.shape[0] - 1)]

    return schedule


def _from_counts(schedule: optax.Schedule) -> optax.Schedule:
    """The same schedule, given int32 counts from 0 on and answering in float32."""

    def from_counts(count: ArrayLike) -> jax.Array:
        count = cycles.as_count(count)
        # Some schedules, optax's constant one among them, answer an array with a single number.
        return jnp.broadcast_to(jnp.asarray(schedule(count), jnp.float32), count.shape)

    return from_counts
