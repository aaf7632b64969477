"""experiments.plot draws the values that are trained with, and refuses what it cannot draw."""

import re
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import loganneal_jax
from configs import base
from experiments import plot
from experiments.errors import UserError
from experiments.schedules import SCHEDULES, Run

ROOT = Path(__file__).parents[1]
# The commands of the documentation, which draw the figures of the papers.
COMMANDS = re.findall(
    r"^    (python -m experiments\.plot .+)$",
    (ROOT / "docs" / "schedules.md").read_text().replace(" \\\n       ", ""),
    re.MULTILINE,
)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.plot", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def config(**fields):
    made = base.get_config()
    made.schedule.update(fields)
    return made


def test_draws_the_figure_of_the_paper_as_documented(tmp_path):
    arguments = shlex.split(COMMANDS[0])[3:]
    assert arguments[-1] == "--out=docs/schedules/naveen2024_figure1.png"
    out = tmp_path / "figure.png"
    finished = command(*arguments[:-1], f"--out={out}")
    found = (finished.returncode, finished.stdout, finished.stderr)
    assert found == (0, f"wrote {out}\n", "")
    drawn = matplotlib.image.imread(out)
    committed = matplotlib.image.imread(ROOT / "docs" / "schedules" / "naveen2024_figure1.png")
    assert drawn.shape == committed.shape
    # Fonts are rendered a little differently from one version of matplotlib to the next.
    assert np.abs(drawn - committed).mean() < 0.01
    assert drawn.std() > 0.05


def test_draws_the_schedule_of_a_config_with_its_overrides(tmp_path):
    out = tmp_path / "schedule.svg"
    finished = command(
        "--config=configs/quickstart.py",
        "--config.schedule.name=str",
        "--steps_per_epoch=7",
        "--scale=log",
        f"--out={out}",
    )
    assert finished.returncode == 0, finished.stderr
    assert "<svg" in out.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--schedule=cosin"], "unknown schedule 'cosin'; choose one of constant, cosine, "),
        (["--epochs=0"], "epochs=0.0 is out of range; it must be above 0"),
        (["--epochs=nan"], "epochs=nan is out of range; it must be above 0"),
        (["--steps_per_epoch=0"], "--steps_per_epoch=0 is out of range; it must be above 0"),
        (["--epochs=1e9"], "epochs=1000000000.0 of 391 steps are 391000000000 steps; "),
        (["--scale=cubic"], "unknown --scale='cubic'; choose one of linear, log"),
        (["--out=figure.gif"], "--out=figure.gif must end in .png or .svg"),
        (["--out=nowhere/figure.png"], "--out=nowhere/figure.png cannot be written: No such file"),
        (["--config.schedule.warmup=1"], "unknown config field --config.schedule.warmup: "),
        (
            ["--schedule=constant", "--config.schedule.init_value=0", "--scale=log"],
            "--scale=log needs learning rates above 0",
        ),
        (["--config.schedule.end_value=1"], "schedule cyclical_log_annealing: end_value must not"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, message):
    finished = command("--epochs=1", *arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.startswith(f"error: {message}")
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_line_drawn_is_the_table_of_the_schedule(name):
    run = Run(steps_per_epoch=10, num_steps=80)
    values = plot.values_of(config(restart_interval_epochs=2.0, warmup_epochs=0.5), name, run)
    assert values.shape == (80,)
    figure = plot.draw({"a": values, "b": values / 2}, run.steps_per_epoch)
    for axis, drawn in zip(figure.axes, (values, values / 2), strict=True):
        curve = axis.lines[0]
        np.testing.assert_array_equal(curve.get_ydata(), drawn)
        np.testing.assert_allclose(curve.get_xdata(), np.arange(80) / 10)
        assert axis.get_xlim() == (0, 8)


def test_values_are_those_of_the_library():
    fields = {"init_value": 0.05, "warmup_epochs": 0.5, "restart_interval_epochs": 2.0}
    drawn = plot.values_of(config(**fields), "cyclical_cosine", Run(10, 80))
    ours = loganneal_jax.cyclical_cosine_schedule(
        0.05, 0.001, init_decay_steps=100, restart_interval=20, warmup_steps=5
    )
    np.testing.assert_array_equal(drawn, loganneal_jax.tabulate(ours, 80))


CYCLES = {
    "init_decay_steps": 30,
    "restart_interval": 20,
    "restart_multiplier": 1.5,
    "warmup_steps": 10,
}


@pytest.mark.parametrize(
    "make",
    [
        loganneal_jax.cyclical_cosine_schedule,
        loganneal_jax.cyclical_log_annealing_schedule,
        partial(loganneal_jax.cyclical_log_annealing_schedule, variant="normalised"),
    ],
    ids=["cosine", "log", "normalised log"],
)
def test_restarts_are_found_and_marked_where_they_are(make):
    values = np.asarray(loganneal_jax.tabulate(make(0.1, 0.001, **CYCLES), 204))
    # After 10 and 30 steps come cycles of 20, 30, 45 and 68; the last restart is the last step.
    np.testing.assert_array_equal(plot.restarts_of(values), [40, 60, 90, 135, 203])
    figure = plot.draw({"": values}, 10)
    marks = figure.axes[0].lines[1]
    np.testing.assert_allclose(marks.get_xdata(), [4, 6, 9, 13.5, 20.3])
    np.testing.assert_array_equal(marks.get_ydata(), values[[40, 60, 90, 135, 203]])


@pytest.mark.parametrize(
    "name", ["constant", "one_cycle", "sig+", "str+", "trap", "triangular", "triangular2"]
)
def test_what_does_not_restart_has_no_restarts(name):
    fields = config(warmup_epochs=1.0, half_cycle_epochs=2.5)
    assert plot.restarts_of(plot.values_of(fields, name, Run(10, 200))).size == 0


def test_a_run_of_a_single_step_can_be_drawn():
    values = plot.values_of(config(), "constant", plot.run_of(1.0, 1))
    figure = plot.draw({"constant": values}, 1)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), np.float32([0.1]))


def test_what_float32_cannot_hold_is_not_drawn():
    with pytest.raises(UserError, match=r"init_value=1e\+39 is out of range"):
        plot.values_of(config(init_value=1e39), "cosine", Run(1, 5))


def test_an_unknown_schedule_names_the_choices():
    with pytest.raises(UserError, match=r"unknown schedule 'x'; choose one of .*, trap, "):
        plot.values_of(config(), "x", Run(1, 1))
