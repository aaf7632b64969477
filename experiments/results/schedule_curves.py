"""Draws the learning rate of schedules over a run, with a dot at every restart."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import loganneal_jax
from experiments.build.schedules import Run, make_schedule_by_name
from experiments.errors import UserError

ENDINGS = (".png", ".svg")
SCALES = ("linear", "log")
MAX_STEPS = 10_000_000
MAX_COLUMNS = 4
PANEL_INCHES = (3.4, 2.4)


def write(
    sections: Mapping[str, Any],
    out: Path,
    run: Run,
    *,
    scale: str,
) -> None:
    """Draws schedules, and writes the figure.

    Args:
      sections: title -> section `schedule` of a config.
      out: file to write, whose ending is one of `ENDINGS`.
      run: length of the run.
      scale: scale of the vertical axis, one of `SCALES`.

    Raises:
      UserError: an argument, or a field of a section, cannot be used, or `out` cannot be written.
    """
    if out.suffix not in ENDINGS:
        raise UserError(f"--out={out} has an unknown ending; choose from {', '.join(ENDINGS)}")
    if scale not in SCALES:
        raise UserError(f"--scale={scale} is unknown; choose from {', '.join(SCALES)}")
    curves = {title: values_of(each, each.name, run) for title, each in sections.items()}
    if scale == "log" and any(values.max() <= 0 for values in curves.values()):
        raise UserError("--scale=log needs learning rates above 0; use --scale=linear")
    figure = draw(curves, run.steps_per_epoch, scale=scale)
    try:
        figure.savefig(out)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error


def run_of(epochs: float, steps_per_epoch: int) -> Run:
    """Returns the length of the run to draw.

    Args:
      epochs: number of epochs, which may be a fraction.
      steps_per_epoch: number of steps in an epoch.

    Returns:
      The length in steps.

    Raises:
      UserError: the run has no steps, or more than a figure can show.
    """
    if not 0 < epochs < math.inf:
        raise UserError(f"epochs={epochs} is out of range; it must be above 0")
    if steps_per_epoch < 1:
        raise UserError(f"--steps_per_epoch={steps_per_epoch} is out of range; it must be above 0")
    num_steps = round(epochs * steps_per_epoch)
    if not 1 <= num_steps <= MAX_STEPS:
        raise UserError(
            f"epochs={epochs} with {steps_per_epoch} steps each makes {num_steps} steps; a figure "
            f"shows 1 to {MAX_STEPS}"
        )
    return Run(steps_per_epoch, num_steps)


def values_of(section: Any, name: str, run: Run) -> np.ndarray:
    """Returns the learning rate at each step of a run.

    Args:
      section: section `schedule` of a config.
      name: name of the schedule, used instead of the section's own.
      run: length of the run.

    Returns:
      float32 of shape `[num_steps]`.

    Raises:
      UserError: the name is unknown, or a field of the section cannot be used.
    """
    schedule = make_schedule_by_name(section, name, run)
    return np.asarray(loganneal_jax.tabulate(schedule, run.num_steps))


def restarts_of(values: np.ndarray) -> np.ndarray:
    """Finds the steps at which a schedule restarts, from its values.

    A restart is a rise within one step that exceeds 1% of the range and ten times the rise of each
    neighboring step. The rises of a warmup or a triangle are spread over more steps.

    >>> print(restarts_of(np.array([0.0, 0.5, 1.0, 0.6, 0.2, 1.0, 0.6, 0.2, 1.0, 0.9])))
    [5 8]
    """
    rises = np.append(np.diff(values), 0.0)
    neighbors = np.maximum(rises[:-2], rises[2:])
    jumps = (rises[1:-1] > 0.01 * np.ptp(values)) & (rises[1:-1] > 10 * neighbors)
    return np.flatnonzero(jumps) + 2


def draw(
    curves: Mapping[str, np.ndarray],
    steps_per_epoch: int,
    *,
    scale: str = "linear",
) -> Figure:
    """Draws one panel per curve, all with the same axes, and a dot at every restart.

    Args:
      curves: title -> learning rate at each step, `[num_steps]`, all of the same length.
      steps_per_epoch: number of steps in one unit of the horizontal axis.
      scale: scale of the vertical axis, "linear" or "log".

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
