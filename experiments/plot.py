"""Draws schedules: python -m experiments.plot --schedule=NAME[,NAME...] [--out=FILE.png].

The schedule's fields come from --config, which defaults to configs/base.py. Override any of them
with --config.FIELD=VALUE. Without --schedule, the command draws the config's own schedule. No data
set is needed, because --steps_per_epoch gives the length of an epoch.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from experiments import cli
from experiments.results import schedule_curves
from loganneal_jax import named

BASE_CONFIG = Path(__file__).parents[1] / "configs" / "base.py"


def main() -> None:
    """Draws the schedules that the flags name."""
    given = flags.FLAGS
    config, out = given.config, Path(given.out)
    schedule_curves.write(
        config.schedule,
        given.schedule or [config.schedule.name],
        out,
        epochs=config.epochs if given.epochs is None else given.epochs,
        steps_per_epoch=given.steps_per_epoch,
        scale=given.scale,
    )
    print(f"wrote {out}")


def define_flags() -> None:
    """Defines the command's flags, not on import, because other commands define --config too."""
    config_flags.DEFINE_config_file("config", None, "Config file.", lock_config=True)
    flags.DEFINE_list(
        "schedule",
        None,
        f"Comma-separated names from {', '.join(named.SCHEDULES)}, or package.module:attribute. "
        "Defaults to the config's schedule.",
    )
    flags.DEFINE_float("epochs", None, "Number of epochs. Defaults to the config's.")
    flags.DEFINE_integer(
        "steps_per_epoch", 391, "Steps per epoch. Defaults to CIFAR-10's at batch size 128."
    )
    flags.DEFINE_alias("steps-per-epoch", "steps_per_epoch")
    flags.DEFINE_string("scale", "linear", "Scale of the vertical axis: linear or log.")
    flags.DEFINE_string("out", "schedule.png", "File to write, ending in .png or .svg.")


if __name__ == "__main__":
    define_flags()
    cli.run(main, default_config=BASE_CONFIG)
