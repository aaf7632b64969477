"""Draws the learning rate of schedules over a run, with a dot at every restart."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import loganneal_jax
from configs import base
from experiments.build import effects
from experiments.build.schedules import Run, make_schedule, make_schedule_by_name
from experiments.errors import UserError

ENDINGS = (".png", ".svg")
SCALES = ("linear", "log")
MAX_STEPS = 10_000_000
MAX_COLUMNS = 4
PANEL_INCHES = (3.4, 2.4)
EXAMPLE_STEPS = 1000  # steps per epoch, to find out which fields a schedule uses
# What the name of a schedule promises and the defaults lack, as fractions of the run.
WARMUP = {"warmup_epochs": 0.1}
CYCLES = {"init_decay_epochs": 0.2, "restart_interval_epochs": 0.2}
EXAMPLES: dict[str, dict[str, float]] = {
    **dict.fromkeys(("sig+", "str+", "trap", "trapezoid", "wsd"), WARMUP),
    **dict.fromkeys(("cla", "cyclical_log_annealing", "cyclical_cosine"), CYCLES),
}


def write(
    sections: Mapping[str, ConfigDict],
    out: Path,
    *,
    epochs: float,
    steps_per_epoch: int,
    scale: str,
) -> None:
    """Draws schedules, and writes the figure.

    Args:
      sections: title -> section `schedule` of a config.
      out: file to write, whose ending is one of `ENDINGS`.
      epochs: length of the run.
      steps_per_epoch: number of steps in an epoch.
      scale: scale of the vertical axis, one of `SCALES`.

    Raises:
      UserError: an argument, or a field of a section, cannot be used, or `out` cannot be written.
    """
    if out.suffix not in ENDINGS:
        raise UserError(f"--out={out} has an unknown ending; choose from {', '.join(ENDINGS)}")
    if scale not in SCALES:
        raise UserError(f"--scale={scale} is unknown; choose from {', '.join(SCALES)}")
    run = run_of(epochs, steps_per_epoch)
    curves = {title: values_of(each, each.name, run) for title, each in sections.items()}
    if scale == "log" and any(values.max() <= 0 for values in curves.values()):
        raise UserError("--scale=log needs learning rates above 0; use --scale=linear")
    figure = draw(curves, steps_per_epoch, scale=scale)
    try:
        figure.savefig(out)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error


def by_name(
    section: ConfigDict, names: Sequence[str], *, epochs: float, given: Collection[str]
) -> dict[str, ConfigDict]:
    """Returns the sections of schedules that differ in name.

    The defaults of `configs/base.py` have no warmup and no restarts. A schedule that is named after
    one of them gets it from `EXAMPLES`, unless a field of it is set, and its title says so.

    Args:
      section: section `schedule` of a config.
      names: names of the schedules, used instead of the section's own.
      epochs: length of the run.
      given: dotted fields of the config that were set by hand.

    Returns:
      Title -> section.

    Raises:
      UserError: a field was set by hand that none of the schedules use.
    """
    section = section.copy_and_resolve_references()
    defaults = base.get_config().schedule
    sections, used = {}, set()
    for name in names:
        each = section.copy_and_resolve_references()
        each.name = name
        example = {field: factor * epochs for field, factor in EXAMPLES.get(name, {}).items()}
        if "warmup_epochs" in example:
            example["warmup_init_value"] = 0.1 * each.peak_value
        untouched = all(
            each[field] == defaults[field] and f"schedule.{field}" not in given for field in example
        )
        title = name
        if example and untouched:
            each.update(example)
            shown = [f"{field}={value:g}" for field, value in example.items()]
            title = "\n".join([name, *shown])
        sections[title] = each
        recorded = effects.Recorded(each, "schedule.")
        make_schedule(recorded, run_of(epochs, EXAMPLE_STEPS))
        used |= recorded.read_fields
    for path in given:
        field = path.removeprefix("schedule.")
        if path != field and path not in used and section[field] != defaults[field]:
            raise UserError(
                f"{path}={section[field]!r} has no effect on any of {', '.join(names)}; remove it"
            )
    return sections


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
