"""The sweep command, with real processes, signals, and files."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from tests import commands
from tests.commands import ROOT, TIMEOUT_SECONDS

# Each block has two trials, one on each device.
DEVICES = {"XLA_FLAGS": f"{commands.FAST} --xla_force_host_platform_device_count=2"}
CONFIG = """
from configs.sweeps import digits

def get_config():
    config = digits.get_config()
    config.base.epochs = 3.0
    config.base.batch_size = 256
    config.base.log_every_steps = 2
    config.base.model.width_multiplier = 0.02
    config.settings = (
        {"name": "0.1", "schedule.name": "constant"},
        {"name": "hot", "schedule.name": "constant", "optimizer.weight_decay": 1e9},
        {"name": "other program", "schedule.name": "cosine", "optimizer.nesterov": True},
    )
    config.seeds = (0, 1, 2)
    config.grid = ({"field": "schedule.peak_value", "values": (0.1, 0.2)},)
    config.tune.seeds = (100,)
    config.block_size = 2
    return config
"""


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("config") / "narrow.py"
    file.write_text(CONFIG)
    return file


def sweep(config_file, workdir, *options):
    flags = (f"--config={config_file}", f"--workdir={workdir}", *options)
    return commands.run("experiments.sweep", *flags, **DEVICES)


def table(workdir):
    with (workdir / "trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(config_file, tmp_path_factory):
    """Returns the directory of a sweep, and its process, which the interpreter started."""
    workdir = tmp_path_factory.mktemp("finished") / "sweep"
    flags = (f"--config={config_file}", f"--workdir={workdir}")
    process = subprocess.run(
        [sys.executable, "-m", "experiments.sweep", *flags],
        cwd=ROOT,
        env={**os.environ, **DEVICES},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return workdir, process


def test_every_trial_has_one_row_per_epoch(finished):
    workdir, process = finished
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("15 trials (5 diverged) in ")
    rows = table(workdir)
    trials = {(r["phase"], r["setting"], r["schedule.peak_value"], r["seed"]) for r in rows}
    assert len(trials) == 3 * 2 * 1 + 3 * 3
    assert len(rows) == 3 * len(trials)
    for row in rows:
        assert (row["data"], row["model"]) == ("digits", "nn2 (width 0.02)")
    # Tuning trains on 1,237 images and the final phase on 1,437: 4 and 5 steps per epoch.
    assert [r["step"] for r in rows[:3]] == ["4", "8", "12"]
    assert [(r["step"], r["epoch"]) for r in rows[-3:]] == [
        ("5", "1.0"),
        ("10", "2.0"),
        ("15", "3.0"),
    ]
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["trials"] == len(trials)
    assert set(summary["chosen"]) == {"0.1", "hot", "other program"}
    assert "experiments.sweep" in summary["command"]
    assert (summary["task"], summary["objective"]) == ("classification", "accuracy")
    assert summary["chance"] == {"digits": {"accuracy": 0.1, "loss": math.log(10)}}
    assert set(summary["settings"]) == {"0.1", "hot", "other program"}
    assert summary["settings"]["hot"]["optimizer.weight_decay"] == 1e9
    assert summary["metrics"] == {
        "loss": {"direction": "min", "percent": False, "chance": math.log(10)},
        "accuracy": {"direction": "max", "percent": True, "chance": 0.1},
    }


def test_diverged_trial_is_marked_and_does_not_stop_the_others(finished):
    rows = table(finished[0])
    for row in rows:
        assert (row["diverged"] == "True") == (row["setting"] == "hot")
        assert (row["test_loss"] == "") == (row["setting"] == "hot")
    accuracy = {r["setting"]: r["test_accuracy"] for r in rows if r["epoch"] == "3.0"}
    assert float(accuracy["0.1"]) > 0.3
    assert float(accuracy["other program"]) > 0.3


def test_final_phase_trains_each_setting_at_its_best_point(finished):
    rows = table(finished[0])
    chosen = json.loads((finished[0] / "summary.json").read_text())["chosen"]
    for setting in ("0.1", "other program"):
        last = {
            r["schedule.peak_value"]: float(r["test_accuracy"])
            for r in rows
            if (r["phase"], r["setting"], r["epoch"]) == ("tune", setting, "3.0")
        }
        best = max(last, key=last.get)
        assert chosen[setting] == {"schedule.peak_value": float(best)}
        final = {r["schedule.peak_value"] for r in rows if r["setting"] == setting}
        assert best in final
        assert {
            r["schedule.peak_value"]
            for r in rows
            if (r["phase"], r["setting"]) == ("final", setting)
        } == {best}


def test_trial_equals_the_single_run_of_its_config(finished, config_file, tmp_path):
    """`experiments.train` gives the same accuracies, and losses within 1e-5."""
    rows = [r for r in table(finished[0]) if (r["phase"], r["setting"]) == ("final", "0.1")]
    one = [r for r in rows if r["seed"] == "1"]
    single = tmp_path / "single.py"
    single.write_text(
        f"import runpy\nget_config = lambda: runpy.run_path({str(config_file)!r})"
        "['get_config']().base"
    )
    options = ("--config.schedule.name=constant", "--config.seed=1")
    value = f"--config.schedule.peak_value={one[0]['schedule.peak_value']}"
    flags = (f"--config={single}", f"--workdir={tmp_path / 'run'}", value, *options)
    process = commands.run("experiments.train", *flags)
    assert process.returncode == 0, process.stderr
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(one)
    for line, row in zip(map(json.loads, lines), one, strict=True):
        for name in ("train_accuracy", "test_accuracy"):
            assert float(row[name]) == pytest.approx(line[name], rel=1e-6)
        for name in ("train_loss", "test_loss", "learning_rate"):
            assert float(row[name]) == pytest.approx(line[name], rel=1e-5)


def test_finished_sweep_does_not_run_again(finished, config_file):
    workdir, _ = finished
    before = (workdir / "trials.csv").read_bytes()
    process = sweep(config_file, workdir)
    assert process.returncode == 0
    assert "was finished before, in" in process.stdout
    assert (workdir / "trials.csv").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_sweep_resumes_to_the_same_table(finished, config_file, tmp_path, with_signal):
    workdir = tmp_path / "sweep"
    flags = (f"--config={config_file}", f"--workdir={workdir}")
    process = commands.start("experiments.sweep", *flags, out=os.devnull, err=os.devnull, **DEVICES)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (workdir / "blocks" / "tune-0" / "0.json").exists():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, with_signal)
    process.join(TIMEOUT_SECONDS)
    assert process.exitcode in (130, -signal.SIGKILL)
    assert not (workdir / "trials.csv").exists()
    assert sweep(config_file, workdir).returncode == 0
    assert (workdir / "trials.csv").read_bytes() == (finished[0] / "trials.csv").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--config.base.model.name=nn4",), "model.name='nn4' is unknown; choose from nn2"),
        (("--config.seeds=(1,1)",), "seeds have 1 twice"),
        (("--config.nothing=1",), "unknown config field --config.nothing"),
    ],
)
def test_refused_sweep_leaves_no_files(config_file, tmp_path, options, message):
    process = sweep(config_file, tmp_path / "sweep", *options)
    assert process.returncode == 2
    assert message in process.stderr
    assert len(process.stderr.splitlines()) == 1
    assert not (tmp_path / "sweep").exists()
