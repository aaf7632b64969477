"""A config of a run checked as a whole, before anything that takes seconds to import is imported.

A field is checked even where it is not used. What depends on the data set is checked in `build`.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import base
from experiments import ranges
from experiments.errors import UserError

# The keys of dicts in modules that import jax.
CHOICES = {
    "model.name": (
        "nn2",
        "nn3",
        "lenet4",
        "vgg9",
        "vgg16",
        "vgg19",
        "resnet10",
        "resnet18",
        "resnet34",
        "resnet50",
        "densenet100",
        "densenet121",
        "googlenet",
        "xception",
    ),
    "model.variant": ("cifar", "imagenet"),
    "model.dtype": ("float32", "bfloat16"),
    "model.matmul_precision": ("default", "high", "highest"),
    "model.attention.name": ("none", "beside", "before"),
    "optimizer.name": ("adam", "adamw", "rmsprop", "sgd"),
    "optimizer.decay": ("coupled", "decoupled"),
    "optimizer.decayed": ("all", "kernels"),
    "parallel.strategy": ("jit", "pmap"),
    "schedule.name": (
        "constant",
        "cosine",
        "cyclical_cosine",
        "cyclical_log_annealing",
        "exp",
        "inverse_sqrt",
        "linear",
        "linear_to_zero",
        "log_annealing",
        "log_step_size",
        "one_cycle",
        "rep",
        "rex",
        "sig",
        "sig+",
        "str",
        "str+",
        "trap",
        "triangular",
        "triangular2",
        "triangular_exp_range",
    ),
    "schedule.variant": ("paper", "normalised"),
    "schedule.cooldown": ("linear", "1-sqrt", "cosine"),
    "loss.name": ("sigmoid_categorical_cross_entropy", "softmax_cross_entropy"),
}
PREPROCESS = (
    "contrast_stretching",
    "global_contrast_normalization",
    "pixel_mean",
    "standardize",
    "zca",
)
TYPES: dict[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
}
ELEMENTS: dict[type, str] = {float: "numbers", str: "strings"}


def check(config: ConfigDict) -> None:
    """Refuses a config that is mistaken whatever its data set.

    Args:
      config: a config with the fields of `configs/base.py`.

    Raises:
      UserError: a field is unknown or missing, has the wrong type, is out of range or none of its
        choices, or does not go with another.

    >>> config = base.get_config()
    >>> check(config)
    >>> config.model.dtype = "float16"
    >>> check(config)
    Traceback (most recent call last):
    experiments.errors.UserError: unknown model.dtype='float16'; choose one of float32, bfloat16
    """
    if "schedule" not in config:
        raise UserError(
            "the config has no section schedule: it is none of a run; configs/base.py has all "
            "fields of one, and configs/sweeps/ are for experiments.sweep"
        )
    _check_section(config, base.get_config(), "")
    ranges.check(config, ranges.CONFIG)
    _check_choices(config)
    _check_combinations(config)


def _check_section(section: ConfigDict, expected: ConfigDict, prefix: str) -> None:
    """Refuses fields that a section should not have, lacks, or has of another type."""
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
        elif isinstance(value, ConfigDict):
            _check_section(value, default, f"{path}.")
        else:
            raise UserError(
                f"{path}={ranges.shown(value)} is a value; it must be a section with the fields "
                f"{', '.join(default)}"
            )


def _computed(section: ConfigDict, name: str, path: str) -> Any:
    """The value of a field, which may be computed from others in any way that Python knows."""
    try:
        return section[name]
    except Exception as error:
        raise UserError(
            f"{path} cannot be computed from the fields that it refers to: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def _check_type(path: str, value: object, default: Any, kind: type) -> None:
    """Refuses a value of another type than the default's; where that is None, None is one too."""
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


def _check_choices(config: ConfigDict) -> None:
    for path, choices in CHOICES.items():
        value = ranges.field(config, path)
        if value is not None and value not in choices:
            raise UserError(
                f"unknown {path}={ranges.shown(value)}; choose one of {', '.join(choices)}"
            )
    for step in config.data.preprocess:
        if step not in PREPROCESS:
            raise UserError(
                f"unknown preprocessing step {ranges.shown(step)}; choose from "
                f"{', '.join(PREPROCESS)}"
            )


def _check_combinations(config: ConfigDict) -> None:
    schedule, attention, guard = config.schedule, config.model.attention, config.guard
    if schedule.warmup_epochs > config.epochs:
        raise UserError(
            f"schedule.warmup_epochs={schedule.warmup_epochs} is longer than the run, "
            f"epochs={config.epochs}"
        )
    # Every other schedule that has both refuses this itself.
    if schedule.name == "cosine" and schedule.end_value > schedule.init_value:
        raise UserError(
            f"schedule.end_value={schedule.end_value} must not be above "
            f"schedule.init_value={schedule.init_value}"
        )
    edges = [0, *schedule.boundaries]
    if not all(low < high <= 1 for low, high in zip(edges, schedule.boundaries, strict=False)):
        raise UserError(
            f"schedule.boundaries={ranges.shown(tuple(schedule.boundaries))} is out of range; they "
            "must be fractions of the run, above 0 and at most 1, in increasing order"
        )
    if config.optimizer.name == "adamw" and config.optimizer.decay == "coupled":
        raise UserError("optimizer.decay='coupled' is adam, not adamw: set optimizer.name=adam")
    if attention.name != "none" and attention.width % attention.num_heads:
        raise UserError(
            f"model.attention.num_heads={attention.num_heads} does not divide "
            f"model.attention.width={attention.width}"
        )
    if config.batch_size % config.parallel.accumulate_steps:
        raise UserError(
            f"batch_size={config.batch_size} cannot be divided into "
            f"parallel.accumulate_steps={config.parallel.accumulate_steps} equal pieces"
        )
    if guard.max_rollbacks and guard.peak_factor == 1 and guard.extra_warmup_epochs == 0:
        raise UserError(
            f"guard.max_rollbacks={guard.max_rollbacks} with guard.peak_factor=1 and "
            "guard.extra_warmup_epochs=0 would do the same again and again; lower the factor or "
            "lengthen the warmup"
        )
