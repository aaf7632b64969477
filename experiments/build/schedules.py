"""Turns the section `schedule` of a config into an optax schedule that counts steps.

The section has the fields of all schedules, so that changing its name changes the schedule. A
schedule ignores the fields that it does not have.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from ml_collections import ConfigDict

import loganneal_jax
from experiments.build import names, ranges
from experiments.errors import UserError
from loganneal_jax import cyclical, phases


class Run(NamedTuple):
    """The length of a run, which converts the epochs of a config to steps."""

    steps_per_epoch: int
    num_steps: int

    def steps(self, epochs: float) -> int:
        """Returns a number of epochs in steps, rounded."""
        return round(epochs * self.steps_per_epoch)


def make_schedule(config: ConfigDict, run: Run) -> optax.Schedule:
    """Builds the schedule that the section `schedule` of a config describes.

    Args:
      config: the section, with the fields of `configs/base.py`.
      run: the length of the run.

    Returns:
      A schedule from steps to learning rates.

    Raises:
      UserError: a name, a value, or a combination of values cannot be used.
    """
    ranges.check(config, ranges.SCHEDULE)
    make = names.resolve("schedule.name", config.name, SCHEDULES)
    names.check("schedule.variant", config.variant, cyclical._VARIANTS)
    names.check("schedule.cooldown", config.cooldown, phases._COOLDOWNS)
    try:
        return make(config, run)
    except (ValueError, TypeError) as error:
        raise UserError(f"schedule {config.name}: {error}") from error


def make_schedule_by_name(config: ConfigDict, name: str, run: Run) -> optax.Schedule:
    """Builds the schedule of another name from the same fields.

    Args:
      config: the section `schedule`; it is not changed.
      name: the name to use in place of the section's own.
      run: the length of the run.

    Returns:
      A schedule from steps to learning rates.

    Raises:
      UserError: the name is unknown, or a value cannot be used.
    """
    config = config.copy_and_resolve_references()
    config.name = name
    return make_schedule(config, run)


def _cycles(config: ConfigDict, run: Run) -> dict[str, Any]:
    """Returns the arguments that cyclical log annealing and cyclical cosine share."""
    interval = config.restart_interval_epochs
    return {
        "peak_value": config.peak_value,
        "end_value": config.end_value,
        "init_decay_steps": run.steps(config.init_decay_epochs),
        "restart_interval": None if interval is None else run.steps(interval),
        "restart_multiplier": config.restart_multiplier,
        "restart_value": config.restart_value,
        "restart_decay": config.restart_decay,
        **_warmup(config, run),
    }


def _warmup(config: ConfigDict, run: Run) -> dict[str, Any]:
    return {
        "warmup_steps": run.steps(config.warmup_epochs),
        "warmup_init_value": config.warmup_init_value,
    }


def _boundaries(config: ConfigDict, run: Run) -> list[int]:
    return [round(fraction * run.num_steps) for fraction in config.boundaries]


def _warmed_up(schedule: optax.Schedule, config: ConfigDict, run: Run) -> optax.Schedule:
    warmup_steps = run.steps(config.warmup_epochs)
    return loganneal_jax.with_warmup(schedule, warmup_steps, config.warmup_init_value)


def _decay_steps(config: ConfigDict, run: Run) -> int:
    """Returns the number of steps after the warmup."""
    return run.num_steps - run.steps(config.warmup_epochs)


def _cyclical_log_annealing(config: ConfigDict, run: Run) -> optax.Schedule:
    return loganneal_jax.cyclical_log_annealing_schedule(
        **_cycles(config, run),
        variant=config.variant,
        base=config.base,
        first_step=config.first_step,
    )


def _log_annealing(config: ConfigDict, run: Run) -> optax.Schedule:
    decay = loganneal_jax.log_annealing_schedule(
        config.peak_value,
        config.end_value,
        _decay_steps(config, run),
        variant=config.variant,
        base=config.base,
        first_step=config.first_step,
    )
    return _warmed_up(decay, config, run)


def _cosine(config: ConfigDict, run: Run) -> optax.Schedule:
    # optax accepts a rising cosine; every schedule of the library refuses it.
    if config.end_value > config.peak_value:
        raise ValueError(
            f"end_value={config.end_value} must not be above peak_value={config.peak_value}"
        )
    return optax.warmup_cosine_decay_schedule(
        config.warmup_init_value,
        config.peak_value,
        run.steps(config.warmup_epochs),
        run.num_steps,
        config.end_value,
    )


def _linear(config: ConfigDict, run: Run) -> optax.Schedule:
    decay = loganneal_jax.linear_decay_schedule(
        config.peak_value, config.end_value, _decay_steps(config, run)
    )
    return _warmed_up(decay, config, run)


def _linear_to_zero(config: ConfigDict, run: Run) -> optax.Schedule:
    decay = loganneal_jax.linear_decay_schedule(config.peak_value, 0.0, _decay_steps(config, run))
    return _warmed_up(decay, config, run)


def _rex(config: ConfigDict, run: Run) -> optax.Schedule:
    decay = loganneal_jax.rex_schedule(
        config.peak_value, config.end_value, _decay_steps(config, run)
    )
    return _warmed_up(decay, config, run)


def _trapezoid(config: ConfigDict, run: Run) -> optax.Schedule:
    return loganneal_jax.trapezoid_schedule(
        config.peak_value,
        config.end_value,
        run.num_steps,
        cooldown_steps=round(config.cooldown_fraction * run.num_steps),
        cooldown=config.cooldown,
        **_warmup(config, run),
    )


def _triangular(mode: str) -> Callable[[ConfigDict, Run], optax.Schedule]:
    def make(config: ConfigDict, run: Run) -> optax.Schedule:
        return loganneal_jax.triangular_schedule(
            config.end_value,
            config.peak_value,
            run.steps(config.half_cycle_epochs),
            mode=mode,
            decay_rate=config.triangle_decay_rate if mode == "exp_range" else None,
        )

    return make


def _log_step_size(config: ConfigDict, run: Run) -> optax.Schedule:
    interval = config.restart_interval_epochs
    return loganneal_jax.log_step_size_schedule(
        config.peak_value,
        run.num_steps if interval is None else run.steps(interval),
        restart_multiplier=config.restart_multiplier,
    )


# The short names are those of nakamura2021, figure 1, where `rep` repeats its decay once in a run.
SCHEDULES: dict[str, Callable[[ConfigDict, Run], optax.Schedule]] = {
    "constant": lambda config, run: _warmed_up(
        optax.constant_schedule(config.peak_value), config, run
    ),
    "cosine": _cosine,
    "cyclical_cosine": lambda config, run: loganneal_jax.cyclical_cosine_schedule(
        **_cycles(config, run)
    ),
    "cyclical_log_annealing": _cyclical_log_annealing,
    "exp": lambda config, run: loganneal_jax.exponential_decay_schedule(
        config.peak_value, config.end_value, run.num_steps
    ),
    "inverse_sqrt": lambda config, run: loganneal_jax.inverse_sqrt_schedule(
        config.peak_value, **_warmup(config, run)
    ),
    "linear": _linear,
    "linear_to_zero": _linear_to_zero,
    "log_annealing": _log_annealing,
    "log_step_size": _log_step_size,
    "one_cycle": lambda config, run: loganneal_jax.one_cycle_schedule(
        config.peak_value, run.num_steps
    ),
    "rep": lambda config, run: loganneal_jax.repeated_sigmoid_schedule(
        config.peak_value, config.end_value, run.num_steps // 2, slope=config.slope
    ),
    "rex": _rex,
    "sig": lambda config, run: loganneal_jax.sigmoid_decay_schedule(
        config.peak_value, config.end_value, run.num_steps, slope=config.slope
    ),
    "sig+": lambda config, run: loganneal_jax.warmup_sigmoid_decay_schedule(
        config.peak_value,
        config.end_value,
        run.num_steps,
        slope=config.slope,
        **_warmup(config, run),
    ),
    "str": lambda config, run: loganneal_jax.staircase_schedule(
        config.peak_value, boundaries=_boundaries(config, run), decay_rate=config.decay_rate
    ),
    "str+": lambda config, run: loganneal_jax.warmup_staircase_schedule(
        config.peak_value,
        boundaries=_boundaries(config, run),
        decay_rate=config.decay_rate,
        **_warmup(config, run),
    ),
    "trap": _trapezoid,
    "triangular": _triangular("triangular"),
    "triangular2": _triangular("triangular2"),
    "triangular_exp_range": _triangular("exp_range"),
}
