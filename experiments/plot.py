"""Draws schedules: python -m experiments.plot --schedule=NAME[,NAME...] [--out=FILE.png].

The fields are those of --config, or of configs/base.py, and any of them can be set with
--config.FIELD=VALUE; a schedule not named is the config's own. The data set need not be there:
how long an epoch is says --steps_per_epoch.
"""

import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from ml_collections import ConfigDict, config_flags

import loganneal_jax
from experiments import cli
from experiments.errors import UserError
from experiments.schedules import SCHEDULES, Run, make_schedule

ENDINGS = (".png", ".svg")
SCALES = ("linear", "log")
MAX_STEPS = 10_000_000
MAX_COLUMNS = 4
PANEL_INCHES = (3.4, 2.4)
BASE_CONFIG = Path(__file__).parents[1] / "configs" / "base.py"


def main() -> None:
    """Draws what the flags say."""
    given = flags.FLAGS
    out = Path(given.out)
    if out.suffix not in ENDINGS:
        raise UserError(f"--out={out} must end in {' or '.join(ENDINGS)}")
    if given.scale not in SCALES:
        raise UserError(f"unknown --scale={given.scale!r}; choose one of {', '.join(SCALES)}")
    config = given.config
    names = given.schedule or [config.schedule.name]
    run = run_of(config.epochs if given.epochs is None else given.epochs, given.steps_per_epoch)
    curves = {name: values_of(config, name, run) for name in names}
    if given.scale == "log" and any(values.max() <= 0 for values in curves.values()):
        raise UserError("--scale=log needs learning rates above 0")
    figure = draw(curves, run.steps_per_epoch, scale=given.scale)
    try:
        figure.savefig(out)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error
    print(f"wrote {out}")


def run_of(epochs: float, steps_per_epoch: int) -> Run:
    """The length of the run to draw, refused when it is none or too long for a picture."""
    if not 0 < epochs < math.inf:
        raise UserError(f"epochs={epochs} is out of range; it must be above 0")
    if steps_per_epoch < 1:
        raise UserError(f"--steps_per_epoch={steps_per_epoch} is out of range; it must be above 0")
    num_steps = round(epochs * steps_per_epoch)
    if not 1 <= num_steps <= MAX_STEPS:
        raise UserError(
            f"epochs={epochs} of {steps_per_epoch} steps are {num_steps} steps; a picture shows "
            f"from 1 to {MAX_STEPS}"
        )
    return Run(steps_per_epoch, num_steps)


def values_of(config: ConfigDict, name: str, run: Run) -> np.ndarray:
    """The learning rate of every step of a run with the schedule of this name.

    Args:
      config: a config with the fields of `configs/base.py`.
      name: one of `SCHEDULES`, in place of the config's own.
      run: the length of the run.

    Returns:
      float32 of shape `[num_steps]`.

    Raises:
      UserError: the name is unknown, or a field of the section `schedule` cannot be used.
    """
    if name not in SCHEDULES:
        raise UserError(f"unknown schedule {name!r}; choose one of {', '.join(SCHEDULES)}")
    section = config.schedule.copy_and_resolve_references()
    section.name = name
    return np.asarray(loganneal_jax.tabulate(make_schedule(section, run), run.num_steps))


def restarts_of(values: np.ndarray) -> np.ndarray:
    """The steps at which a schedule restarts, found from its values.

    A restart is a rise within one step, by more than a hundredth of the whole range and more than
    ten times what the steps beside it rise by: a warmup and the side of a triangle take longer.

    >>> print(restarts_of(np.array([0.0, 0.5, 1.0, 0.6, 0.2, 1.0, 0.6, 0.2, 1.0, 0.9])))
    [5 8]
    """
    rises = np.append(np.diff(values), 0.0)
    beside = np.maximum(rises[:-2], rises[2:])
    jumps = (rises[1:-1] > 0.01 * np.ptp(values)) & (rises[1:-1] > 10 * beside)
    return np.flatnonzero(jumps) + 2


def draw(
    curves: Mapping[str, np.ndarray],
    steps_per_epoch: int,
    *,
    scale: str = "linear",
) -> Figure:
    """Draws one panel a curve, all with the same axes, a dot at every restart.

    Args:
      curves: title -> learning rate of every step, `[num_steps]`, of one length.
      steps_per_epoch: steps of a unit of the horizontal axis.
      scale: of the vertical axis, "linear" or "log".

    Returns:
      The figure.
    """
    rows = -(-len(curves) // MAX_COLUMNS)
    columns = -(-len(curves) // rows)
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows)
    figure = Figure(figsize=size, dpi=130, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in grid.flat[len(curves) :]:
        axis.remove()
    restarted = False
    for axis, (title, values) in zip(grid.flat, curves.items(), strict=False):
        epochs = np.arange(len(values)) / steps_per_epoch
        axis.plot(epochs, values, color="#1d4ed8", linewidth=1.5, drawstyle="steps-post")
        at = restarts_of(values)
        axis.plot(epochs[at], values[at], "o", color="#ea580c", markersize=4)
        restarted |= at.size > 0
        axis.set_title(title, fontsize=10)
        axis.set_xlim(0, len(values) / steps_per_epoch)
        axis.set_yscale(scale)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, labelbottom=True)
    if scale == "linear" and min(values.min() for values in curves.values()) >= 0:
        grid.flat[0].set_ylim(bottom=0)
    unit = "step" if steps_per_epoch == 1 else f"epoch of {steps_per_epoch} steps"
    figure.supxlabel(unit + ("; dots are restarts" if restarted else ""), fontsize=9)
    figure.supylabel("learning rate", fontsize=9)
    return figure


def define_flags() -> None:
    """Defines the command's flags; not on import, for another command may define --config too."""
    config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
    flags.DEFINE_list("schedule", None, f"Some of {', '.join(SCHEDULES)}; the config's by default.")
    flags.DEFINE_float("epochs", None, "Epochs to draw; the config's by default.")
    flags.DEFINE_integer("steps_per_epoch", 391, "Steps of an epoch; CIFAR-10 has 391 batches.")
    flags.DEFINE_alias("steps-per-epoch", "steps_per_epoch")
    flags.DEFINE_string("scale", "linear", "Of the vertical axis: linear or log.")
    flags.DEFINE_string("out", "schedule.png", "The picture to write, a .png or .svg file.")


if __name__ == "__main__":
    define_flags()
    if not any(re.match(r"--?config(=|$)", argument) for argument in sys.argv):
        sys.argv.insert(1, f"--config={BASE_CONFIG}")
    cli.run(main)
