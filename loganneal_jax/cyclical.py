"""Log annealing (eq. 4) and the cyclical schedules of Naveen 2024 and Shamaee et al. 2024."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, compose, shapes

_VARIANTS = ("paper", "normalized")
_FLOAT32_TINY = float(np.finfo(np.float32).tiny)


def log_annealing_schedule(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    decay_steps: int,
    *,
    variant: str = "paper",
    base: ArrayLike | None = None,
    first_step: ArrayLike = 1,
) -> optax.Schedule:
    """Log annealing: starts with a spike, decays logarithmically, then holds the last value.

    With `T = decay_steps` and `T_cur = min(count + first_step, T)`, the variant "paper" is

        lr = | end_value + 1/2 (peak_value - end_value) (1 + log_base(pi T / T_cur)) |

    which is not limited to `[end_value, peak_value]`. The variant "normalized" is

        lr = end_value + (peak_value - end_value) ln(T / T_cur) / ln(T / first_step)

    which decays from `peak_value` at step 0 to `end_value` at step `decay_steps - first_step`.

    Args:
      peak_value: eta_max, a scalar.
      end_value: eta_min, a scalar, at most `peak_value`.
      decay_steps: Number of steps of the annealing, at least 1. If it is 1, the normalized variant
        is constant at `peak_value`.
      variant: "paper" or "normalized".
      base: Base of the logarithm, a positive scalar other than 1. `None` selects the paper's
        `1 / (peak_value - end_value)`. The normalized variant does not depend on it.
      first_step: `T_cur` at step 0, a scalar, at least 1e-6. A larger value reduces the spike.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above, or if the default
        base is 1.
      TypeError: If an argument has the wrong type.

    >>> schedule = log_annealing_schedule(0.1, 0.001, decay_steps=10)
    >>> print(np.asarray(schedule(jnp.array([0, 1, 9, 99]))).round(4))
    [0.1243 0.1095 0.075  0.075 ]
    >>> schedule = log_annealing_schedule(0.1, 0.001, decay_steps=10, variant="normalized")
    >>> print(np.asarray(schedule(jnp.array([0, 1, 9, 99]))).round(4))
    [0.1    0.0702 0.001  0.001 ]

    Source: Naveen 2024, arXiv 2403.14685, eq. (4).
    """
    peak_value, end_value = annealing.validate_range("peak_value", peak_value, end_value)
    decay_steps = arguments.steps("decay_steps", decay_steps)
    curve = _log_curve(variant, base, first_step)
    if variant == "paper" and base is None:
        _check_default_base("peak_value", peak_value, end_value)
    return annealing.anneal_once(curve, peak_value, end_value, decay_steps)


def cyclical_log_annealing_schedule(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    *,
    init_decay_steps: int,
    restart_interval: int | None = None,
    restart_multiplier: float = 1.0,
    restart_value: ArrayLike | None = None,
    restart_decay: ArrayLike = 1.0,
    warmup_steps: int = 0,
    warmup_init_value: ArrayLike = 0.0,
    variant: str = "paper",
    base: ArrayLike | None = None,
    first_step: ArrayLike = 1,
) -> optax.Schedule:
    """Cyclical log annealing: a warmup, a first log annealing, then warm restarts forever.

    The first annealing starts from `peak_value` and lasts `init_decay_steps` steps. Cycle k after
    it starts from `max(restart_value * restart_decay**k, end_value)` and lasts
    `max(1, round(restart_interval * restart_multiplier**k))` steps. Each annealing follows
    `log_annealing_schedule`; the default base is computed from the cycle's own range.

    The warmup follows `with_warmup`. It ends at the first value of the first annealing, which
    differs from `peak_value` in the variant "paper".

    Args:
      peak_value: eta_max of the first annealing, a scalar.
      end_value: eta_min of every annealing, a scalar, at most `peak_value`.
      init_decay_steps: Number of steps of the first annealing, at least 1.
      restart_interval: Number of steps of the first cycle after the first annealing, at least 1.
        `None` disables restarts; the schedule then holds `end_value`.
      restart_multiplier: Ratio of the lengths of consecutive cycles, a positive Python number.
      restart_value: eta_max of the first restart, a scalar, at least `end_value`. `None` selects
        `peak_value`.
      restart_decay: Ratio of eta_max between consecutive restarts, a scalar above 0 and at most 1.
      warmup_steps: Number of linear warmup steps; 0 means no warmup.
      warmup_init_value: Initial value of the warmup, a scalar.
      variant: "paper" or "normalized".
      base: Base of the logarithm, a positive scalar other than 1. `None` selects the paper's
        `1 / (eta_max - eta_min)`. The normalized variant does not depend on it.
      first_step: `T_cur` at the first step of each cycle, a scalar, at least 1e-6.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above, or if the default
        base is 1 in any cycle.
      TypeError: If an argument has the wrong type.

    >>> schedule = cyclical_log_annealing_schedule(
    ...     0.1, 0.001, init_decay_steps=2, restart_interval=3, restart_decay=0.5
    ... )
    >>> print(np.asarray(schedule(jnp.arange(8))).round(4))
    [0.0898 0.075  0.0985 0.0837 0.075  0.0437 0.0381 0.0348]

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
        warmup_steps=warmup_steps,
        warmup_init_value=warmup_init_value,
    )
    if variant == "paper" and base is None:
        _check_default_base("peak_value", peak_value, end_value)
        if restart_interval is not None:
            first_restart = peak_value if restart_value is None else restart_value
            _check_default_base("restart_value", first_restart, end_value, restart_decay)
    return schedule


def cyclical_cosine_schedule(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    *,
    init_decay_steps: int,
    restart_interval: int | None = None,
    restart_multiplier: float = 1.0,
    restart_value: ArrayLike | None = None,
    restart_decay: ArrayLike = 1.0,
    warmup_steps: int = 0,
    warmup_init_value: ArrayLike = 0.0,
) -> optax.Schedule:
    """Cyclical cosine annealing: a warmup, a first cosine annealing, then warm restarts forever.

    In a cycle of `T` steps, with `T_cur` from 0 to `T - 1`,

        lr = end_value + 1/2 (peak - end_value) (1 + cos(pi T_cur / T))

    The first annealing starts from `peak_value` and lasts `init_decay_steps` steps. Cycle k after
    it starts from `max(restart_value * restart_decay**k, end_value)` and lasts
    `max(1, round(restart_interval * restart_multiplier**k))` steps. As in SGDR, a cycle that is
    followed by another one stops one step short of `end_value`.

    Args:
      peak_value: Peak of the first annealing, a scalar.
      end_value: End of every annealing, a scalar, at most `peak_value`.
      init_decay_steps: Number of steps of the first annealing, at least 1.
      restart_interval: Number of steps of the first cycle after the first annealing, at least 1.
        `None` disables restarts; the schedule then holds `end_value`.
      restart_multiplier: Ratio of the lengths of consecutive cycles, a positive Python number.
      restart_value: Peak of the first restart, a scalar, at least `end_value`. `None` selects
        `peak_value`.
      restart_decay: Ratio of the peaks of consecutive restarts, a scalar above 0 and at most 1.
      warmup_steps: Number of linear warmup steps before the first annealing; 0 means no warmup.
      warmup_init_value: Initial value of the warmup, a scalar.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

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
        warmup_steps=warmup_steps,
        warmup_init_value=warmup_init_value,
    )


def log_step_size_schedule(
    peak_value: ArrayLike, restart_interval: int, *, restart_multiplier: float = 1.0
) -> optax.Schedule:
    """Logarithmic step size with warm restarts: decays from `peak_value` to 0 in every cycle.

    Cycle k lasts `T = max(1, round(restart_interval * restart_multiplier**k))` steps. At its step
    `t`, from 1 to `T`, the value is `lr = peak_value (1 - ln(t) / ln(T))`. This is normalized log
    annealing with an end value of 0.

    Args:
      peak_value: eta_0, the first value of every cycle, a scalar, at least 0.
      restart_interval: Number of steps of the first cycle, at least 1.
      restart_multiplier: Ratio of the lengths of consecutive cycles, a positive Python number.

    Returns:
      A schedule that maps an int32 count of any shape to float32 values of the same shape.

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
    warmup_steps: int,
    warmup_init_value: ArrayLike,
) -> optax.Schedule:
    """Validates the arguments and builds the warmup, the first annealing, and the restarts."""
    peak_value, end_value = annealing.validate_range("peak_value", peak_value, end_value)
    init_decay_steps = arguments.steps("init_decay_steps", init_decay_steps)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, minimum=0)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)
    restart_value, _ = annealing.validate_range(
        "restart_value", peak_value if restart_value is None else restart_value, end_value
    )
    # Build the cycles even without restarts, so that the restart arguments are always validated.
    cycles = annealing.anneal_in_cycles(
        curve,
        restart_value,
        end_value,
        restart_interval=1 if restart_interval is None else restart_interval,
        restart_multiplier=restart_multiplier,
        restart_decay=restart_decay,
        warmup_steps=0,
        warmup_init_value=0.0,
        hold_steps=0,
    )
    if restart_interval is None:
        cycles = optax.constant_schedule(end_value)
    first = annealing.anneal_once(curve, peak_value, end_value, init_decay_steps)
    schedule = compose.chain_schedules([first, cycles], [init_decay_steps])
    return compose.with_warmup(schedule, warmup_steps, warmup_init_value)


def _log_curve(variant: str, base: ArrayLike | None, first_step: ArrayLike) -> annealing.Curve:
    """Returns the curve of eq. (4) or of its normalized variant."""
    arguments.choice("variant", variant, _VARIANTS)
    # For a smaller first_step, T / T_cur and its gradient overflow in float32.
    first_step = arguments.number("first_step", first_step, minimum=1e-6)
    if base is not None:
        base = arguments.number("base", base, minimum=_FLOAT32_TINY)
        if isinstance(base, float) and np.float32(base) == 1.0:
            raise ValueError(
                f"base must not be 1, because the logarithm to base 1 is undefined, got {base}."
            )
    if variant == "normalized":
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
    """Raises a ValueError if `1 / (peak - end)`, the default base, is 1 in any cycle."""
    peak, end = annealing.validate_range(name, peak, end)
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
