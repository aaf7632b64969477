"""The names of the schedules, and the factories that build them for a run.

The parameters `value`, `init_value`, or `peak_value`, `end_value`, `decay_steps` or `total_steps`,
and `warmup_steps` of a factory come from the arguments of `registry.make_schedule`. A factory
without `warmup_steps` gets its warmup from there. Its other parameters are the options of its name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from jax.typing import ArrayLike

from loganneal_jax import (
    annealing,
    arguments,
    cyclical,
    decays,
    phases,
    range_test,
    shapes,
    standard,
    triangular,
)
from loganneal_jax.schedule import Schedule


def _cosine_restarts(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    decay_steps: int,
    *,
    num_cycles: int | None = None,
    restart_interval: int | None = None,
    restart_multiplier: float = 1.0,
    restart_decay: ArrayLike = 1.0,
) -> Schedule:
    """Repeats a cosine decay, with warm restarts.

    Without an interval, the cycles fill the run.
    """
    interval: float | None = restart_interval
    if interval is None:
        if num_cycles is None:
            raise ValueError("Set num_cycles or restart_interval, got None for both.")
        num_cycles = arguments.steps("num_cycles", num_cycles)
        multiplier = arguments.static_number("restart_multiplier", restart_multiplier, above=0.0)
        interval = decay_steps / sum(multiplier**cycle for cycle in range(num_cycles))
        if interval < 1:
            raise ValueError(
                f"num_cycles={num_cycles} is too large for {decay_steps} steps after the warmup."
            )
    return annealing.restarts(
        shapes.cosine,
        peak_value,
        end_value,
        restart_interval=interval if restart_interval is None else restart_interval,
        restart_multiplier=restart_multiplier,
        restart_decay=restart_decay,
        num_cycles=num_cycles,
        round_lengths=restart_interval is not None,
    )


def _linear_to_zero(peak_value: ArrayLike, decay_steps: int) -> Schedule:
    """Decays linearly from `peak_value` to 0, then holds 0."""
    return decays.linear_decay_schedule(peak_value, 0.0, decay_steps)


def _log_step_size(
    peak_value: ArrayLike,
    decay_steps: int,
    *,
    restart_interval: int | None = None,
    restart_multiplier: float = 1.0,
) -> Schedule:
    """Logarithmic step size: log annealing to 0, with or without warm restarts."""
    interval = decay_steps if restart_interval is None else restart_interval
    return cyclical.log_step_size_schedule(
        peak_value, interval, restart_multiplier=restart_multiplier
    )


def _repeated_sigmoid(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    decay_steps: int,
    *,
    repeats: int = 2,
    slope: ArrayLike = 5.0,
) -> Schedule:
    """Sigmoid decays of equal length that fill the run."""
    length = decay_steps // arguments.steps("repeats", repeats)
    return phases.repeated_sigmoid_schedule(
        peak_value, end_value, length, repeats=repeats, slope=slope
    )


def _staircase(
    peak_value: ArrayLike,
    warmup_steps: int,
    *,
    boundaries: Sequence[int],
    decay_rate: ArrayLike = 0.1,
    warmup_init_value: ArrayLike = 0.0,
) -> Schedule:
    """Multiplies the learning rate by a constant factor at each boundary.

    The boundaries count from the start of the run.
    """
    if warmup_steps == 0:
        needs = "warmup_steps of at least 1"
        arguments.unused("warmup_init_value", warmup_init_value, 0.0, needs=needs)
        return decays.staircase_schedule(peak_value, boundaries=boundaries, decay_rate=decay_rate)
    return phases.warmup_staircase_schedule(
        peak_value,
        boundaries=boundaries,
        warmup_steps=warmup_steps,
        warmup_init_value=warmup_init_value,
        decay_rate=decay_rate,
    )


def _step(
    peak_value: ArrayLike, decay_steps: int, *, step_size: int, decay_rate: ArrayLike = 0.1
) -> Schedule:
    """Multiplies the learning rate by a factor every `step_size` steps after the warmup."""
    step_size = arguments.steps("step_size", step_size)
    boundaries = list(range(step_size, decay_steps, step_size))
    return decays.staircase_schedule(peak_value, boundaries=boundaries, decay_rate=decay_rate)


def _trapezoid(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    total_steps: int,
    warmup_steps: int,
    *,
    cooldown_steps: int | None = None,
    cooldown: phases.Cooldown = "linear",
    warmup_init_value: ArrayLike = 0.0,
) -> Schedule:
    """Warms up, stays on a plateau, and cools down (warmup-stable-decay).

    By default, the cooldown takes a fifth of the run, as in timm.
    """
    return phases.trapezoid_schedule(
        peak_value,
        end_value,
        total_steps,
        warmup_steps=warmup_steps,
        cooldown_steps=total_steps // 5 if cooldown_steps is None else cooldown_steps,
        warmup_init_value=warmup_init_value,
        cooldown=cooldown,
    )


def _range_test(
    peak_value: ArrayLike,
    total_steps: int,
    warmup_steps: int,
    *,
    min_value: ArrayLike,
    spacing: range_test.Spacing = "exponential",
) -> Schedule:
    """Learning-rate range test: rises from `min_value` to `peak_value` over the run."""
    if warmup_steps != 0:
        raise ValueError(f"A range test has no warmup; set warmup_steps to 0, got {warmup_steps}.")
    return range_test.range_test_schedule(min_value, peak_value, total_steps, spacing=spacing)


def _one_cycle(
    peak_value: ArrayLike,
    total_steps: int,
    warmup_steps: int,
    *,
    pct_start: float | None = None,
    div_factor: ArrayLike = 25.0,
    final_div_factor: ArrayLike = 1e4,
    anneal_strategy: triangular.AnnealStrategy = "cosine",
    pct_final: float | None = None,
) -> Schedule:
    """Rises to the peak, then falls to far below the first value (one cycle).

    If `warmup_steps` is set instead of `pct_start`, the rise has that length.
    """
    if pct_start is None:
        # The factory rounds down, so aim at the middle between two steps.
        pct_start = 0.3 if warmup_steps == 0 else (warmup_steps + 0.5) / total_steps
    elif warmup_steps != 0:
        raise ValueError(
            "Set warmup_steps or pct_start and leave the other at its default, "
            f"got warmup_steps={warmup_steps} and pct_start={pct_start}."
        )
    return triangular.one_cycle_schedule(
        peak_value,
        total_steps,
        pct_start=pct_start,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        anneal_strategy=anneal_strategy,
        pct_final=pct_final,
    )


def _triangular(
    peak_value: ArrayLike,
    end_value: ArrayLike,
    *,
    half_cycle_steps: int | None = None,
    up_steps: int | None = None,
    down_steps: int | None = None,
    mode: triangular.TriangularMode = "triangular",
    decay_rate: ArrayLike | None = None,
) -> Schedule:
    """Rises and falls linearly between `end_value` and `peak_value`, forever."""
    return triangular.triangular_schedule(
        end_value,
        peak_value,
        half_cycle_steps,
        mode=mode,
        decay_rate=decay_rate,
        up_steps=up_steps,
        down_steps=down_steps,
    )


def _inverse_time(
    peak_value: ArrayLike, *, time_steps: int, decay_rate: ArrayLike, staircase: bool = False
) -> Schedule:
    """Decays with the inverse of the step: peak_value / (1 + decay_rate * step / time_steps)."""
    return standard.inverse_time_schedule(
        peak_value, time_steps, decay_rate=decay_rate, staircase=staircase
    )


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": standard.constant_schedule,
    "cosine": standard.cosine_decay_schedule,
    "cosine_restarts": _cosine_restarts,
    "cyclical_cosine": cyclical.cyclical_cosine_schedule,
    "cyclical_log_annealing": cyclical.cyclical_log_annealing_schedule,
    "exponential": decays.exponential_decay_schedule,
    "inverse_sqrt": decays.inverse_sqrt_schedule,
    "inverse_time": _inverse_time,
    "linear": decays.linear_decay_schedule,
    "linear_to_zero": _linear_to_zero,
    "log_annealing": cyclical.log_annealing_schedule,
    "log_step_size": _log_step_size,
    "one_cycle": _one_cycle,
    "polynomial": standard.polynomial_decay_schedule,
    "range_test": _range_test,
    "repeated_sigmoid": _repeated_sigmoid,
    "rex": decays.rex_schedule,
    "sigmoid": decays.sigmoid_decay_schedule,
    "staircase": _staircase,
    "step": _step,
    "tanh": standard.tanh_decay_schedule,
    "trapezoid": _trapezoid,
    "triangular": _triangular,
    "triangular2": functools.partial(_triangular, mode="triangular2"),
    "triangular_exp_range": functools.partial(_triangular, mode="exp_range"),
}

# The names of Nakamura et al. 2021, timm, transformers, Keras, optax, and PyTorch.
ALIASES: dict[str, str] = {
    "constant_with_warmup": "constant",
    "warmup_constant": "constant",
    "cosine_annealing": "cosine",
    "cosine_decay": "cosine",
    "cosine_with_min_lr": "cosine",
    "cosine_with_warmup": "cosine",
    "warmup_cosine": "cosine",
    "warmup_cosine_decay": "cosine",
    "cosine_annealing_warm_restarts": "cosine_restarts",
    "cosine_decay_restarts": "cosine_restarts",
    "cosine_with_restarts": "cosine_restarts",
    "sgdr": "cosine_restarts",
    "cla": "cyclical_log_annealing",
    "exp": "exponential",
    "exponential_decay": "exponential",
    "invsqrt": "inverse_sqrt",
    "noam": "inverse_sqrt",
    "rsqrt": "inverse_sqrt",
    "inverse_time_decay": "inverse_time",
    "linear_decay": "linear",
    "linear_with_warmup": "linear",
    "warmup_linear": "linear",
    "d2z": "linear_to_zero",
    "1cycle": "one_cycle",
    "cosine_onecycle": "one_cycle",
    "onecycle": "one_cycle",
    "poly": "polynomial",
    "polynomial_decay": "polynomial",
    "lr_find": "range_test",
    "lr_range_test": "range_test",
    "rep": "repeated_sigmoid",
    "sig": "sigmoid",
    "sig+": "sigmoid",
    "multistep": "staircase",
    "piecewise_constant": "staircase",
    "str": "staircase",
    "str+": "staircase",
    "trap": "trapezoid",
    "warmup_stable_decay": "trapezoid",
    "wsd": "trapezoid",
    "clr": "triangular",
    "cyclic": "triangular",
}
