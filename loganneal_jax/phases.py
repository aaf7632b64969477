"""Schedules with several phases, such as a warmup, a plateau, and a decay."""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, compose, cycles, decays, shapes

_COOLDOWNS = {
    "linear": shapes.linear,
    "1-sqrt": shapes.one_minus_sqrt,
    "cosine": shapes.cosine,
}
_TRIANGULAR_MODES = ("triangular", "triangular2", "exp_range")


def warmup_sigmoid_decay_schedule(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    total_steps: int,
    *,
    warmup_steps: int,
    warmup_init_value: ArrayLike = 0.0,
    slope: ArrayLike = 5.0,
) -> optax.Schedule:
    """Warms up linearly, then decays along a sigmoid and holds the last value.

    The warmup ends at the sigmoid's first value,
    `end_value + (peak_value - end_value) / (1 + exp(-slope))`. The sigmoid decay takes
    `total_steps - warmup_steps` steps.

    Nakamura et al. 2021 call this schedule `sig+`. Their warmup takes 10% of the steps and starts
    at 0.01, with a peak of 0.1 and an end of 0.001.

    Args:
      peak_value: eta_up, a scalar.
      end_value: eta_low, a scalar, at most `peak_value`.
      total_steps: Number of steps of the warmup and the decay together.
      warmup_steps: Number of warmup steps, less than `total_steps`; 0 means no warmup.
      warmup_init_value: Value at step 0, a scalar.
      slope: Steepness, a positive scalar.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> import numpy
    >>> schedule = warmup_sigmoid_decay_schedule(
    ...     0.1, 0.001, total_steps=6, warmup_steps=2, warmup_init_value=0.01
    ... )
    >>> print(numpy.asarray(schedule(jnp.arange(8))).round(4))
    [0.01   0.0547 0.0993 0.0925 0.0505 0.0085 0.0017 0.0017]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, section 3.3.
    """
    peak_value, end_value = annealing.validate_range("peak_value", peak_value, end_value)
    total_steps = arguments.steps("total_steps", total_steps)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, minimum=0)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)
    if warmup_steps >= total_steps:
        raise ValueError(
            f"warmup_steps must be less than total_steps={total_steps}, got {warmup_steps}."
        )
    decay = decays.sigmoid_decay_schedule(
        peak_value, end_value, total_steps - warmup_steps, slope=slope
    )
    return compose.with_warmup(decay, warmup_steps, warmup_init_value)


def repeated_sigmoid_schedule(
    init_value: ArrayLike,
    end_value: ArrayLike,
    decay_steps: int,
    *,
    repeats: int = 2,
    slope: ArrayLike = 5.0,
) -> optax.Schedule:
    """Repeats a sigmoid decay several times, then holds the last value.

    Each decay follows `sigmoid_decay_schedule`. Nakamura et al. 2021 call this schedule `rep`.

    Args:
      init_value: eta_up, a scalar.
      end_value: eta_low, a scalar, at most `init_value`.
      decay_steps: Number of steps of each decay, at least 1.
      repeats: Number of decays, at least 1.
      slope: Steepness, a positive scalar.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> import numpy
    >>> schedule = repeated_sigmoid_schedule(0.1, 0.001, decay_steps=2)
    >>> print(numpy.asarray(schedule(jnp.arange(6))).round(4))
    [0.0993 0.0505 0.0993 0.0505 0.0017 0.0017]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, figure 1.
    """
    decay = decays.sigmoid_decay_schedule(init_value, end_value, decay_steps, slope=slope)
    repeats = arguments.steps("repeats", repeats)
    return compose.repeat_schedule(decay, decay_steps, repeats)


def warmup_staircase_schedule(
    peak_value: ArrayLike,
    *,
    boundaries: list[int],
    warmup_steps: int,
    warmup_init_value: ArrayLike = 0.0,
    decay_rate: ArrayLike = 0.1,
) -> optax.Schedule:
    """Warms up linearly, then multiplies the learning rate by a constant factor at each boundary.

    Nakamura et al. 2021 call this schedule `str+`.

    Args:
      peak_value: Value at step `warmup_steps`, a scalar.
      boundaries: Steps at which the value changes, counted from step 0. They are strictly
        increasing and greater than `warmup_steps`.
      warmup_steps: Number of warmup steps; 0 means no warmup.
      warmup_init_value: Value at step 0, a scalar.
      decay_rate: Factor at each boundary, a scalar above 0 and at most 1.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> schedule = warmup_staircase_schedule(
    ...     1.0, boundaries=[3, 5], warmup_steps=2, decay_rate=0.5
    ... )
    >>> print(schedule(jnp.arange(7)))
    [0.   0.5  1.   0.5  0.5  0.25 0.25]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, figure 1.
    """
    peak_value = arguments.number("peak_value", peak_value)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, minimum=0)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)
    boundaries = arguments.boundaries("boundaries", boundaries, after=warmup_steps)
    staircase = decays.staircase_schedule(
        peak_value, boundaries=[b - warmup_steps for b in boundaries], decay_rate=decay_rate
    )
    return compose.with_warmup(staircase, warmup_steps, warmup_init_value)


def trapezoid_schedule(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    total_steps: int,
    *,
    warmup_steps: int,
    cooldown_steps: int,
    warmup_init_value: ArrayLike = 0.0,
    cooldown: str = "linear",
) -> optax.Schedule:
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
      end_value: Value at the end of the cooldown, a scalar, at most `peak_value`.
      total_steps: Number of steps of all three phases together, at least 1.
      warmup_steps: Number of warmup steps; 0 means no warmup.
      cooldown_steps: Number of cooldown steps; 0 means no cooldown, so `peak_value` is held.
      warmup_init_value: Value at step 0, a scalar.
      cooldown: "linear", "1-sqrt", or "cosine".

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above, or if
        `warmup_steps + cooldown_steps > total_steps`.
      TypeError: If an argument has the wrong type.

    >>> schedule = trapezoid_schedule(1.0, 0.0, 8, warmup_steps=2, cooldown_steps=4)
    >>> print(schedule(jnp.arange(10)))
    [0.   0.5  1.   1.   1.   0.75 0.5  0.25 0.   0.  ]

    Source: Xing et al. 2018, arXiv 1802.08770; Hagele et al. 2024, arXiv 2405.18392 (1-sqrt).
    """
    peak_value, end_value = annealing.validate_range("peak_value", peak_value, end_value)
    total_steps = arguments.steps("total_steps", total_steps)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, minimum=0)
    cooldown_steps = arguments.steps("cooldown_steps", cooldown_steps, minimum=0)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)
    arguments.choice("cooldown", cooldown, tuple(_COOLDOWNS))
    plateau_steps = total_steps - warmup_steps - cooldown_steps
    if plateau_steps < 0:
        raise ValueError(
            f"warmup_steps + cooldown_steps must be at most total_steps={total_steps}, "
            f"got {warmup_steps} + {cooldown_steps}."
        )
    phases, boundaries = [], []
    if plateau_steps > 0 or cooldown_steps == 0:
        phases.append(optax.constant_schedule(peak_value))
    if cooldown_steps > 0:
        boundaries = [plateau_steps] if phases else []
        shape = _COOLDOWNS[cooldown]
        phases.append(annealing.anneal(shape, peak_value, end_value, cooldown_steps))
    schedule = compose.chain_schedules(phases, boundaries)
    return compose.with_warmup(schedule, warmup_steps, warmup_init_value)


def one_cycle_schedule(
    peak_value: ArrayLike,
    total_steps: int,
    *,
    pct_start: float = 0.3,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
) -> optax.Schedule:
    """One cycle: a cosine warmup, then a cosine decay to far below the initial value.

    The learning rate rises from `peak_value / div_factor` to `peak_value` over the first
    `int(pct_start * total_steps)` steps. It then decays to
    `peak_value / (div_factor * final_div_factor)` at step `total_steps`. The values equal those of
    `optax.cosine_onecycle_schedule`, but counts may have any shape and parameters may be traced.

    Args:
      peak_value: Peak, a scalar, at least 0.
      total_steps: Number of steps of the warmup and the decay together, at least 1.
      pct_start: Fraction of the steps spent on the warmup, a Python number, at least 0 and below 1.
      div_factor: Ratio of the peak to the initial value, a scalar, at least 1.
      final_div_factor: Ratio of the initial value to the final value, a scalar, at least 1.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> import numpy
    >>> schedule = one_cycle_schedule(1.0, 8, pct_start=0.5, div_factor=5.0)
    >>> print(numpy.asarray(schedule(jnp.arange(9))).round(3))
    [0.2   0.317 0.6   0.883 1.    0.854 0.5   0.146 0.   ]

    Source: Smith and Topin 2018, arXiv 1708.07120.
    """
    peak_value = arguments.number("peak_value", peak_value, minimum=0.0)
    total_steps = arguments.steps("total_steps", total_steps)
    pct_start = arguments.static_number("pct_start", pct_start, minimum=0.0)
    div_factor = arguments.number("div_factor", div_factor, minimum=1.0)
    final_div_factor = arguments.number("final_div_factor", final_div_factor, minimum=1.0)
    if pct_start >= 1:
        raise ValueError(f"pct_start must be below 1, got {pct_start}.")
    warmup_steps = int(pct_start * total_steps)
    init_value = peak_value / div_factor
    decay = annealing.anneal(
        shapes.cosine, peak_value, init_value / final_div_factor, total_steps - warmup_steps
    )
    return compose.with_warmup(decay, warmup_steps, init_value, warmup="cosine")


def triangular_schedule(
    init_value: ArrayLike,
    peak_value: ArrayLike,
    half_cycle_steps: int,
    *,
    mode: str = "triangular",
    decay_rate: ArrayLike | None = None,
) -> optax.Schedule:
    """Triangular cyclical learning rate: alternates linearly between two values, forever.

    `lr = init_value + (peak_value - init_value) a (1 - |1 - t / half_cycle_steps|)`, where `t` is
    the step within the cycle. The amplitude `a` depends on the mode:

        triangular:   1
        triangular2:  2**-k in cycle k
        exp_range:    decay_rate**count

    Args:
      init_value: Lower bound, a scalar, at most `peak_value`.
      peak_value: Upper bound, a scalar, reached `half_cycle_steps` steps into each cycle.
      half_cycle_steps: Number of steps from one bound to the other, at least 1.
      mode: "triangular", "triangular2", or "exp_range".
      decay_rate: Factor by which the amplitude decays per step, a scalar above 0 and at most 1.
        Required in mode "exp_range" and not allowed in the other modes.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(triangular_schedule(0.0, 1.0, 2, mode="triangular2")(jnp.arange(9)))
    [0.   0.5  1.   0.5  0.   0.25 0.5  0.25 0.  ]

    Source: Smith 2017, arXiv 1506.01186.
    """
    init_value = arguments.number("init_value", init_value)
    peak_value = arguments.number("peak_value", peak_value)
    arguments.ordered("init_value", init_value, "peak_value", peak_value)
    half_cycle_steps = arguments.steps("half_cycle_steps", half_cycle_steps)
    arguments.choice("mode", mode, _TRIANGULAR_MODES)
    if (mode == "exp_range") != (decay_rate is not None):
        raise ValueError(
            'decay_rate must be set in mode "exp_range" and must be None in all other modes, '
            f'got {decay_rate} in mode "{mode}".'
        )
    rate = arguments.number(
        "decay_rate", 1.0 if decay_rate is None else decay_rate, above=0.0, maximum=1.0
    )
    log_rate = annealing.log(rate)
    locate = cycles.repeated(2 * half_cycle_steps, 1.0)

    def schedule(count: ArrayLike) -> jax.Array:
        position = locate(count)
        nearest_end = jnp.minimum(position.elapsed, position.remaining)
        height = 2.0 * nearest_end / (position.elapsed + position.remaining)
        if mode == "triangular2":
            height = height * jnp.exp2(-position.cycle.astype(jnp.float32))
        if mode == "exp_range":
            steps = cycles.as_count(count).astype(jnp.float32)
            height = height * jnp.exp(steps * jnp.asarray(log_rate, jnp.float32))
        low = jnp.asarray(init_value, jnp.float32)
        return jnp.asarray(peak_value, jnp.float32) * height + low * (1.0 - height)

    return schedule
