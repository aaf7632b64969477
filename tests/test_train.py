"""The command itself, as a user runs it: real processes, real signals, real files."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TIMEOUT_SECONDS = 240
NARROW = [
    "--config=configs/quickstart.py",
    "--config.epochs=20.5",
    "--config.batch_size=256",
    "--config.log_every_steps=2",
    "--config.data.image_size=8",
    "--config.model.width_multiplier=0.03125",
    "--config.model.attention.width=4",
    "--config.model.attention.num_heads=2",
    "--config.model.attention.mlp_width=4",
    "--config.schedule.init_value=0.02",
]


def command(workdir, *flags):
    return [sys.executable, "-m", "experiments.train", *NARROW, f"--workdir={workdir}", *flags]


def train(workdir, *flags, cwd=ROOT):
    return subprocess.run(
        command(workdir, *flags),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def read(workdir):
    """Summary and metrics of a run, without what the clock measured."""
    summary = json.loads((workdir / "summary.json").read_text())
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert summary.pop("seconds") > 0
    assert summary.pop("images_per_second") > 0
    return summary, metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("finished") / "run"
    return workdir, train(workdir)


def test_a_run_leaves_what_it_promises(finished):
    workdir, process = finished
    assert process.returncode == 0, process.stderr
    last_line = process.stdout.splitlines()[-1]
    assert last_line.startswith("test accuracy ")
    assert str(workdir) in last_line
    summary, metrics = read(workdir)
    # 1,437 images in batches of 256 are 5 steps an epoch; the last epoch is half a one.
    assert [record["step"] for record in metrics] == [*range(5, 101, 5), 102]
    assert [record["epoch"] for record in metrics] == [*range(1, 21), 20.4]
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
    assert summary["steps"] == 102
    assert summary["test_accuracy"] == metrics[-1]["test_accuracy"]
    assert summary["best_test_loss"] == min(record["test_loss"] for record in metrics)
    assert len(summary["params_sha256"]) == 64
    assert summary["platform"] == "cpu"
    assert {"jax", "flax", "optax", "python"} <= set(summary["versions"])
    assert json.loads((workdir / "config.json").read_text())["epochs"] == 20.5
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["100", "102"]
    assert list(workdir.glob("events.out.tfevents.*"))


def test_the_log_is_one_plain_line_an_epoch(finished):
    _, process = finished
    assert len([line for line in process.stderr.splitlines() if "test_accuracy=" in line]) == 21
    assert len(process.stderr.splitlines()) < 27


def test_a_finished_run_says_so_and_is_left_alone(finished):
    workdir, _ = finished
    before = (workdir / "metrics.jsonl").read_bytes()
    process = train(workdir)
    assert process.returncode == 0
    assert "was finished before" in process.stdout
    assert (workdir / "metrics.jsonl").read_bytes() == before


def test_another_configs_workdir_is_refused(finished):
    workdir, _ = finished
    process = train(workdir, "--config.seed=1")
    assert process.returncode == 2
    assert "holds another config's run (seed=0, not 1)" in process.stderr


@pytest.mark.parametrize("killed_by", [signal.SIGKILL, signal.SIGINT], ids=lambda s: s.name)
def test_a_run_broken_off_goes_on_to_the_same_end(finished, tmp_path, killed_by):
    """Broken off once its first checkpoint is there, the run ends with the same bits."""
    workdir = tmp_path / "run"
    with subprocess.Popen(
        command(workdir), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not list(workdir.glob("checkpoints/[0-9]*")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(killed_by)
        _, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    if killed_by == signal.SIGINT:
        assert process.returncode == 130
        # The line of an epoch that was being evaluated may stand between the two.
        *before, last = stderr.splitlines()
        assert "stopping after the steps under way; the same signal again stops at once" in before
        assert re.fullmatch(
            r"stopped by SIGINT at step \d+, which is saved; the same command goes on from there",
            last,
        )
    assert not (workdir / "summary.json").exists()
    resumed = train(workdir)
    assert resumed.returncode == 0, resumed.stderr
    assert read(workdir) == read(finished[0])


def test_a_diverging_run_stops_before_it_saves_a_broken_state(tmp_path):
    process = train(tmp_path / "run", "--config.schedule.init_value=1e6")
    assert process.returncode == 2
    message = process.stderr.splitlines()[-1]
    assert "training diverged: the loss is" in message
    assert "learning rate is" in message
    assert "the same command would go on from the start and come to the same" in message
    assert not list((tmp_path / "run").glob("checkpoints/[0-9]*"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.epoch=3"], "unknown config field --config.epoch: config has batch_size, "),
        (["--config.model.attention.head=3"], "config.model.attention has mlp_width, name, num_h"),
        (["--config.seed.x=3"], "config.seed is a value, not a section"),
        (["--config.epochs=many"], "--config.epochs=many: could not convert"),
        (["--config.epochs=-1"], "epochs=-1.0 is out of range"),
        (["--config.schedule.name=cosin"], "choose one of"),
        (["--config=configs/quickstrt.py"], "--config=configs/quickstrt.py cannot be read"),
        (["--config=BROKEN"], "line 2: invalid syntax"),
        (["--config=RAISES"], "line 2: ZeroDivisionError"),
        (["--config=EMPTY"], "has no function get_config"),
        (["--wrkdir=x"], "Unknown command line flag 'wrkdir'"),
        (["x"], "unexpected argument 'x'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path, flags, message):
    broken = {
        "BROKEN": "x = 1\ndef get_config(:\n",
        "RAISES": "def get_config():\n    return 1 / 0\n",
        "EMPTY": "x = 1\n",
    }
    for name, text in broken.items():
        (tmp_path / name).write_text(text)
        flags = [flag.replace(name, str(tmp_path / name)) for flag in flags]
    workdir = tmp_path / "run"
    process = train(workdir, *flags)
    assert process.returncode == 2
    assert len(process.stderr.splitlines()) == 1, process.stderr
    assert process.stderr.startswith("error: ")
    assert message in process.stderr
    assert not workdir.exists()


def test_without_a_workdir_a_run_is_kept_under_its_configs_name(tmp_path):
    """Where `runs` cannot be made, the error tells where it would have been."""
    (tmp_path / "runs").write_text("in the way")
    process = subprocess.run(
        [sys.executable, "-m", "experiments.train", f"--config={ROOT}/configs/quickstart.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert process.returncode == 2
    assert "workdir runs/quickstart cannot be used" in process.stderr


def test_on_a_terminal_a_bar_shows_the_time_left(tmp_path):
    """A pseudo-terminal for standard error, which is where a user sees progress."""
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (24, 120))
    with subprocess.Popen(
        command(tmp_path / "run"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=follower
    ) as process:
        os.close(follower)
        shown = b""
        # Reading from a pseudo-terminal whose other end was closed raises.
        with contextlib.suppress(OSError):
            while chunk := os.read(leader, 4096):
                shown += chunk
        assert process.wait(TIMEOUT_SECONDS) == 0
    os.close(leader)
    text = shown.decode()
    assert "102/102" in text
    assert re.search(r"\[\d\d:\d\d<\d\d:\d\d", text), "elapsed and remaining time"
    assert text.count("test_accuracy=") == 21
