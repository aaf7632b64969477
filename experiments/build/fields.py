"""Checks a config before anything slow is imported: its fields, types, ranges, and combinations.

A field is checked even where it is not used. `build.experiment` checks the names, whatever depends
on the data set, and that every field has an effect.
"""

from typing import Any

from ml_collections import ConfigDict

from experiments.build import ranges
from experiments.errors import UserError
from experiments.packaged import base

# Sections whose fields are free: options of a schedule, or of a task that the user defines.
FREE = ("schedule.options", "task.options")
TYPES: dict[type, str] = {
    bool: "True or False",
    int: "an int",
    float: "a number",
    str: "a string",
}
# What to do if memory does not suffice.
SMALLER = (
    "lower batch_size, eval_batch_size, model.width_multiplier, or data.image_size, or raise "
    "model.attention.patch_size or parallel.accumulate_steps"
)
ELEMENTS: dict[type, str] = {float: "numbers", str: "strings"}


def check(config: ConfigDict) -> None:
    """Refuses a config that is wrong for every data set.

    Args:
      config: a config with the fields of `configs/base.py`.

    Raises:
      UserError: a field is unknown, missing, of the wrong type, or out of range, or two fields
        contradict each other.

    >>> config = base.get_config()
    >>> check(config)
    >>> config.model.width_multiplier = -1.0
    >>> check(config)
    Traceback (most recent call last):
    experiments.errors.UserError: model.width_multiplier=-1.0 is out of range; it must be above ...
    """
    if "schedule" not in config:
        raise UserError(
            "the config has no section schedule, so it is not the config of a run; configs/base.py "
            "has all fields of a run, and configs/sweeps/ are for experiments.sweep"
        )
    _check_section(config, base.get_config(), "")
    ranges.check(config, ranges.CONFIG)
    _check_combinations(config)


def _check_section(section: ConfigDict, expected: ConfigDict, prefix: str) -> None:
    """Refuses unknown fields, missing fields, and wrong types."""
    for name in section:
        if name not in expected:
            where = prefix.removesuffix(".") or "the config of a run"
            raise UserError(
                f"unknown field {ranges.shown(prefix + name)}: {where} has {', '.join(expected)}"
            )
    for name, default in expected.items():
        path = prefix + name
        if name not in section:
            raise UserError(
                f"the config has no field {path}; configs/base.py has all fields of a run, with "
                "their defaults"
            )
        value = _computed(section, name, path)
        if not isinstance(default, ConfigDict):
            _check_type(path, value, default, expected.get_type(name))
        elif not isinstance(value, ConfigDict):
            raise UserError(
                f"{path}={ranges.shown(value)} is a value; it must be a section with the fields "
                f"{', '.join(default)}"
            )
        elif path not in FREE:
            _check_section(value, default, f"{path}.")


def _computed(section: ConfigDict, name: str, path: str) -> Any:
    """Returns the value of a field, which may be a reference that computes it from others."""
    try:
        return section[name]
    except Exception as error:
        raise UserError(
            f"{path} cannot be computed from the fields that it refers to: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def _check_type(path: str, value: object, default: Any, kind: type) -> None:
    """Refuses a value whose type differs from the default's; allows None only as the default."""
    if value is None and default is None:
        return
    if kind is tuple:
        element = type(default[0])
        fits = isinstance(value, tuple | list) and all(_fits(item, element) for item in value)
        allowed = f"a tuple of {ELEMENTS[element]}"
    else:
        fits = _fits(value, kind)
        allowed = TYPES[kind] + (" or None" if default is None else "")
    if not fits:
        what = "a section" if isinstance(value, ConfigDict) else type(value).__name__
        raise UserError(
            f"{path}={ranges.shown(value)} has the wrong type, {what}; it must be {allowed}"
        )


def _fits(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _check_combinations(config: ConfigDict) -> None:
    schedule, attention, guard = config.schedule, config.model.attention, config.guard
    if schedule.warmup_epochs > config.epochs:
        raise UserError(
            f"schedule.warmup_epochs={schedule.warmup_epochs} is longer than the run, "
            f"epochs={config.epochs}; set --config.schedule.warmup_epochs={config.epochs / 10:g}, "
            "a tenth of the run, or 0 for no warmup"
        )
    edges = [0, *schedule.boundaries]
    if not all(low < high <= 1 for low, high in zip(edges, schedule.boundaries, strict=False)):
        raise UserError(
            f"schedule.boundaries={ranges.shown(tuple(schedule.boundaries))} is out of range; they "
            "must be fractions of the run, above 0 and at most 1, in increasing order"
        )
    if attention.name != "none" and attention.width % attention.num_heads:
        raise UserError(
            f"model.attention.num_heads={attention.num_heads} does not divide "
            f"model.attention.width={attention.width}"
        )
    if config.batch_size % config.parallel.accumulate_steps:
        raise UserError(
            f"batch_size={config.batch_size} cannot be divided into "
            f"parallel.accumulate_steps={config.parallel.accumulate_steps} equal micro-batches"
        )
    if guard.max_rollbacks and guard.peak_factor == 1 and guard.extra_warmup_epochs == 0:
        raise UserError(
            f"guard.max_rollbacks={guard.max_rollbacks} with guard.peak_factor=1 and "
            "guard.extra_warmup_epochs=0 would repeat the same steps; lower the factor or lengthen "
            "the warmup"
        )
