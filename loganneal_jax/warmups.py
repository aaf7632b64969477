"""Adds a warmup before any schedule, or a cooldown after it."""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, compose, cycles, shapes
from loganneal_jax.schedule import (
    ScheduleFunction,
    ScheduleLike,
    as_function,
    returns_schedule,
)

Warmup = Literal["linear", "constant", "cosine", "1-sqrt", "exponential", "1/n"]
WARMUPS: tuple[Warmup, ...] = get_args(Warmup)


@returns_schedule
def with_warmup(
    schedule: ScheduleLike,
    warmup_steps: int,
    init_value: ArrayLike = 0.0,
    *,
    warmup: Warmup = "linear",
) -> ScheduleFunction:
    """Prepends a warmup to a schedule.

    After the warmup, the schedule starts at its own step 0. With `n = warmup_steps` and
    `x = count / n`, the value during the warmup is

        linear:       init_value + (schedule(0) - init_value) x
        constant:     init_value
        cosine:       init_value + (schedule(0) - init_value) 1/2 (1 - cos(pi x))
        1-sqrt:       init_value + (schedule(0) - init_value) (1 - sqrt(1 - x))
        exponential:  init_value (schedule(0) / init_value)**x
        1/n:          init_value + (schedule(0) - init_value) (count + 1) / n

    The warmup "1/n" is linear, but its first step is already 1/n of the way, so the first update is
    not lost if `init_value` is 0. It reaches `schedule(0)` at step `n - 1`, one step early.

    Args:
      schedule: Any schedule.
      warmup_steps: Number of warmup steps; 0 means no warmup. The value at step `warmup_steps` is
        `schedule(0)`.
      init_value: Value at step 0, a scalar. It must be positive for an exponential warmup.
      warmup: "linear", "constant", "cosine", "1-sqrt", "exponential", or "1/n".

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If `warmup_steps` is negative, `init_value` is not finite, `warmup` is unknown, or
        one of them is set although `warmup_steps` is 0.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> schedule = with_warmup(optax.constant_schedule(0.1), warmup_steps=4)
    >>> print(schedule(jnp.arange(6)))
    [0.    0.025 0.05  0.075 0.1   0.1  ]
    """
    arguments.schedule("schedule", schedule)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, minimum=0)
    arguments.choice("warmup", warmup, WARMUPS)
    init_value = arguments.number(
        "init_value", init_value, above=0.0 if warmup == "exponential" else None
    )
    values = as_function(schedule)
    if warmup_steps == 0:
        needs = "warmup_steps of at least 1"
        arguments.unused("init_value", init_value, 0.0, needs=needs)
        arguments.unused("warmup", warmup, "linear", needs=needs)
        return values

    def warmup_schedule(count: jax.Array) -> jax.Array:
        elapsed, remaining = cycles.single(count, warmup_steps)
        progress = elapsed / warmup_steps
        start = jnp.asarray(init_value, jnp.float32)
        target = values(jnp.int32(0))
        if warmup == "exponential":
            return start * (target / start) ** progress
        if warmup == "constant":
            progress = jnp.zeros_like(progress)
        if warmup == "cosine":
            progress = jnp.sin(np.float32(np.pi / 2) * progress) ** 2
        if warmup == "1-sqrt":
            # 1 - sqrt(1 - x) without cancellation at the start.
            progress = progress / (1.0 + jnp.sqrt(remaining / warmup_steps))
        if warmup == "1/n":
            # XLA divides by a constant inexactly, so select the exact end.
            progress = jnp.where(remaining > 1, (elapsed + 1.0) / warmup_steps, 1.0)
        return start * (1.0 - progress) + target * progress

    return compose.chain_schedules([warmup_schedule, values], [warmup_steps])


@returns_schedule
def with_cooldown(
    schedule: ScheduleLike,
    start_step: int,
    cooldown_steps: int,
    end_value: ArrayLike = 0.0,
    *,
    shape: annealing.Shape = shapes.linear,
) -> ScheduleFunction:
    """Anneals a schedule to `end_value` from a given step on.

    Until `start_step`, the value is that of the schedule. It then anneals from
    `schedule(start_step)` to `end_value` in `cooldown_steps` steps and holds `end_value`. With a
    constant schedule, this is a warmup-stable-decay schedule, whose cooldown may start at any step.

    Args:
      schedule: Any schedule.
      start_step: First step of the cooldown, at least 0.
      cooldown_steps: Number of steps of the cooldown, at least 1.
      end_value: Value from step `start_step + cooldown_steps` on, a scalar.
      shape: A function that maps `(elapsed, remaining)`, float32 steps, to a float32 fraction, such
        as `shapes.linear` and `shapes.one_minus_sqrt`.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> schedule = with_cooldown(optax.constant_schedule(1.0), start_step=2, cooldown_steps=4)
    >>> print(schedule(jnp.arange(8)))
    [1.   1.   1.   0.75 0.5  0.25 0.   0.  ]

    Source: Hagele et al. 2024, arXiv 2405.18392.
    """
    arguments.schedule("schedule", schedule)
    start_step = arguments.steps("start_step", start_step, minimum=0)
    cooldown_steps = arguments.steps("cooldown_steps", cooldown_steps)
    end_value = arguments.number("end_value", end_value)
    arguments.shape("shape", shape)
    values = as_function(schedule)
    curve = annealing.curve_from_shape(shape)

    def cooldown(count: jax.Array) -> jax.Array:
        elapsed, remaining = cycles.single(count, cooldown_steps)
        start = values(jnp.int32(start_step))
        return curve(elapsed, remaining, start, jnp.asarray(end_value, jnp.float32))

    if start_step == 0:
        return cooldown
    return compose.chain_schedules([values, cooldown], [start_step])
