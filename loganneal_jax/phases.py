"""Schedules with several phases, such as a warmup, a plateau, and a decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, compose, decays, shapes, warmups
from loganneal_jax.schedule import ScheduleFunction, returns_schedule

Cooldown = Literal["linear", "1-sqrt", "cosine"]

COOLDOWNS: dict[Cooldown, annealing.Shape] = {
    "linear": shapes.linear,
    "1-sqrt": shapes.one_minus_sqrt,
    "cosine": shapes.cosine,
}


@returns_schedule
def warmup_sigmoid_decay_schedule(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    total_steps: int,
    *,
    warmup_steps: int,
    warmup_init_value: ArrayLike = 0.0,
    slope: ArrayLike = 5.0,
) -> ScheduleFunction:
    """Warms up linearly, then decays along a sigmoid and holds the last value.

    The warmup ends at the sigmoid's first value,
    `end_value + (peak_value - end_value) / (1 + exp(-slope))`. The sigmoid decay takes
    `total_steps - warmup_steps` steps.

    Nakamura et al. 2021 call this schedule `sig+`. Their warmup takes 10% of the steps and starts
    at 0.01, with a peak of 0.1 and an end of 0.001.

    Args:
      peak_value: eta_up, a scalar.
      end_value: eta_low, a scalar.
      total_steps: Number of steps of the warmup and the decay together.
      warmup_steps: Number of warmup steps, less than `total_steps`; 0 means no warmup.
      warmup_init_value: Value at step 0, a scalar.
      slope: Steepness, a positive scalar.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> import numpy
    >>> import jax.numpy as jnp
    >>> schedule = warmup_sigmoid_decay_schedule(
    ...     0.1, 0.001, total_steps=6, warmup_steps=2, warmup_init_value=0.01
    ... )
    >>> print(numpy.asarray(schedule(jnp.arange(8))).round(4))
    [0.01   0.0547 0.0993 0.0925 0.0505 0.0085 0.0017 0.0017]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, section 3.3.
    """
    peak_value, end_value = annealing.validate_range("peak_value", peak_value, end_value)
    total_steps = arguments.steps("total_steps", total_steps)
    warmup_steps, warmup_init_value = arguments.warmup(warmup_steps, warmup_init_value)
    if warmup_steps >= total_steps:
        raise ValueError(
            f"warmup_steps must be less than total_steps={total_steps}, got {warmup_steps}."
        )
    decay = decays.sigmoid_decay_schedule(
        peak_value, end_value, total_steps - warmup_steps, slope=slope
    )
    return warmups.with_warmup(decay, warmup_steps, warmup_init_value)


@returns_schedule
def repeated_sigmoid_schedule(
    init_value: ArrayLike,
    end_value: ArrayLike,
    decay_steps: int,
    *,
    repeats: int = 2,
    slope: ArrayLike = 5.0,
) -> ScheduleFunction:
    """Repeats a sigmoid decay several times, then holds the last value.

    Each decay follows `sigmoid_decay_schedule`. Nakamura et al. 2021 call this schedule `rep`.

    Args:
      init_value: eta_up, a scalar.
      end_value: eta_low, a scalar.
      decay_steps: Number of steps of each decay, at least 1.
      repeats: Number of decays, at least 1.
      slope: Steepness, a positive scalar.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> import numpy
    >>> import jax.numpy as jnp
    >>> schedule = repeated_sigmoid_schedule(0.1, 0.001, decay_steps=2)
    >>> print(numpy.asarray(schedule(jnp.arange(6))).round(4))
    [0.0993 0.0505 0.0993 0.0505 0.0017 0.0017]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, figure 1.
    """
    decay = decays.sigmoid_decay_schedule(init_value, end_value, decay_steps, slope=slope)
    repeats = arguments.steps("repeats", repeats)
    return compose.repeat_schedule(decay, decay_steps, repeats)


@returns_schedule
def warmup_staircase_schedule(
    peak_value: ArrayLike,
    *,
    boundaries: Sequence[int],
    warmup_steps: int,
    warmup_init_value: ArrayLike = 0.0,
    decay_rate: ArrayLike = 0.1,
) -> ScheduleFunction:
    """Warms up linearly, then multiplies the learning rate by a constant factor at each boundary.

    Nakamura et al. 2021 call this schedule `str+`.

    Args:
      peak_value: Value at step `warmup_steps`, a scalar.
      boundaries: Steps at which the value changes, counted from step 0. They do not decrease and
        are greater than `warmup_steps`. A repeated boundary applies the factor again.
      warmup_steps: Number of warmup steps; 0 means no warmup.
      warmup_init_value: Value at step 0, a scalar.
      decay_rate: Factor at each boundary, a positive scalar. Above 1, the value rises.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> import jax.numpy as jnp
    >>> schedule = warmup_staircase_schedule(
    ...     1.0, boundaries=[3, 5], warmup_steps=2, decay_rate=0.5
    ... )
    >>> print(schedule(jnp.arange(7)))
    [0.   0.5  1.   0.5  0.5  0.25 0.25]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, figure 1.
    """
    peak_value = arguments.number("peak_value", peak_value)
    warmup_steps, warmup_init_value = arguments.warmup(warmup_steps, warmup_init_value)
    boundaries = arguments.boundaries("boundaries", boundaries, after=warmup_steps, repeats=True)
    staircase = decays.staircase_schedule(
        peak_value, boundaries=[b - warmup_steps for b in boundaries], decay_rate=decay_rate
    )
    return warmups.with_warmup(staircase, warmup_steps, warmup_init_value)


@returns_schedule
def trapezoid_schedule(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    total_steps: int,
    *,
    warmup_steps: int,
    cooldown_steps: int,
    warmup_init_value: ArrayLike = 0.0,
    cooldown: Cooldown = "linear",
) -> ScheduleFunction:
    """Trapezoid (warmup-stable-decay): a linear warmup, a plateau, and a cooldown.

    The learning rate rises linearly to `peak_value` at step `warmup_steps` and stays there until
    step `total_steps - cooldown_steps`. It then decays to `end_value` at step `total_steps` and
    holds it. With `x` from 0 to 1 over the cooldown, the value is
    `end_value + (peak_value - end_value) f(x)`, where `f(x)` is

        linear:  1 - x
        1-sqrt:  1 - sqrt(x)
        cosine:  1/2 (1 + cos(pi x))

    Nakamura et al. 2021 call this schedule `trap`.

    Args:
      peak_value: Value of the plateau, a scalar.
      end_value: Value at the end of the cooldown, a scalar.
      total_steps: Number of steps of all three phases together, at least 1.
      warmup_steps: Number of warmup steps; 0 means no warmup.
      cooldown_steps: Number of cooldown steps; 0 means no cooldown, so `peak_value` is held.
      warmup_init_value: Value at step 0, a scalar.
      cooldown: "linear", "1-sqrt", or "cosine".

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite, is outside the range given above, or has no effect, or
        if `warmup_steps + cooldown_steps > total_steps`.
      TypeError: If an argument has the wrong type.

    >>> import jax.numpy as jnp
    >>> schedule = trapezoid_schedule(1.0, 0.0, 8, warmup_steps=2, cooldown_steps=4)
    >>> print(schedule(jnp.arange(10)))
    [0.   0.5  1.   1.   1.   0.75 0.5  0.25 0.   0.  ]

    Source: Xing et al. 2018, arXiv 1802.08770; Hagele et al. 2024, arXiv 2405.18392 (1-sqrt).
    """
    peak_value, end_value = annealing.validate_range("peak_value", peak_value, end_value)
    total_steps = arguments.steps("total_steps", total_steps)
    warmup_steps, warmup_init_value = arguments.warmup(warmup_steps, warmup_init_value)
    cooldown_steps = arguments.steps("cooldown_steps", cooldown_steps, minimum=0)
    arguments.choice("cooldown", cooldown, tuple(COOLDOWNS))
    if cooldown_steps == 0:
        arguments.unused("cooldown", cooldown, "linear", needs="cooldown_steps of at least 1")
    plateau_steps = total_steps - warmup_steps - cooldown_steps
    if plateau_steps < 0:
        raise ValueError(
            f"warmup_steps + cooldown_steps must be at most total_steps={total_steps}, "
            f"got {warmup_steps} + {cooldown_steps}."
        )
    schedule = annealing.constant(peak_value)
    if cooldown_steps > 0:
        decay = annealing.anneal(COOLDOWNS[cooldown], peak_value, end_value, cooldown_steps)
        if plateau_steps > 0:
            schedule = compose.chain_schedules([schedule, decay], [plateau_steps])
        else:
            schedule = decay
    return warmups.with_warmup(schedule, warmup_steps, warmup_init_value)
