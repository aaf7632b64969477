"""The cyclical schedules of the paper: log annealing, eq. (4), and cosine annealing, eq. (3)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, compose, shapes

_VARIANTS = ("paper", "normalised")
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
    """Log annealing: a spike that falls as a logarithm, once, then its last value.

    With `T = decay_steps` and `T_cur = min(count + first_step, T)`, the variant "paper" is

        lr = | end_value + 1/2 (peak_value - end_value) (1 + log_base(pi T / T_cur)) |

    which is not kept between `end_value` and `peak_value`, and "normalised" is

        lr = end_value + (peak_value - end_value) ln(T / T_cur) / ln(T / first_step)

    which falls from `peak_value` at step 0 to `end_value` at step `decay_steps - first_step`.

    Args:
      peak_value: scalar, eta_max.
      end_value: scalar, eta_min, not above `peak_value`.
      decay_steps: steps of the annealing, at least 1. In one of a single step the normalised
        variant is `peak_value`.
      variant: "paper" or "normalised".
      base: scalar above 0 other than 1, base of the logarithm; `None` is the paper's
        `1 / (peak_value - end_value)`. It cancels in the normalised variant.
      first_step: scalar, at least 1e-6, `T_cur` at step 0; a larger one softens the spike.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above, or if the base that
        results from the range is 1.
      TypeError: if an argument has the wrong type.

    >>> schedule = log_annealing_schedule(0.1, 0.001, decay_steps=10)
    >>> print(np.asarray(schedule(jnp.array([0, 1, 9, 99]))).round(4))
    [0.1243 0.1095 0.075  0.075 ]
    >>> schedule = log_annealing_schedule(0.1, 0.001, decay_steps=10, variant="normalised")
    >>> print(np.asarray(schedule(jnp.array([0, 1, 9, 99]))).round(4))
    [0.1    0.0702 0.001  0.001 ]

    Source: Naveen 2024, arXiv 2403.14685, eq. (4).
    """
    peak_value, end_value = annealing.checked_range("peak_value", peak_value, end_value)
    decay_steps = arguments.steps("decay_steps", decay_steps)
    curve = _log_curve(variant, base, first_step)
    if variant == "paper" and base is None:
        _refuse_unit_range("peak_value", peak_value, end_value)
    return annealing.once(curve, peak_value, end_value, decay_steps)


def cyclical_log_annealing_schedule(
    init_value: ArrayLike,
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
    """Cyclical log annealing: warmup, a first log annealing, then restarts for ever.

    Each annealing is that of `log_annealing_schedule`: from `init_value` over `init_decay_steps`,
    then cycle k from `max(restart_value * restart_decay**k, end_value)` over `max(1,
    round(restart_interval * restart_multiplier**k))` steps. The paper's base is that of each
    cycle's own range. The warmup is that of `with_warmup`: it ends at the first value of the first
    annealing, which in the variant "paper" is above `init_value`.

    Args:
      init_value: scalar, eta_max of the first annealing.
      end_value: scalar, eta_min of every annealing, not above `init_value`.
      init_decay_steps: steps of the first annealing, at least 1.
      restart_interval: steps of the first cycle after it, at least 1; `None` is no restarts:
        `end_value` is held.
      restart_multiplier: Python number above 0, factor from one cycle's length to the next.
      restart_value: scalar, eta_max of the first restart, not below `end_value`; `None` is
        `init_value`.
      restart_decay: scalar above 0 and at most 1, factor from one restart's eta_max to the next.
      warmup_steps: steps of linear warmup before everything; 0 is none.
      warmup_init_value: scalar, the value the warmup starts from.
      variant: "paper" or "normalised".
      base: scalar above 0 other than 1, base of the logarithm; `None` is the paper's
        `1 / (eta_max - eta_min)`. It cancels in the normalised variant.
      first_step: scalar, at least 1e-6, `T_cur` at the first step of a cycle.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above, or if the base that
        results from a cycle's range is 1.
      TypeError: if an argument has the wrong type.

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
        init_value,
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
        _refuse_unit_range("init_value", init_value, end_value)
        if restart_interval is not None:
            first = init_value if restart_value is None else restart_value
            _refuse_unit_range("restart_value", first, end_value, restart_decay)
    return schedule


def cyclical_cosine_schedule(
    init_value: ArrayLike,
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
    """Cyclical cosine annealing: warmup, a first cosine annealing, then restarts for ever.

    With `T` the length of a cycle and `T_cur` its steps that are over, from 0 to `T - 1`,

        lr = end_value + 1/2 (peak - end_value) (1 + cos(pi T_cur / T))

    The first annealing falls from `init_value` over `init_decay_steps`; then cycle k falls from
    `max(restart_value * restart_decay**k, end_value)` over `max(1, round(restart_interval *
    restart_multiplier**k))` steps. A cycle that is followed by another stops one step short of
    `end_value`, as in SGDR.

    Args:
      init_value: scalar, the peak of the first annealing.
      end_value: scalar, the end of every annealing, not above `init_value`.
      init_decay_steps: steps of the first annealing, at least 1.
      restart_interval: steps of the first cycle after it, at least 1; `None` is no restarts:
        `end_value` is held.
      restart_multiplier: Python number above 0, factor from one cycle's length to the next.
      restart_value: scalar, the peak of the first restart, not below `end_value`; `None` is
        `init_value`.
      restart_decay: scalar above 0 and at most 1, factor from one restart's peak to the next.
      warmup_steps: steps of linear warmup to `init_value` before everything; 0 is none.
      warmup_init_value: scalar, the value the warmup starts from.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> schedule = cyclical_cosine_schedule(
    ...     1.0, 0.0, init_decay_steps=4, restart_interval=2, restart_multiplier=2.0
    ... )
    >>> print(np.asarray(schedule(jnp.arange(11))).round(2))
    [1.   0.85 0.5  0.15 1.   0.5  1.   0.85 0.5  0.15 1.  ]

    Source: Loshchilov and Hutter 2017, arXiv 1608.03983, eq. (5); Naveen 2024, arXiv 2403.14685,
    eq. (3).
    """
    return _with_restarts(
        annealing.along(shapes.cosine),
        init_value,
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
    init_value: ArrayLike, restart_interval: int, *, restart_multiplier: float = 1.0
) -> optax.Schedule:
    """The logarithmic step size with warm restarts: from `init_value` to 0 in every cycle.

    In cycle k, of `T = max(1, round(restart_interval * restart_multiplier**k))` steps, step `t`
    from 1 to `T` has `lr = init_value (1 - ln(t) / ln(T))`. It is normalised log annealing to 0.

    Args:
      init_value: scalar, at least 0, eta_0, the first value of every cycle.
      restart_interval: steps of the first cycle, at least 1.
      restart_multiplier: Python number above 0, factor from one cycle's length to the next.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> schedule = log_step_size_schedule(0.1, restart_interval=4)
    >>> print(np.asarray(schedule(jnp.arange(5))).round(4))
    [0.1    0.05   0.0208 0.     0.1   ]

    Source: Shamaee, Hafshejani and Saeidian 2024, arXiv 2404.01257.
    """
    init_value = arguments.number("init_value", init_value, least=0.0)
    return annealing.restarts(
        shapes.normalised_log,
        init_value,
        0.0,
        restart_interval=restart_interval,
        restart_multiplier=restart_multiplier,
    )


def _with_restarts(
    curve: annealing.Curve,
    init_value: ArrayLike,
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
    """Warmup, first annealing, restarts: the parameters the cyclical schedules share."""
    init_value, end_value = annealing.checked_range("init_value", init_value, end_value)
    init_decay_steps = arguments.steps("init_decay_steps", init_decay_steps)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, least=0)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)
    restart_value, _ = annealing.checked_range(
        "restart_value", init_value if restart_value is None else restart_value, end_value
    )
    cycled = annealing.cyclical(
        curve,
        restart_value,
        end_value,
        # Without restarts the other parameters are checked all the same.
        restart_interval=1 if restart_interval is None else restart_interval,
        restart_multiplier=restart_multiplier,
        restart_decay=restart_decay,
        warmup_steps=0,
        warmup_init_value=0.0,
        hold_steps=0,
    )
    after = optax.constant_schedule(end_value) if restart_interval is None else cycled
    first = annealing.once(curve, init_value, end_value, init_decay_steps)
    schedule = compose.chain_schedules([first, after], [init_decay_steps])
    return compose.with_warmup(schedule, warmup_steps, warmup_init_value)


def _log_curve(variant: str, base: ArrayLike | None, first_step: ArrayLike) -> annealing.Curve:
    """The curve of eq. (4), or of its normalised variant."""
    arguments.choice("variant", variant, _VARIANTS)
    # Closer to 0, T / T_cur and its gradient leave the range of float32.
    first_step = arguments.number("first_step", first_step, least=1e-6)
    if base is not None:
        base = arguments.number("base", base, least=_FLOAT32_TINY)
        if isinstance(base, float) and np.float32(base) == 1.0:
            raise ValueError(f"base must not be 1, the base of no logarithm, got {base}.")
    if variant == "normalised":
        return annealing.along(
            lambda elapsed, remaining: shapes.normalised_log(elapsed, remaining, first_step)
        )
    log_base = None if base is None else annealing.log(base)

    def curve(
        elapsed: jax.Array, remaining: jax.Array, peak: jax.Array, end: jax.Array
    ) -> jax.Array:
        # A cycle without a range has no base of its own; any finite one gives its only value.
        own = -jnp.log(jnp.maximum(peak - end, _FLOAT32_TINY)) if log_base is None else log_base
        fraction = shapes.log(elapsed, remaining, own, first_step)
        # Below base 1 the logarithm is negative and takes the value through zero.
        return jnp.abs(peak * fraction + end * (1.0 - fraction))

    return curve


def _refuse_unit_range(name: str, peak: ArrayLike, end: ArrayLike, decay: ArrayLike = 1.0) -> None:
    """Refuses a range of 1 in any cycle, where the paper's base 1 / range is none."""
    peak, end = annealing.checked_range(name, peak, end)
    decay = arguments.number("restart_decay", decay)
    if not (isinstance(peak, float) and isinstance(end, float) and isinstance(decay, float)):
        return
    cycle = 0
    if decay < 1 and peak > 1 + end > 0:
        cycle = round(math.log((1 + end) / peak) / math.log(decay))
    span = max(peak * decay**cycle, end) - end
    if abs(span - 1) < 1e-6:
        raise ValueError(
            f"{name} - end_value must not be 1, which makes the paper's base 1, got "
            f"{name}={peak} and end_value={end} in cycle {cycle}: give a base."
        )
