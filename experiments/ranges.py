"""The numeric fields of a config and their ranges, checked before anything is computed."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.errors import UserError

POSITIVE = "above 0"
NOT_NEGATIVE = "at least 0"
AT_LEAST_ONE = "at least 1"
HOLDS: dict[str, Callable[[float], bool]] = {
    POSITIVE: lambda value: 0 < value < math.inf,
    NOT_NEGATIVE: lambda value: 0 <= value < math.inf,
    AT_LEAST_ONE: lambda value: 1 <= value < math.inf,
}

SCHEDULE = {
    "init_value": NOT_NEGATIVE,
    "end_value": NOT_NEGATIVE,
    "init_decay_epochs": POSITIVE,
    "restart_interval_epochs": POSITIVE,
    "restart_multiplier": POSITIVE,
    "restart_value": NOT_NEGATIVE,
    "restart_decay": POSITIVE,
    "warmup_epochs": NOT_NEGATIVE,
    "warmup_init_value": NOT_NEGATIVE,
    "base": POSITIVE,
    "first_step": POSITIVE,
    "slope": POSITIVE,
    "decay_rate": POSITIVE,
    "cooldown_fraction": POSITIVE,
    "half_cycle_epochs": POSITIVE,
    "triangle_decay_rate": POSITIVE,
}
CONFIG = {
    "seed": NOT_NEGATIVE,
    "epochs": POSITIVE,
    "batch_size": AT_LEAST_ONE,
    "eval_batch_size": AT_LEAST_ONE,
    "log_every_steps": AT_LEAST_ONE,
    "data.validation_examples": NOT_NEGATIVE,
    "data.image_size": AT_LEAST_ONE,
    "data.crop_padding": NOT_NEGATIVE,
    "data.zca_epsilon": POSITIVE,
    "model.width_multiplier": POSITIVE,
    "model.dropout_rate": NOT_NEGATIVE,
    "model.attention.patch_size": AT_LEAST_ONE,
    "model.attention.width": AT_LEAST_ONE,
    "model.attention.num_heads": AT_LEAST_ONE,
    "model.attention.mlp_width": AT_LEAST_ONE,
    "optimizer.momentum": NOT_NEGATIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.clip_norm": POSITIVE,
    "loss.label_smoothing": NOT_NEGATIVE,
    **{f"schedule.{name}": range_ for name, range_ in SCHEDULE.items()},
    "checkpoint.every_epochs": AT_LEAST_ONE,
    "checkpoint.max_to_keep": AT_LEAST_ONE,
}


def field(config: ConfigDict, path: str) -> Any:
    """The value of a dotted field.

    >>> field(ConfigDict({"model": {"name": "resnet18"}}), "model.name")
    'resnet18'
    """
    value: Any = config
    for name in path.split("."):
        value = value[name]
    return value


def check(config: ConfigDict, ranges: Mapping[str, str]) -> None:
    """Refuses a number outside its range; None, where a field may be None, is no number.

    Args:
      config: a config, or a section of one.
      ranges: dotted field -> one of `HOLDS`.

    Raises:
      UserError: a number is out of range, infinite or not a number.

    >>> check(ConfigDict({"epochs": 3.0}), {"epochs": POSITIVE})
    """
    for path, range_ in ranges.items():
        value = field(config, path)
        if value is not None and not HOLDS[range_](value):
            raise UserError(f"{path}={value} is out of range; it must be {range_}")
