"""Draws schedules: python -m experiments.plot --schedule=NAME[,NAME...] [--out=FILE.png].

The schedule's fields come from --config, which defaults to configs/base.py. Override any of them
with --config.FIELD=VALUE. Without --schedule, the command draws the config's own schedule, or the
schedules of all settings if the config is that of a sweep. No data set is needed, because
--steps_per_epoch gives the length of an epoch.

sig+, str+, and trap have a warmup of a tenth of the run, and the cyclical schedules have five
cycles, unless these fields are set. The titles of their panels show the values.
"""

from pathlib import Path

from absl import flags
from ml_collections import config_flags

from experiments import cli
from experiments.build import examples
from experiments.build.sweeps import read_sweep
from experiments.errors import UserError
from experiments.results import schedule_curves
from loganneal_jax import named

DEFAULT_OUT = "runs/schedule.png"  # git ignores runs/


def main() -> None:
    """Draws the schedules that the flags name."""
    given = flags.FLAGS
    config, out = given.config, Path(given.out or DEFAULT_OUT)
    is_sweep = "settings" in config
    run = config.base if is_sweep else config
    if "schedule" not in run or "epochs" not in run:
        raise UserError("the config has no section schedule; pass the config of a run or a sweep")
    epochs = run.epochs if given.epochs is None else given.epochs
    length = schedule_curves.run_of(epochs, given.steps_per_epoch)
    if is_sweep and given.schedule:
        raise UserError(
            "--schedule cannot be combined with the config of a sweep, whose settings are drawn; "
            "pass the config of a run"
        )
    if is_sweep:
        sweep = read_sweep(config, cli.given_fields())
        sections = {name: sweep.config_of(name).schedule for name in sweep.settings}
    elif given.schedule:
        sections = examples.by_name(
            run.schedule, given.schedule, run=length, given=cli.given_fields()
        )
    else:
        sections = {str(run.schedule.name): run.schedule}
    if not is_sweep:
        examples.check_used(sections, length, cli.given_fields())
    if not given.out:
        out.parent.mkdir(exist_ok=True)
    schedule_curves.write(sections, out, length, scale=given.scale)
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
    flags.DEFINE_string(
        "out", None, f"File to write, ending in .png or .svg. Defaults to {DEFAULT_OUT}."
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main, default_config="base")
