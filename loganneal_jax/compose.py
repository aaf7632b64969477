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
        elapsed, remaining = cycles.once(count, warmup_steps)
        done = elapsed / warmup_steps
        start = jnp.asarray(init_value, jnp.float32)
        target = jnp.asarray(schedule(jnp.int32(0)), jnp.float32)
        if warmup == "exponential":
            return start * (target / start) ** done
        if warmup == "cosine":
            done = jnp.sin(np.float32(np.pi / 2) * done) ** 2
            return start * (1.0 - done) + target * done
        return start * (remaining / warmup_steps) + target * done

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
