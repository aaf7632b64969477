"""The range of every numeric field of a config."""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from experiments.errors import UserError

# The upper limits are far above any sensible value, and below what hangs or exhausts memory.
POSITIVE = "above 0 and at most 1e+30"
NOT_NEGATIVE = "at least 0 and at most 1e+30"
FRACTION = "above 0 and at most 1"
BELOW_ONE = "at least 0 and below 1"
INSIDE = "above 0 and below 1"
RATE = "at least 0 and at most 1000000"
SOME_EPOCHS = "above 0 and at most 1000000000"
EPOCHS = "at least 0 and at most 1000000000"
COUNT = "at least 1 and at most 1000000"
EXAMPLES = "at least 0 and at most 1000000000"
BATCH = "at least 1 and at most 65536"
SIDE = "at least 1 and at most 4096"
PADDING = "at least 0 and at most 4096"
WIDTH = "at least 1 and at most 16384"
FACTOR = "above 0 and at most 64"
WORKERS = "at least 0 and at most 256"
ROLLBACKS = "at least 0 and at most 1000"
EXTENSIONS = "at least 0 and at most 100"
SEED = "at least 0 and below 4294967296"
# NaN fails every comparison, so it is outside every range.
HOLDS: dict[str, Callable[[float], bool]] = {
    POSITIVE: lambda value: 0 < value <= 1e30,
    NOT_NEGATIVE: lambda value: 0 <= value <= 1e30,
    FRACTION: lambda value: 0 < value <= 1,
    BELOW_ONE: lambda value: 0 <= value < 1,
    INSIDE: lambda value: 0 < value < 1,
    RATE: lambda value: 0 <= value <= 1e6,
    SOME_EPOCHS: lambda value: 0 < value <= 1e9,
    EPOCHS: lambda value: 0 <= value <= 1e9,
    COUNT: lambda value: 1 <= value <= 1e6,
    EXAMPLES: lambda value: 0 <= value <= 1e9,
    BATCH: lambda value: 1 <= value <= 65536,
    SIDE: lambda value: 1 <= value <= 4096,
    PADDING: lambda value: 0 <= value <= 4096,
    WIDTH: lambda value: 1 <= value <= 16384,
    FACTOR: lambda value: 0 < value <= 64,
    WORKERS: lambda value: 0 <= value <= 256,
    ROLLBACKS: lambda value: 0 <= value <= 1000,
    EXTENSIONS: lambda value: 0 <= value <= 100,
    SEED: lambda value: 0 <= value < 2**32,
}

SCHEDULE = {
    "peak_value": RATE,
    "end_value": RATE,
    "total_epochs": SOME_EPOCHS,
    "init_decay_epochs": SOME_EPOCHS,
    "restart_interval_epochs": SOME_EPOCHS,
    "restart_multiplier": POSITIVE,
    "restart_value": RATE,
    "restart_decay": FRACTION,
    "warmup_epochs": EPOCHS,
    "warmup_init_value": RATE,
    "base": POSITIVE,
    "first_step": POSITIVE,
    "slope": POSITIVE,
    "decay_rate": FRACTION,
    "cooldown_fraction": FRACTION,
    "half_cycle_epochs": SOME_EPOCHS,
    "triangle_decay_rate": FRACTION,
}
CONFIG = {
    "seed": SEED,
    "epochs": SOME_EPOCHS,
    "batch_size": BATCH,
    "eval_batch_size": BATCH,
    "log_every_steps": COUNT,
    "linear_regression.dimensions": COUNT,
    "linear_regression.exponent": RATE,
    "linear_regression.noise": RATE,
    "data.memory_share": FRACTION,
    "data.workers": WORKERS,
    "data.max_damaged": EXAMPLES,
    "data.validation_examples": EXAMPLES,
    "data.image_size": SIDE,
    "data.crop_padding": PADDING,
    "data.zca_epsilon": POSITIVE,
    "data.context_length": BATCH,
    "model.width_multiplier": FACTOR,
    "model.dropout_rate": BELOW_ONE,
    "model.num_layers": SIDE,
    "model.num_heads": WIDTH,
    "model.width": WIDTH,
    "model.attention.patch_size": SIDE,
    "model.attention.width": WIDTH,
    "model.attention.num_heads": WIDTH,
    "model.attention.mlp_width": WIDTH,
    "optimizer.momentum": BELOW_ONE,
    "optimizer.beta1": BELOW_ONE,
    "optimizer.beta2": BELOW_ONE,
    "optimizer.beta3": BELOW_ONE,
    "optimizer.epsilon": NOT_NEGATIVE,
    "optimizer.consistent_rms": POSITIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.clip_norm": POSITIVE,
    **{f"schedule.{name}": range_ for name, range_ in SCHEDULE.items()},
    "loss.label_smoothing": BELOW_ONE,
    "averaging.ema_decay": INSIDE,
    "averaging.swa_start_epoch": COUNT,
    "parallel.accumulate_steps": BATCH,
    "gan.gradient_penalty": NOT_NEGATIVE,
    "gan.latent_size": WIDTH,
    "gan.discriminator_steps": WIDTH,
    "gan.generator_rate": POSITIVE,
    "gan.discriminator_rate": POSITIVE,
    "guard.loss_threshold": POSITIVE,
    "guard.grace_epochs": EPOCHS,
    "guard.max_rollbacks": ROLLBACKS,
    "guard.peak_factor": FRACTION,
    "guard.extra_warmup_epochs": EPOCHS,
    "checkpoint.every_epochs": COUNT,
    "checkpoint.max_to_keep": COUNT,
}


def field(config: ConfigDict, path: str) -> Any:
    """Returns the value of a dotted field.

    >>> field(ConfigDict({"model": {"name": "resnet18"}}), "model.name")
    'resnet18'
    """
    value: Any = config
    for name in path.split("."):
        value = value[name]
    return value


def check(config: ConfigDict, ranges: Mapping[str, str]) -> None:
    """Refuses a number outside its range, and ignores fields that are None.

    Args:
      config: a config, or a section of one.
      ranges: dotted field -> a key of `HOLDS`.

    Raises:
      UserError: a number is out of range, infinite, or NaN.

    >>> check(ConfigDict({"epochs": 3.0}), {"epochs": POSITIVE})
    """
    for path, range_ in ranges.items():
        value = field(config, path)
        if value is not None and not HOLDS[range_](value):
            raise UserError(f"{path}={shown(value)} is out of range; it must be {range_}")


def shown(value: object) -> str:
    """Returns a value as an error message shows it: on one line, and not too long.

    >>> shown("resnet18"), shown(10**5000)
    ("'resnet18'", 'int of 16610 bits')
    """
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"int of {value.bit_length()} bits"
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python refuses to print an int with too many digits
        return type(value).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."
