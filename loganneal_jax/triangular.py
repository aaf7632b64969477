"""Smith's schedules: triangular cycles and one cycle."""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, compose, cycles, shapes, warmups
from loganneal_jax.schedule import ScheduleFunction, returns_schedule

AnnealStrategy = Literal["cosine", "linear"]
TriangularMode = Literal["triangular", "triangular2", "exp_range"]

ANNEAL_STRATEGIES: tuple[AnnealStrategy, ...] = get_args(AnnealStrategy)
TRIANGULAR_MODES: tuple[TriangularMode, ...] = get_args(TriangularMode)


@returns_schedule
def one_cycle_schedule(
    peak_value: ArrayLike,
    total_steps: int,
    *,
    pct_start: float = 0.3,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
    anneal_strategy: AnnealStrategy = "cosine",
    pct_final: float | None = None,
) -> ScheduleFunction:
    """One cycle: a warmup, then a decay to far below the initial value.

    The learning rate rises from `peak_value / div_factor` to `peak_value` over the first
    `int(pct_start * total_steps)` steps. It then decays to
    `peak_value / (div_factor * final_div_factor)` at step `total_steps`. With `pct_final`, there is
    a phase between: the learning rate returns to its initial value at step
    `int(pct_final * total_steps)`, and decays from there.

    The values equal those of `optax.cosine_onecycle_schedule` and, with `pct_final=0.85`,
    `optax.linear_onecycle_schedule`, but counts may have any shape and parameters may be traced.
    PyTorch's `three_phase=True` corresponds to `pct_final=2 * pct_start`.

    Args:
      peak_value: Peak, a scalar, at least 0.
      total_steps: Number of steps of all phases together, at least 1.
      pct_start: Fraction of the steps spent on the warmup, a Python number, at least 0 and below 1.
      div_factor: Ratio of the peak to the initial value, a scalar, at least 1.
      final_div_factor: Ratio of the initial value to the final value, a scalar, at least 1.
      anneal_strategy: "cosine" or "linear", the form of each phase.
      pct_final: Fraction of the steps at which the learning rate is back at its initial value, a
        Python number, above `pct_start` and below 1. `None` means that there is no such phase.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> import numpy
    >>> schedule = one_cycle_schedule(1.0, 8, pct_start=0.5, div_factor=5.0)
    >>> print(numpy.asarray(schedule(jnp.arange(9))).round(3))
    [0.2   0.317 0.6   0.883 1.    0.854 0.5   0.146 0.   ]
    >>> schedule = one_cycle_schedule(
    ...     1.0, 8, pct_start=0.25, pct_final=0.5, div_factor=5.0, anneal_strategy="linear"
    ... )
    >>> print(numpy.asarray(schedule(jnp.arange(9))).round(3))
    [0.2  0.6  1.   0.6  0.2  0.15 0.1  0.05 0.  ]

    Source: Smith and Topin 2018, arXiv 1708.07120.
    """
    peak_value = arguments.number("peak_value", peak_value, minimum=0.0)
    total_steps = arguments.steps("total_steps", total_steps)
    pct_start = arguments.static_number("pct_start", pct_start, minimum=0.0)
    div_factor = arguments.number("div_factor", div_factor, minimum=1.0)
    final_div_factor = arguments.number("final_div_factor", final_div_factor, minimum=1.0)
    arguments.choice("anneal_strategy", anneal_strategy, ANNEAL_STRATEGIES)
    if pct_start >= 1:
        raise ValueError(f"pct_start must be below 1, got {pct_start}.")
    warmup_steps = int(pct_start * total_steps)
    init_value = peak_value / div_factor
    final_value = init_value / final_div_factor
    shape = shapes.cosine if anneal_strategy == "cosine" else shapes.linear
    if pct_final is None:
        decay = annealing.anneal(shape, peak_value, final_value, total_steps - warmup_steps)
    else:
        pct_final = arguments.static_number("pct_final", pct_final, above=0.0)
        return_steps = int(pct_final * total_steps) - warmup_steps
        last_steps = total_steps - warmup_steps - return_steps
        if return_steps < 1 or last_steps < 1:
            raise ValueError(
                f"pct_final must be above pct_start={pct_start} and below 1, by at least one of "
                f"total_steps={total_steps}, got {pct_final}."
            )
        phases = [
            annealing.anneal(shape, peak_value, init_value, return_steps),
            annealing.anneal(shape, init_value, final_value, last_steps),
        ]
        decay = compose.chain_schedules(phases, [return_steps])
    if warmup_steps == 0:
        return decay
    return warmups.with_warmup(decay, warmup_steps, init_value, warmup=anneal_strategy)


@returns_schedule
def triangular_schedule(
    init_value: ArrayLike,
    peak_value: ArrayLike,
    half_cycle_steps: int | None = None,
    *,
    mode: TriangularMode = "triangular",
    decay_rate: ArrayLike | None = None,
    up_steps: int | None = None,
    down_steps: int | None = None,
) -> ScheduleFunction:
    """Triangular cyclical learning rate: alternates linearly between two values, forever.

    `lr = init_value + (peak_value - init_value) a h(t)`, where `t` is the step within the cycle.
    The height `h` rises linearly from 0 to 1 in `up_steps` steps and falls to 0 in `down_steps`
    steps; both default to `half_cycle_steps`. The amplitude `a` depends on the mode:

        triangular:   1
        triangular2:  2**-k in cycle k
        exp_range:    decay_rate**count

    Args:
      init_value: Value at the start of each cycle, a scalar.
      peak_value: Value reached `up_steps` steps into each cycle, a scalar. It may be below
        `init_value`, as for a momentum.
      half_cycle_steps: Number of steps from one value to the other, at least 1. `None` if
        `up_steps` and `down_steps` are set.
      mode: "triangular", "triangular2", or "exp_range".
      decay_rate: Factor by which the amplitude decays per step, a scalar above 0 and at most 1.
        Required in mode "exp_range" and not allowed in the other modes.
      up_steps: Number of steps from `init_value` to `peak_value`, at least 1.
      down_steps: Number of steps from `peak_value` to `init_value`, at least 1.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> print(triangular_schedule(0.0, 1.0, 2, mode="triangular2")(jnp.arange(9)))
    [0.   0.5  1.   0.5  0.   0.25 0.5  0.25 0.  ]
    >>> print(triangular_schedule(0.0, 1.0, up_steps=1, down_steps=4)(jnp.arange(6)))
    [0.   1.   0.75 0.5  0.25 0.  ]

    Source: Smith 2017, arXiv 1506.01186.
    """
    init_value = arguments.number("init_value", init_value)
    peak_value = arguments.number("peak_value", peak_value)
    arguments.choice("mode", mode, TRIANGULAR_MODES)
    rise, fall = _steps_of_cycle(half_cycle_steps, up_steps, down_steps)
    if (mode == "exp_range") != (decay_rate is not None):
        raise ValueError(
            'decay_rate must be set in mode "exp_range" and must be None in all other modes, '
            f'got {decay_rate} in mode "{mode}".'
        )
    rate = arguments.number(
        "decay_rate", 1.0 if decay_rate is None else decay_rate, above=0.0, maximum=1.0
    )
    log_rate = annealing.log(rate)
    locate = cycles.repeated(rise + fall, 1.0)

    def schedule(count: ArrayLike) -> jax.Array:
        position = locate(count)
        height = _height(position.elapsed, position.remaining, rise, fall)
        if mode == "triangular2":
            height = height * jnp.exp2(-position.cycle.astype(jnp.float32))
        if mode == "exp_range":
            steps = cycles.as_count(count).astype(jnp.float32)
            height = height * jnp.exp(steps * jnp.asarray(log_rate, jnp.float32))
        low = jnp.asarray(init_value, jnp.float32)
        return jnp.asarray(peak_value, jnp.float32) * height + low * (1.0 - height)

    return schedule


def _steps_of_cycle(
    half_cycle_steps: int | None, up_steps: int | None, down_steps: int | None
) -> tuple[int, int]:
    """Returns the numbers of rising and falling steps in a cycle."""
    if half_cycle_steps is not None and up_steps is None and down_steps is None:
        half = arguments.steps("half_cycle_steps", half_cycle_steps)
        return half, half
    if half_cycle_steps is None and up_steps is not None and down_steps is not None:
        return arguments.steps("up_steps", up_steps), arguments.steps("down_steps", down_steps)
    raise ValueError(
        "half_cycle_steps, or both up_steps and down_steps, must be set, "
        f"got {half_cycle_steps}, {up_steps}, and {down_steps}."
    )


def _height(elapsed: jax.Array, remaining: jax.Array, rise: int, fall: int) -> jax.Array:
    """Returns the height of a triangle, which is exactly 1 at its peak."""
    if rise == fall:
        return 2.0 * jnp.minimum(elapsed, remaining) / (elapsed + remaining)
    # XLA divides by a constant inexactly, so select the exact peak.
    height = jnp.where(elapsed < rise, elapsed / rise, remaining / fall)
    return jnp.where(elapsed == rise, 1.0, height)
