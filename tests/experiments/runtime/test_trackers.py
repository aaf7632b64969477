"""Trackers: a resumed run continues the same record, and a failure ends the run."""

import csv
import json
import math
import os
import shutil
import struct

import numpy as np
import pytest
from etils import epath

from experiments.errors import UserError
from experiments.runtime import trackers
from experiments.runtime.telemetry import Telemetry
from tests import commands

CONFIG = {"epochs": 4.0, "schedule": {"name": "cosine", "peak_value": 0.1}}
BLOCK = 2**15
FLAGS = [
    "--config=configs/quickstart.py",
    "--config.batch_size=256",
    "--config.data.image_size=8",
    "--config.model.name=nn2",
    "--config.model.width_multiplier=0.02",
    "--config.model.attention.name=none",
]


def report(workdir, name, steps, *, start=0, error=None):
    """Reports some steps of a run, as its loop does."""
    config = CONFIG

    def start_tracker(step):
        return trackers.start(name, workdir, config, step)

    with Telemetry(
        workdir, num_steps=40, step=start, history=[], start_tracker=start_tracker
    ) as telemetry:
        for step in steps:
            telemetry.interval(step, {"interval_loss": 1 / step})
            telemetry.epoch({"step": step, "epoch": step / 10, "test_loss": 2 / step})
        if error:
            raise error


def rows_of(workdir):
    with (workdir / trackers.CSV).open() as file:
        return list(csv.DictReader(file))


def test_csv_has_every_step_once_after_a_kill(tmp_path):
    workdir = epath.Path(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        report(workdir, "csv", [10, 20, 30], error=KeyboardInterrupt())
    report(workdir, "csv", [30, 40], start=20)
    rows = rows_of(tmp_path)
    assert [row["step"] for row in rows] == ["10", "20", "30", "40"]
    assert [float(row["eval/loss"]) for row in rows] == [0.2, 0.1, 2 / 30, 0.05]
    assert list(rows[0]) == ["step", "eval/loss", "interval/loss"]
    # A new run in the directory begins a new file.
    report(workdir, "csv", [10])
    assert [row["step"] for row in rows_of(tmp_path)] == ["10"]


def test_csv_keeps_missing_and_infinite_values(tmp_path):
    tracker = trackers.CsvTracker(epath.Path(tmp_path), 0)
    tracker.write_scalars(1, {"a": math.inf})
    tracker.write_scalars(2, {"b": 0.1})
    tracker.close()
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n1,inf,\n2,,0.1\n"
    again = trackers.CsvTracker(epath.Path(tmp_path), 2)
    again.close()
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n1,inf,\n2,,0.1\n"


class Broken:
    def __init__(self, workdir, step):
        self.flushed = 0

    def write_hparams(self, hparams):
        assert hparams["schedule.name"] == "cosine"

    def write_scalars(self, step, scalars):
        if step == 20:
            raise RuntimeError("no\nconnection")

    def flush(self):
        pass

    def close(self, *, finished=True):
        raise OSError("closed")


def test_failing_tracker_ends_the_run_with_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(trackers.TRACKERS, "csv", trackers.Kind(Broken))
    message = r"^the tracker of .* failed \(RuntimeError: no connection\); the same command resumes"
    with pytest.raises(UserError, match=message):
        report(epath.Path(tmp_path), "csv", [10, 20])
    with pytest.raises(UserError, match=r"failed \(OSError: closed\)"):
        report(epath.Path(tmp_path), "csv", [10])


def test_unknown_tracker_and_missing_package_are_refused(monkeypatch):
    with pytest.raises(UserError) as caught:
        trackers.check("tensorbord")
    assert str(caught.value) == (
        "--tracker=tensorbord is not a tracker; choose from csv, mlflow, wandb"
    )
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        trackers.check("wandb")
    assert str(caught.value) == (
        "--tracker=wandb needs the package wandb, which is not installed; install it with: "
        "pip install 'loganneal-jax[wandb]'"
    )
    trackers.check("csv")
    trackers.check(None)


def train(workdir, *flags, **variables):
    found = commands.run("experiments.train", *FLAGS, f"--workdir={workdir}", *flags, **variables)
    assert found.returncode == 0, found.stderr
    return (workdir / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def untracked(tmp_path_factory):
    return train(tmp_path_factory.mktemp("untracked") / "run", "--config.epochs=2")


@pytest.mark.slow
def test_csv_changes_no_bit_of_training(untracked, tmp_path):
    assert train(tmp_path / "run", "--config.epochs=2", "--tracker=csv") == untracked
    rows = rows_of(tmp_path / "run")
    assert [float(row["eval/loss"]) for row in rows if row["eval/loss"]] == [
        json.loads(line)["test_loss"] for line in untracked.splitlines()
    ]


@pytest.mark.slow
def test_mlflow_continues_its_run_and_changes_no_bit(untracked, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    store = tmp_path / "store"
    variables = {"MLFLOW_TRACKING_URI": str(store), "MLFLOW_ALLOW_FILE_STORE": "true"}
    run = tmp_path / "run"
    assert train(run, "--config.epochs=2", "--tracker=mlflow", **variables) == untracked
    client = tracked_by_mlflow(mlflow, variables)
    workdir = epath.Path(run)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        with pytest.raises(KeyboardInterrupt):
            report(workdir, "mlflow", [20], start=10, error=KeyboardInterrupt())
        (found,) = client.search_runs([client.get_experiment_by_name("loganneal").experiment_id])
        assert found.info.status == "KILLED"
        report(workdir, "mlflow", [30], start=20)
        tracker = trackers.start("mlflow", workdir, CONFIG, 30)
        tracker.write_images(30, {"samples": np.zeros((2, 2, 3), np.uint8)})
        tracker.close()
    (found,) = client.search_runs([client.get_experiment_by_name("loganneal").experiment_id])
    assert found.info.run_id == json.loads((run / trackers.IDS).read_text())["mlflow"]
    assert (found.info.status, found.data.params["model.name"]) == ("FINISHED", "nn2")
    history = client.get_metric_history(found.info.run_id, "eval/loss")
    expected = [
        (json.loads(line)["step"], json.loads(line)["test_loss"]) for line in untracked.splitlines()
    ]
    assert [(each.step, each.value) for each in history] == [*expected, (20, 0.1), (30, 2 / 30)]


def tracked_by_mlflow(mlflow, variables):
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return mlflow.MlflowClient(tracking_uri=variables["MLFLOW_TRACKING_URI"])


@pytest.mark.slow
def test_wandb_continues_its_run_and_changes_no_bit(untracked, tmp_path):
    pytest.importorskip("wandb")
    run = tmp_path / "run"
    variables = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    # A run that was stopped after an epoch, with the same config.
    flags = ("--config.epochs=2", "--tracker=wandb")
    assert train(run, *flags, **variables) == untracked
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    number = json.loads((run / trackers.IDS).read_text())["wandb"]
    assert file.name == f"run-{number}.wandb"
    records = records_of(file)
    losses = [json.loads(line)["test_loss"] for line in untracked.splitlines()]
    assert [float(of["eval/loss"]) for of in records if "eval/loss" in of] == losses
    assert all("step" in of for of in records)
    # The same command finds the newest checkpoint, and writes to the same run.
    (run / "summary.json").unlink()
    newest = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(newest)
    assert train(run, *flags, **variables) == untracked
    files = sorted(run.glob("wandb/offline-run-*/*.wandb"), key=os.path.getmtime)
    assert [each.name for each in files] == 2 * [file.name]
    assert [float(of["eval/loss"]) for of in records_of(files[1]) if "eval/loss" in of] == losses[
        1:
    ]


def records_of(file):
    """Returns what was logged, from the file of an offline run, a log in the format of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, record, found = file.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            items = Record.FromString(record).history.item
            found.append({item.key or item.nested_key[0]: item.value_json for item in items})
            record = b""
    return [logged for logged in found if logged]
