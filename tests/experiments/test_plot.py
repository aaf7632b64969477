"""The command draws schedules, and reports mistakes in one sentence."""

import re
import shlex
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from configs.sweeps import digits
from loganneal_jax import named
from tests import commands
from tests.commands import ROOT

# The documented commands that draw the papers' figures.
COMMANDS = re.findall(
    r"^    (python -m experiments\.plot .+)$",
    (ROOT / "docs" / "schedules.md").read_text().replace(" \\\n       ", ""),
    re.MULTILINE,
)
FIGURE, *OTHERS = [shlex.split(line)[3:] for line in COMMANDS]


def command(*arguments):
    return commands.run("experiments.plot", *arguments)


def test_documented_command_draws_the_figure_of_the_paper(tmp_path):
    assert FIGURE[-1] == "--out=docs/schedules/naveen2024_figure1.png"
    out = tmp_path / "figure.png"
    finished = subprocess.run(
        [sys.executable, "-m", "experiments.plot", *FIGURE[:-1], f"--out={out}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = (finished.returncode, finished.stdout, finished.stderr)
    assert found == (0, f"wrote {out}\n", "")
    drawn = matplotlib.image.imread(out)
    committed = matplotlib.image.imread(ROOT / "docs" / "schedules" / "naveen2024_figure1.png")
    assert drawn.shape == committed.shape
    # Versions of matplotlib render fonts slightly differently.
    assert np.abs(drawn - committed).mean() < 0.01
    assert drawn.std() > 0.05


@pytest.mark.parametrize("arguments", OTHERS)
def test_other_documented_command_draws(tmp_path, arguments):
    out = tmp_path / "figure.svg"
    finished = command(*arguments, f"--out={out}")
    found = (finished.returncode, finished.stdout, finished.stderr)
    assert found == (0, f"wrote {out}\n", "")
    assert "<svg" in out.read_text()


@pytest.mark.parametrize(
    "overrides", [[], ["--config=configs/base.py"], ["--config", "configs/base.py"]]
)
def test_config_defaults_to_the_base_config(tmp_path, overrides):
    out = tmp_path / "schedule.svg"
    finished = command(
        *overrides,
        "--schedule=constant",
        "--config.schedule.peak_value=0.5",
        "--config.epochs=2",
        f"--out={out}",
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    # The ticks of a constant 0.5 end at 0.5, and those of the default 0.1 at 0.1.
    text = out.read_text()
    assert "<!-- 0.5 -->" in text
    assert "<!-- 0.10 -->" not in text


def test_config_and_its_overrides_are_drawn(tmp_path):
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


def titles(svg):
    """The lines of text in a figure, as matplotlib's comments in an SVG show them."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text())


def test_settings_of_a_sweep_are_drawn(tmp_path):
    out = tmp_path / "sweep.svg"
    finished = command("--config=configs/sweeps/digits.py", f"--out={out}")
    assert (finished.returncode, finished.stderr) == (0, "")
    names = {setting["name"] for setting in digits.get_config().settings}
    assert names <= set(titles(out))


def test_schedule_has_the_warmup_or_the_restarts_that_its_name_promises(tmp_path):
    out = tmp_path / "three.svg"
    finished = command("--schedule=trap,sig+,cyclical_log_annealing", f"--out={out}")
    assert (finished.returncode, finished.stderr) == (0, "")
    shown = titles(out)
    assert shown.count("warmup_epochs=1") == 2
    assert shown.count("warmup_init_value=0.01") == 2
    assert shown.count("restart_interval_epochs=2") == 1
    set_by_hand = command(
        "--schedule=trap", "--config.schedule.warmup_epochs=0", f"--out={tmp_path / 'own.svg'}"
    )
    assert set_by_hand.returncode == 0, set_by_hand.stderr
    assert not [text for text in titles(tmp_path / "own.svg") if "warmup" in text]


def test_default_picture_is_in_the_ignored_directory_of_runs(tmp_path):
    finished = commands.run(
        "experiments.plot", "--schedule=constant", cwd=tmp_path, PYTHONPATH=str(ROOT)
    )
    assert finished.stdout == "wrote runs/schedule.png\n", finished.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert "/runs/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--schedule=cosine,str", "--config.schedule.slope=3"],
            "schedule.slope=3.0 has no effect on cosine, str; remove it",
        ),
        (
            ["--config.schedule.slope=3"],
            "schedule.slope=3.0 has no effect on cyclical_log_annealing; remove it",
        ),
        (
            ["--config=configs/sweeps/digits.py", "--schedule=cosine"],
            "--schedule cannot be combined with the config of a sweep",
        ),
        (
            ["--schedule=cosin"],
            f"schedule.name='cosin' is unknown; choose from {', '.join(named.SCHEDULES)}, ",
        ),
        (["--epochs=0"], "epochs=0.0 is out of range; it must be above 0"),
        (["--epochs=nan"], "epochs=nan is out of range; it must be above 0"),
        (["--steps_per_epoch=0"], "--steps_per_epoch=0 is out of range; it must be above 0"),
        (["--epochs=1e9"], "epochs=1000000000.0 with 391 steps each makes 391000000000 steps; "),
        (["--scale=cubic"], "--scale=cubic is unknown; choose from linear, log"),
        (["--out=figure.gif"], "--out=figure.gif has an unknown ending; choose from .png, .svg"),
        (["--out=nowhere/figure.png"], "--out=nowhere/figure.png cannot be written: No such file"),
        (["--config.schedule.warmup=1"], "unknown config field --config.schedule.warmup: "),
        (
            ["--schedule=constant", "--config.schedule.peak_value=0", "--scale=log"],
            "--scale=log needs learning rates above 0",
        ),
        (["--config.schedule.end_value=1"], "schedule cyclical_log_annealing: end_value must not"),
    ],
)
def test_mistake_is_one_sentence(arguments, message):
    finished = command("--epochs=1", *arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.startswith(f"error: {message}")
    assert finished.stderr.count("\n") == 1
