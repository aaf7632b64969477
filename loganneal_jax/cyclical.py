"""Log annealing (eq. 4) and the cyclical schedules of Naveen 2024 and Shamaee et al. 2024."""

from __future__ import annotations

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, compose, shapes, warmups
from loganneal_jax.schedule import ScheduleFunction, returns_schedule

Variant = Literal["normalized", "paper"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
_FLOAT32_TINY = float(np.finfo(np.float32).tiny)


@returns_schedule
def log_annealing_schedule(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    decay_steps: int,
    *,
    variant: Variant = "normalized",
    base: ArrayLike | None = None,
    first_step: ArrayLike = 1,
) -> ScheduleFunction:
    """Log annealing: starts with a spike, decays logarithmically, then holds the last value.

    With `T = decay_steps` and `T_cur = min(count + first_step, T)`, the variant "normalized" is

        lr = end_value + (peak_value - end_value) ln(T / T_cur) / ln(T / first_step)

    which decays from `peak_value` at step 0 to `end_value` at step `decay_steps - first_step`. The
    variant "paper" is

        lr = | end_value + 1/2 (peak_value - end_value) (1 + log_base(pi T / T_cur)) |

    which is not limited to `[end_value, peak_value]`.

    Args:
      peak_value: eta_max, a scalar.
      end_value: eta_min, a scalar. It may be above `peak_value`, except with the default base of
        the variant "paper".
      decay_steps: Number of steps of the annealing, at least 1. If it is 1, the normalized variant
        is constant at `peak_value`.
      variant: "normalized" (default) or "paper".
      base: Base of the logarithm, a positive scalar other than 1. `None` selects the paper's
        `1 / (peak_value - end_value)`. Only for the variant "paper".
      first_step: `T_cur` at step 0, a scalar, at least 1e-6. A larger value reduces the spike.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite, is outside the range given above, or has no effect, or
        if the default base is 1.
      TypeError: If an argument has the wrong type.

    >>> schedule = log_annealing_schedule(0.1, 0.001, decay_steps=10)
    >>> print(np.asarray(schedule(jnp.array([0, 1, 9, 99]))).round(4))
    [0.1    0.0702 0.001  0.001 ]
    >>> schedule = log_annealing_schedule(0.1, 0.001, decay_steps=10, variant="paper")
    >>> print(np.asarray(schedule(jnp.array([0, 1, 9, 99]))).round(4))
    [0.1243 0.1095 0.075  0.075 ]

    Source: Naveen 2024, arXiv 2403.14685, eq. (4).
    """
    peak_value, end_value = annealing.validate_range("peak_value", peak_value, end_value)
    decay_steps = arguments.steps("decay_steps", decay_steps)
    curve = _log_curve(variant, base, first_step)
    if variant == "paper" and base is None:
        _check_default_base("peak_value", peak_value, end_value)
    return annealing.anneal_once(curve, peak_value, end_value, decay_steps)


@returns_schedule
def cyclical_log_annealing_schedule(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    *,
    init_decay_steps: int,
    restart_interval: int | None = None,
    restart_multiplier: float = 1.0,
    restart_value: ArrayLike | None = None,
    restart_decay: ArrayLike = 1.0,
    num_cycles: int | None = None,
    warmup_steps: int = 0,
    warmup_init_value: ArrayLike = 0.0,
    variant: Variant = "normalized",
    base: ArrayLike | None = None,
    first_step: ArrayLike = 1,
) -> ScheduleFunction:
    """Cyclical log annealing: a warmup, a first log annealing, then warm restarts.

    The first annealing starts from `peak_value` and lasts `init_decay_steps` steps. Cycle k after
    it starts from `restart_value * restart_decay**k`, but not beyond `end_value`, and lasts
    `max(1, round(restart_interval * restart_multiplier**k))` steps. Each annealing follows
    `log_annealing_schedule`; the default base is computed from the cycle's own range.

    The linear warmup ends at the first value of the first annealing, which differs from
    `peak_value` in the variant "paper".

    Args:
      peak_value: eta_max of the first annealing, a scalar.
      end_value: eta_min of every annealing, a scalar. It may be above the peaks, except with the
        default base of the variant "paper".
      init_decay_steps: Number of steps of the first annealing, at least 1.
      restart_interval: Number of steps of the first cycle after the first annealing, at least 1.
        `None` disables restarts; the schedule then holds `end_value`.
      restart_multiplier: Ratio of the lengths of consecutive cycles, a positive Python number.
      restart_value: eta_max of the first restart, a scalar. `None` selects `peak_value`.
      restart_decay: Ratio of eta_max between consecutive restarts, a scalar above 0 and at most 1.
      num_cycles: Number of annealings including the first, at least 2. The schedule then holds the
        last value. `None` restarts forever.
      warmup_steps: Number of linear warmup steps; 0 means no warmup.
      warmup_init_value: Initial value of the warmup, a scalar.
      variant: "normalized" (default) or "paper".
      base: Base of the logarithm, a positive scalar other than 1. `None` selects the paper's
        `1 / (eta_max - eta_min)`. Only for the variant "paper".
      first_step: `T_cur` at the first step of each cycle, a scalar, at least 1e-6.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite, is outside the range given above, or has no effect, or
        if the default base is 1 in any cycle.
      TypeError: If an argument has the wrong type.

    >>> schedule = cyclical_log_annealing_schedule(
    ...     0.1, 0.001, init_decay_steps=2, restart_interval=3, restart_decay=0.5
    ... )
    >>> print(np.asarray(schedule(jnp.arange(8))).round(4))
    [0.1    0.001  0.1    0.0375 0.001  0.05   0.0191 0.001 ]

    Source: Naveen 2024, arXiv 2403.14685, eq. (4) and section 2.1.
    """
    curve = _log_curve(variant, base, first_step)
    schedule = _with_restarts(
        curve,
        peak_value,
        end_value,
        init_decay_steps=init_decay_steps,
        restart_interval=restart_interval,
        restart_multiplier=restart_multiplier,
        restart_value=restart_value,
        restart_decay=restart_decay,
        num_cycles=num_cycles,
        warmup_steps=warmup_steps,
        warmup_init_value=warmup_init_value,
    )
    if variant == "paper" and base is None:
        _check_default_base("peak_value", peak_value, end_value)
        if restart_interval is not None:
            first_restart = peak_value if restart_value is None else restart_value
            _check_default_base("restart_value", first_restart, end_value, restart_decay)
    return schedule


@returns_schedule
def cyclical_cosine_schedule(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    *,
    init_decay_steps: int,
    restart_interval: int | None = None,
    restart_multiplier: float = 1.0,
    restart_value: ArrayLike | None = None,
    restart_decay: ArrayLike = 1.0,
    num_cycles: int | None = None,
    warmup_steps: int = 0,
    warmup_init_value: ArrayLike = 0.0,
) -> ScheduleFunction:
    """Cyclical cosine annealing: a warmup, a first cosine annealing, then warm restarts.

    In a cycle of `T` steps, with `T_cur` from 0 to `T - 1`,

        lr = end_value + 1/2 (peak - end_value) (1 + cos(pi T_cur / T))

    The first annealing starts from `peak_value` and lasts `init_decay_steps` steps. Cycle k after
    it starts from `restart_value * restart_decay**k`, but not beyond `end_value`, and lasts
    `max(1, round(restart_interval * restart_multiplier**k))` steps. As in SGDR, a cycle that is
    followed by another one stops one step short of `end_value`.

    Args:
      peak_value: Peak of the first annealing, a scalar.
      end_value: End of every annealing, a scalar. It may be above the peaks.
      init_decay_steps: Number of steps of the first annealing, at least 1.
      restart_interval: Number of steps of the first cycle after the first annealing, at least 1.
        `None` disables restarts; the schedule then holds `end_value`.
      restart_multiplier: Ratio of the lengths of consecutive cycles, a positive Python number.
      restart_value: Peak of the first restart, a scalar. `None` selects `peak_value`.
      restart_decay: Ratio of the peaks of consecutive restarts, a scalar above 0 and at most 1.
      num_cycles: Number of annealings including the first, at least 2. The schedule then holds the
        last value. `None` restarts forever.
      warmup_steps: Number of linear warmup steps before the first annealing; 0 means no warmup.
      warmup_init_value: Initial value of the warmup, a scalar.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> schedule = cyclical_cosine_schedule(
    ...     1.0, 0.0, init_decay_steps=4, restart_interval=2, restart_multiplier=2.0
    ... )
    >>> print(np.asarray(schedule(jnp.arange(11))).round(2))
    [1.   0.85 0.5  0.15 1.   0.5  1.   0.85 0.5  0.15 1.  ]

    Source: Loshchilov and Hutter 2017, arXiv 1608.03983, eq. (5); Naveen 2024, arXiv 2403.14685,
    eq. (3).
    """
    return _with_restarts(
        annealing.curve_from_shape(shapes.cosine),
        peak_value,
        end_value,
        init_decay_steps=init_decay_steps,
        restart_interval=restart_interval,
        restart_multiplier=restart_multiplier,
        restart_value=restart_value,
        restart_decay=restart_decay,
        num_cycles=num_cycles,
        warmup_steps=warmup_steps,
        warmup_init_value=warmup_init_value,
    )


@returns_schedule
def log_step_size_schedule(
    peak_value: ArrayLike, restart_interval: int, *, restart_multiplier: float = 1.0
) -> ScheduleFunction:
    """Logarithmic step size with warm restarts: decays from `peak_value` to 0 in every cycle.

    Cycle k lasts `T = max(1, round(restart_interval * restart_multiplier**k))` steps. At its step
    `t`, from 1 to `T`, the value is `lr = peak_value (1 - ln(t) / ln(T))`. This is normalized log
    annealing with an end value of 0.

    Args:
      peak_value: eta_0, the first value of every cycle, a scalar, at least 0.
      restart_interval: Number of steps of the first cycle, at least 1.
      restart_multiplier: Ratio of the lengths of consecutive cycles, a positive Python number.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> schedule = log_step_size_schedule(0.1, restart_interval=4)
    >>> print(np.asarray(schedule(jnp.arange(5))).round(4))
    [0.1    0.05   0.0208 0.     0.1   ]

    Source: Shamaee, Hafshejani and Saeidian 2024, arXiv 2404.01257.
    """
    peak_value = arguments.number("peak_value", peak_value, minimum=0.0)
    return annealing.restarts(
        shapes.normalized_log,
        peak_value,
        0.0,
        restart_interval=restart_interval,
        restart_multiplier=restart_multiplier,
    )


def _with_restarts(
    curve: annealing.Curve,
    peak_value: ArrayLike,
    end_value: ArrayLike,
    *,
    init_decay_steps: int,
    restart_interval: int | None,
    restart_multiplier: float,
    restart_value: ArrayLike | None,
    restart_decay: ArrayLike,
    num_cycles: int | None,
    warmup_steps: int,
    warmup_init_value: ArrayLike,
) -> ScheduleFunction:
    """Validates the arguments and builds the warmup, the first annealing, and the restarts."""
    peak_value, end_value = annealing.validate_range("peak_value", peak_value, end_value)
    init_decay_steps = arguments.steps("init_decay_steps", init_decay_steps)
    warmup_steps, warmup_init_value = arguments.warmup(warmup_steps, warmup_init_value)
    if num_cycles is not None:
        num_cycles = arguments.steps("num_cycles", num_cycles, minimum=2)
    first_restart = arguments.number(
        "restart_value", peak_value if restart_value is None else restart_value
    )
    # Build the cycles even without restarts, so that the restart arguments are always validated.
    cycles = annealing.anneal_in_cycles(
        curve,
        first_restart,
        end_value,
        restart_interval=1 if restart_interval is None else restart_interval,
        restart_multiplier=restart_multiplier,
        restart_decay=restart_decay,
        num_cycles=None if num_cycles is None else max(num_cycles - 1, 2),
    )
    if restart_interval is None:
        arguments.unused("restart_value", restart_value, None, needs="restart_interval")
        arguments.unused("num_cycles", num_cycles, None, needs="restart_interval")
    if restart_interval is None or num_cycles == 2:
        needs = "restart_interval" if num_cycles is None else "num_cycles of at least 3"
        arguments.unused("restart_multiplier", restart_multiplier, 1.0, needs=needs)
        arguments.unused("restart_decay", restart_decay, 1.0, needs=needs)
    if restart_interval is None:
        cycles = annealing.constant(end_value)
    elif num_cycles == 2:
        restart_steps = arguments.steps("restart_interval", restart_interval)
        cycles = annealing.anneal_once(curve, first_restart, end_value, restart_steps)
    first = annealing.anneal_once(curve, peak_value, end_value, init_decay_steps)
    schedule = compose.chain_schedules([first, cycles], [init_decay_steps])
    return warmups.with_warmup(schedule, warmup_steps, warmup_init_value)


def _log_curve(variant: Variant, base: ArrayLike | None, first_step: ArrayLike) -> annealing.Curve:
    """Returns the curve of eq. (4) or of its normalized variant."""
    arguments.choice("variant", variant, VARIANTS)
    # For a smaller first_step, T / T_cur and its gradient overflow in float32.
    first_step = arguments.number("first_step", first_step, minimum=1e-6)
    if base is not None:
        base = arguments.number("base", base, minimum=_FLOAT32_TINY)
        if isinstance(base, float) and np.float32(base) == 1.0:
            raise ValueError(
                f"base must not be 1, because the logarithm to base 1 is undefined, got {base}."
            )
    if variant == "normalized":
        arguments.unused("base", base, None, needs='variant="paper"')
        return annealing.curve_from_shape(
            lambda elapsed, remaining: shapes.normalized_log(elapsed, remaining, first_step)
        )
    given_log_base = None if base is None else annealing.log(base)

    def curve(
        elapsed: jax.Array, remaining: jax.Array, peak: jax.Array, end: jax.Array
    ) -> jax.Array:
        log_base = given_log_base
        if log_base is None:
            # If peak == end, the default base is infinite. Any finite base gives the same value.
            log_base = -jnp.log(jnp.maximum(peak - end, _FLOAT32_TINY))
        fraction = shapes.log(elapsed, remaining, log_base, first_step)
        # For a base below 1, the logarithm is negative and the value may cross zero.
        return jnp.abs(peak * fraction + end * (1.0 - fraction))

    return curve


def _check_default_base(
    name: str, peak: ArrayLike, end: ArrayLike, restart_decay: ArrayLike = 1.0
) -> None:
    """Raises a ValueError if `1 / (peak - end)`, the default base, is 1 or negative."""
    peak, end = annealing.validate_range(name, peak, end)
    arguments.ordered("end_value", end, name, peak)
    decay = arguments.number("restart_decay", restart_decay)
    if not (isinstance(peak, float) and isinstance(end, float) and isinstance(decay, float)):
        return
    cycle = 0
    if decay < 1 and peak > 1 + end > 0:
        # The cycle whose range is closest to 1.
        cycle = round(math.log((1 + end) / peak) / math.log(decay))
    value_range = max(peak * decay**cycle, end) - end
    if abs(value_range - 1) < 1e-6:
        raise ValueError(
            f"{name} - end_value must not be 1, because the default base 1 / ({name} - end_value) "
            f"would be 1, got {name}={peak} and end_value={end} in cycle {cycle}; "
            "pass base explicitly."
        )
