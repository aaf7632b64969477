"""Turns the section `schedule` of a config into a schedule that counts steps.

The names are those of `loganneal_jax.make_schedule`. The section has the fields of many schedules,
so that changing its name changes the schedule. A schedule reads only the fields that it uses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import optax
from ml_collections import ConfigDict

import loganneal_jax
from experiments.build import names, ranges
from experiments.build.effects import unrecorded
from experiments.errors import UserError
from loganneal_jax import cyclical, named, phases, registry

SMALLEST_PEAK = 1e-20  # which float32 rates of any shape can represent


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
      run: the length of the run, which the section's `total_epochs` may replace.

    Returns:
      A schedule from steps to learning rates.

    Raises:
      UserError: a name, a value, or a combination of values cannot be used.
    """
    fields = unrecorded(config)
    ranges.check(fields, ranges.SCHEDULE)
    make = names.resolve("schedule.name", config.name, SCHEDULES)
    names.check("schedule.variant", fields.variant, cyclical.VARIANTS)
    names.check("schedule.cooldown", fields.cooldown, phases.COOLDOWNS)
    total_epochs = config.get("total_epochs")  # configs of older runs do not have it
    if total_epochs is not None:
        run = run._replace(num_steps=run.steps(total_epochs))
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


def reaches_peak(config: ConfigDict, run: Run) -> bool:
    """Returns whether a schedule certainly has a learning rate above 0 in a run.

    This needs no learning rate. The first one that a process computes takes seconds.

    Args:
      config: the section `schedule`, of which nothing is recorded.
      run: the length of the run.

    Returns:
      True if the library's schedule leaves 0 in its first two steps after the warmup, and the run
      has them. False if only the learning rates can tell.
    """
    return (
        config.name in SCHEDULES
        and config.peak_value >= SMALLEST_PEAK
        and set(config.options) <= {"num_cycles"}
        and run.steps(config.warmup_epochs) + 2 <= run.num_steps
        and all(round(fraction * run.num_steps) >= 2 for fraction in config.boundaries)
    )


def _from_library(config: ConfigDict, run: Run) -> optax.Schedule:
    """Builds a schedule of the library from the fields that it has."""
    known = registry.options_of(config.name)
    names_of_options = set(known)
    if registry.resolve(config.name).startswith("triangular"):
        names_of_options.discard("decay_rate")
    if "restart_interval" in known and config.restart_interval_epochs is None:
        # The library refuses them too; only a number of cycles gives two of them a meaning.
        names_of_options.discard("restart_value")
        if "num_cycles" not in config.options:
            names_of_options -= {"restart_multiplier", "restart_decay"}
    if "variant" in known and config.variant != "paper":
        names_of_options.discard("base")
    options = {
        name: read(config, run) for name, read in OPTIONS.items() if name in names_of_options
    }
    if config.name == "triangular_exp_range":
        options["decay_rate"] = config.triangle_decay_rate
    warmup_steps = run.steps(config.warmup_epochs)
    if warmup_steps and "warmup_init_value" in known:
        options["warmup_init_value"] = config.warmup_init_value
    if registry.has_end_value(config.name):
        # The library allows rising schedules, but in a run one is most likely a mistake.
        if config.end_value > config.peak_value:
            raise ValueError(
                f"end_value must not be above peak_value={config.peak_value}, got "
                f"{config.end_value}."
            )
        options["end_value"] = config.end_value
    return loganneal_jax.make_schedule(
        config.name,
        peak_value=config.peak_value,
        total_steps=run.num_steps,
        warmup_steps=warmup_steps,
        **options | config.options.to_dict(),
    )


def _restart_interval(config: ConfigDict, run: Run) -> int | None:
    interval = config.restart_interval_epochs
    return None if interval is None else run.steps(interval)


def _boundaries(config: ConfigDict, run: Run) -> list[int]:
    return [round(fraction * run.num_steps) for fraction in config.boundaries]


# Option of `make_schedule` -> its value in the config. Other options are in the section `options`.
OPTIONS: dict[str, Callable[[ConfigDict, Run], Any]] = {
    "base": lambda config, run: config.base,
    "boundaries": _boundaries,
    "cooldown": lambda config, run: config.cooldown,
    "cooldown_steps": lambda config, run: round(config.cooldown_fraction * run.num_steps),
    "decay_rate": lambda config, run: config.decay_rate,
    "first_step": lambda config, run: config.first_step,
    "half_cycle_steps": lambda config, run: run.steps(config.half_cycle_epochs),
    "init_decay_steps": lambda config, run: run.steps(config.init_decay_epochs),
    "restart_decay": lambda config, run: config.restart_decay,
    "restart_interval": _restart_interval,
    "restart_multiplier": lambda config, run: config.restart_multiplier,
    "restart_value": lambda config, run: config.restart_value,
    "slope": lambda config, run: config.slope,
    "variant": lambda config, run: config.variant,
}
SCHEDULES: dict[str, Callable[[ConfigDict, Run], optax.Schedule]] = dict.fromkeys(
    [*named.SCHEDULES, *named.ALIASES], _from_library
)
