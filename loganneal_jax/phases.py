"""Schedules in phases: a warmup before a decay, a plateau before a cooldown, rises and falls."""

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
    """Warms up along a line, then decays along a sigmoid; `sig+` in Nakamura et al. 2021.

    The warmup leads to the sigmoid's first value, which is `sigmoid(slope)` of the way from
    `end_value` to `peak_value`; the sigmoid takes `total_steps - warmup_steps`. In the paper the
    warmup is 10% of the whole and starts from 0.01, for a peak of 0.1 and an end of 0.001.

    Args:
      peak_value: scalar, eta_up.
      end_value: scalar, eta_low, not above `peak_value`.
      total_steps: steps of warmup and decay together.
      warmup_steps: steps of the warmup, fewer than `total_steps`; 0 is none.
      warmup_init_value: scalar, the value at step 0.
      slope: scalar above 0, the steepness.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> import numpy
    >>> schedule = warmup_sigmoid_decay_schedule(
    ...     0.1, 0.001, total_steps=6, warmup_steps=2, warmup_init_value=0.01
    ... )
    >>> print(numpy.asarray(schedule(jnp.arange(8))).round(4))
    [0.01   0.0547 0.0993 0.0925 0.0505 0.0085 0.0017 0.0017]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, section 3.3.
    """
    peak_value, end_value = annealing.checked_range("peak_value", peak_value, end_value)
    total_steps = arguments.steps("total_steps", total_steps)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, least=0)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)
    if warmup_steps >= total_steps:
        raise ValueError(
            f"warmup_steps must be fewer than total_steps={total_steps}, got {warmup_steps}."
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
    """Decays along a sigmoid, several times over; `rep` in Nakamura et al. 2021.

    Each is that of `sigmoid_decay_schedule`; the last one's end is held.

    Args:
      init_value: scalar, eta_up.
      end_value: scalar, eta_low, not above `init_value`.
      decay_steps: steps of one decay, at least 1; the whole takes `repeats` times as many.
      repeats: how many decays, at least 1.
      slope: scalar above 0, the steepness.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

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
    """Warms up along a line, then falls by a factor at every boundary; `str+` in Nakamura et al.

    Args:
      peak_value: scalar, the value at step `warmup_steps`.
      boundaries: steps from the very first, increasing, all past the warmup.
      warmup_steps: steps of the warmup; 0 is none.
      warmup_init_value: scalar, the value at step 0.
      decay_rate: scalar above 0 and at most 1, the factor.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> schedule = warmup_staircase_schedule(
    ...     1.0, boundaries=[3, 5], warmup_steps=2, decay_rate=0.5
    ... )
    >>> print(schedule(jnp.arange(7)))
    [0.   0.5  1.   0.5  0.5  0.25 0.25]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, figure 1.
    """
    peak_value = arguments.number("peak_value", peak_value)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, least=0)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)
    boundaries = arguments.boundaries("boundaries", boundaries, after=warmup_steps)
    stairs = decays.staircase_schedule(
        peak_value, boundaries=[b - warmup_steps for b in boundaries], decay_rate=decay_rate
    )
    return compose.with_warmup(stairs, warmup_steps, warmup_init_value)


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
    """Warmup, plateau, cooldown (warmup-stable-decay); `trap` in Nakamura et al. 2021.

    The value rises along a line to `peak_value` at step `warmup_steps`, stays, leaves it at step
    `total_steps - cooldown_steps` and is `end_value` from step `total_steps` on. With `x` from 0 to
    1 over the cooldown, what is left of the range is `1 - x` (linear), `1 - sqrt(x)` (1-sqrt) or
    `1/2 (1 + cos(pi x))` (cosine).

    Args:
      peak_value: scalar, the plateau.
      end_value: scalar, the end of the cooldown, not above `peak_value`.
      total_steps: steps of all three phases, at least 1.
      warmup_steps: steps of the warmup; 0 is none.
      cooldown_steps: steps of the cooldown; 0 is none: `peak_value` is held.
      warmup_init_value: scalar, the value at step 0.
      cooldown: "linear", "1-sqrt" or "cosine".

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above, or if warmup and
        cooldown together are longer than `total_steps`.
      TypeError: if an argument has the wrong type.

    >>> schedule = trapezoid_schedule(1.0, 0.0, 8, warmup_steps=2, cooldown_steps=4)
    >>> print(schedule(jnp.arange(10)))
    [0.   0.5  1.   1.   1.   0.75 0.5  0.25 0.   0.  ]

    Source: Xing et al. 2018, arXiv 1802.08770; Hagele et al. 2024, arXiv 2405.18392 (1-sqrt).
    """
    peak_value, end_value = annealing.checked_range("peak_value", peak_value, end_value)
    total_steps = arguments.steps("total_steps", total_steps)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, least=0)
    cooldown_steps = arguments.steps("cooldown_steps", cooldown_steps, least=0)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)
    arguments.choice("cooldown", cooldown, tuple(_COOLDOWNS))
    plateau_steps = total_steps - warmup_steps - cooldown_steps
    if plateau_steps < 0:
        raise ValueError(
            f"warmup_steps + cooldown_steps must be at most total_steps={total_steps}, "
            f"got {warmup_steps} + {cooldown_steps}."
        )
    phases, ends = [], []
    if plateau_steps > 0 or cooldown_steps == 0:
        phases.append(optax.constant_schedule(peak_value))
    if cooldown_steps > 0:
        ends = [plateau_steps] if phases else []
        shape = _COOLDOWNS[cooldown]
        phases.append(annealing.anneal(shape, peak_value, end_value, cooldown_steps))
    body = compose.chain_schedules(phases, ends)
    return compose.with_warmup(body, warmup_steps, warmup_init_value)


def one_cycle_schedule(
    peak_value: ArrayLike,
    total_steps: int,
    *,
    pct_start: float = 0.3,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
) -> optax.Schedule:
    """One cycle: rises along a cosine, then falls along one, far below where it started.

    It rises from `peak_value / div_factor` over the first `int(pct_start * total_steps)` steps and
    falls to `peak_value / (div_factor * final_div_factor)` at step `total_steps`: the values of
    `optax.cosine_onecycle_schedule`, for counts of any shape and traced parameters.

    Args:
      peak_value: scalar, at least 0, the peak.
      total_steps: steps of rise and fall, at least 1.
      pct_start: Python number, at least 0 and below 1, the rise's part of the whole.
      div_factor: scalar, at least 1, the peak over the first value.
      final_div_factor: scalar, at least 1, the first value over the last.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> import numpy
    >>> schedule = one_cycle_schedule(1.0, 8, pct_start=0.5, div_factor=5.0)
    >>> print(numpy.asarray(schedule(jnp.arange(9))).round(3))
    [0.2   0.317 0.6   0.883 1.    0.854 0.5   0.146 0.   ]

    Source: Smith and Topin 2018, arXiv 1708.07120.
    """
    peak_value = arguments.number("peak_value", peak_value, least=0.0)
    total_steps = arguments.steps("total_steps", total_steps)
    pct_start = arguments.concrete("pct_start", pct_start, least=0.0)
    div_factor = arguments.number("div_factor", div_factor, least=1.0)
    final_div_factor = arguments.number("final_div_factor", final_div_factor, least=1.0)
    if pct_start >= 1:
        raise ValueError(f"pct_start must be below 1, got {pct_start}.")
    rise_steps = int(pct_start * total_steps)
    init_value = peak_value / div_factor
    fall = annealing.anneal(
        shapes.cosine, peak_value, init_value / final_div_factor, total_steps - rise_steps
    )
    return compose.with_warmup(fall, rise_steps, init_value, warmup="cosine")


def triangular_schedule(
    init_value: ArrayLike,
    peak_value: ArrayLike,
    half_cycle_steps: int,
    *,
    mode: str = "triangular",
    decay_rate: ArrayLike | None = None,
) -> optax.Schedule:
    """Rises and falls along lines between two values, for ever (cyclical learning rates).

    `lr = init_value + (peak_value - init_value) a (1 - |1 - t / half_cycle_steps|)`, where `t` are
    the steps of the cycle that are over. The amplitude `a` is 1 in mode "triangular", `2**-k` in
    cycle k in mode "triangular2" and `decay_rate**count` in mode "exp_range".

    Args:
      init_value: scalar, the lower bound, not above `peak_value`.
      peak_value: scalar, the upper bound, reached `half_cycle_steps` steps into a cycle.
      half_cycle_steps: steps of a rise, and as many of a fall, at least 1.
      mode: "triangular", "triangular2" or "exp_range".
      decay_rate: scalar above 0 and at most 1, factor on the amplitude from one step to the next;
        given in mode "exp_range", and only there.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

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
            f'decay_rate must be given in mode "exp_range" and only there, got {decay_rate} in '
            f'mode "{mode}".'
        )
    rate = arguments.number(
        "decay_rate", 1.0 if decay_rate is None else decay_rate, above=0.0, most=1.0
    )
    log_rate = annealing.log(rate)
    position = cycles.repeated(2 * half_cycle_steps, 1.0)

    def schedule(count: ArrayLike) -> jax.Array:
        at = position(count)
        height = 2.0 * jnp.minimum(at.elapsed, at.remaining) / (at.elapsed + at.remaining)
        if mode == "triangular2":
            height = height * jnp.exp2(-at.cycle.astype(jnp.float32))
        if mode == "exp_range":
            steps = cycles.as_count(count).astype(jnp.float32)
            height = height * jnp.exp(steps * jnp.asarray(log_rate, jnp.float32))
        low = jnp.asarray(init_value, jnp.float32)
        return jnp.asarray(peak_value, jnp.float32) * height + low * (1.0 - height)

    return schedule
