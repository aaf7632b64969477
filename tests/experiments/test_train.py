"""The train command as a user runs it: real processes, signals, and files."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time

import pytest

from tests import commands
from tests.commands import ROOT, TIMEOUT_SECONDS
from tests.experiments.models import two_convolutions

NARROW = [
    "--config=configs/quickstart.py",
    "--config.epochs=5.5",
    "--config.batch_size=256",
    "--config.log_every_steps=2",
    "--config.data.image_size=8",
    f"--config.model.name={two_convolutions.NAME}",
    "--config.model.width_multiplier=0.25",
    "--config.schedule.peak_value=0.02",
]
ATTENTION = (
    "--config.model.attention.width=4",
    "--config.model.attention.num_heads=2",
    "--config.model.attention.mlp_width=4",
)
# Compiles faster, for tests that do not depend on the model.
FULLY_CONNECTED = ("--config.model.name=nn2", "--config.model.attention.name=none")


def options(workdir, *flags):
    network = () if FULLY_CONNECTED[0] in flags else ATTENTION
    return [*NARROW, *network, f"--workdir={workdir}", *flags]


def train(workdir, *flags):
    return commands.run("experiments.train", *options(workdir, *flags))


def read(workdir):
    """Returns the summary and the metrics of a run, without times."""
    summary = json.loads((workdir / "summary.json").read_text())
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for name in ("seconds", "examples_per_second", "command", "sha256"):
        del summary[name]
    return summary, metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Returns the directory of a run, and its process, which the interpreter started."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    process = subprocess.run(
        [sys.executable, "-m", "experiments.train", *options(workdir)],
        cwd=ROOT,
        env={**os.environ, **commands.VARIABLES},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return workdir, process


def test_finished_run_writes_its_files(finished):
    workdir, process = finished
    assert process.returncode == 0, process.stderr
    last_line = process.stdout.splitlines()[-1]
    assert last_line.startswith("test accuracy ")
    assert str(workdir) in last_line
    summary, metrics = read(workdir)
    # 1,437 images in batches of 256 make 5 steps per epoch, and the last epoch is half an epoch.
    assert [record["step"] for record in metrics] == [*range(5, 26, 5), 28]
    assert [record["epoch"] for record in metrics] == [*range(1, 6), 5.6]
    assert {*metrics[0]} == {
        "step",
        "epoch",
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "test_loss",
        "test_accuracy",
    }
    assert metrics[-1]["train_loss"] < metrics[0]["train_loss"]
    assert summary["steps"] == 28
    assert summary["test_accuracy"] == metrics[-1]["test_accuracy"]
    assert summary["best_test_loss"] == min(record["test_loss"] for record in metrics)
    assert len(summary["params_sha256"]) == 64
    assert summary["platform"] == "cpu"
    assert {"jax", "flax", "optax", "python"} <= set(summary["versions"])
    stored = json.loads((workdir / "summary.json").read_text())
    assert stored["command"].startswith("python -m experiments.train --config=configs/quickstart.p")
    assert summary["environment_changes"] == []
    assert json.loads((workdir / "config.json").read_text())["epochs"] == 5.5
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["25", "28"]
    assert list(workdir.glob("events.out.tfevents.*"))


def test_log_has_one_line_per_epoch(finished):
    _, process = finished
    assert len([line for line in process.stderr.splitlines() if "test_accuracy=" in line]) == 6
    assert len(process.stderr.splitlines()) < 12


def test_finished_run_is_left_alone(finished):
    workdir, _ = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    process = train(workdir)
    assert process.returncode == 0
    assert "was finished before" in process.stdout
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_workdir_of_another_config_is_refused(finished):
    workdir, _ = finished
    process = train(workdir, "--config.seed=1")
    assert process.returncode == 2
    assert "belongs to a run with another config (seed=0, not 1)" in process.stderr


@pytest.mark.parametrize("killed_by", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_interrupted_run_resumes_bit_for_bit(finished, tmp_path, killed_by):
    """The signal arrives when the first checkpoint has been saved."""
    workdir, err = tmp_path / "run", tmp_path / "err"
    process = commands.start("experiments.train", *options(workdir), out=os.devnull, err=err)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not list(workdir.glob("checkpoints/[0-9]*")):
        assert process.is_alive(), err.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, killed_by)
    process.join(TIMEOUT_SECONDS)
    if killed_by == signal.SIGINT:
        assert process.exitcode == 130
        # Another epoch may be reported between the two sentences.
        *before, last = err.read_text().splitlines()
        assert "stopping after the current steps; send the signal again to stop at once" in before
        assert re.fullmatch(
            r"stopped by SIGINT at step \d+, which is saved; the same command resumes from there",
            last,
        )
    assert not (workdir / "summary.json").exists()
    resumed = train(workdir)
    assert resumed.returncode == 0, resumed.stderr
    assert read(workdir) == read(finished[0])


def test_diverging_run_stops_before_it_saves_a_broken_state(tmp_path):
    process = train(tmp_path / "run", *FULLY_CONNECTED, "--config.schedule.peak_value=1e6")
    assert process.returncode == 2
    message = process.stderr.splitlines()[-1]
    assert "training diverged: the loss is" in message
    assert "learning rate is" in message
    assert "the same command would resume from scratch and end the same way" in message
    assert not list((tmp_path / "run").glob("checkpoints/[0-9]*"))


def test_default_workdir_has_the_name_of_the_config(tmp_path):
    """A file stands in the way of `runs`, so that the error names the workdir."""
    (tmp_path / "runs").write_text("in the way")
    config = f"--config={ROOT}/configs/quickstart.py"
    process = commands.run("experiments.train", config, cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert process.returncode == 2
    assert "workdir runs/quickstart cannot be used" in process.stderr


def test_progress_bar_shows_the_time_left_on_a_terminal(tmp_path):
    """Standard error is a pseudo-terminal."""
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (24, 120))
    process = commands.start(
        "experiments.train",
        *options(tmp_path / "run", *FULLY_CONNECTED),
        out=os.devnull,
        err=os.ttyname(follower),
    )
    shown = os.read(leader, 4096)
    # Reading from a pseudo-terminal raises once every process has closed its other end.
    os.close(follower)
    with contextlib.suppress(OSError):
        while chunk := os.read(leader, 4096):
            shown += chunk
    process.join(TIMEOUT_SECONDS)
    assert process.exitcode == 0
    os.close(leader)
    text = shown.decode()
    assert "28/28" in text
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d", text), "the bar shows elapsed and remaining time"
    assert text.count("test_accuracy=") == 6
