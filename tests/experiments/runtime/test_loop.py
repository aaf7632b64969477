"""The loop of a run in this process: its summary, its stops, and its rollbacks."""

import contextlib
import dataclasses
import json
import math
import shutil
import signal
from pathlib import Path

import jax
import pytest
from etils import epath

from experiments import sealed
from experiments.errors import Stopped, UserError
from experiments.results import read
from experiments.runtime import loop, signals
from experiments.tasks.task import Floor
from tests.experiments.runtime.lives import result, saved_steps
from tests.experiments.runtime.small import small_experiment
from tests.experiments.runtime.test_guard import FIXED


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Returns the directory of a finished run of two epochs, and its summary."""
    workdir = epath.Path(tmp_path_factory.mktemp("finished"))
    summary, was_finished = loop.run(small_experiment(epochs=2.0), workdir)
    assert not was_finished
    return workdir, summary


def test_summary_describes_the_task_and_its_metrics(finished):
    workdir, summary = finished
    stored = sealed.loads((workdir / "summary.json").read_text())
    assert set(stored.pop("files")) == {"config.json", "inputs.safetensors", "metrics.jsonl"}
    assert stored == summary
    assert summary["diverged"] is False
    assert summary["task"] == "classification"
    assert summary["data"] == "digits"
    assert summary["model"] == "nn2 (width 0.02)"
    assert summary["metrics"] == {
        "accuracy": {"direction": "max", "percent": True, "chance": 0.1},
        "loss": {"direction": "min", "percent": False, "chance": math.log(10)},
    }
    assert summary["objective"] == "accuracy"
    assert (summary["epochs"], summary["steps"], summary["rollbacks"]) == (2.0, 10, [])
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses, accuracies = (
        [record[f"test_{name}"] for record in records] for name in ("loss", "accuracy")
    )
    assert (summary["test_loss"], summary["best_test_loss"]) == (losses[-1], min(losses))
    assert summary["test_accuracy"] == accuracies[-1]
    assert summary["best_test_accuracy"] == max(accuracies)


def test_summary_has_the_floors_of_the_task_computed_once(tmp_path):
    calls = []

    def floors():
        calls.append("floors")
        return {"loss": Floor(0.125, "entropy of the labels")}

    experiment = small_experiment()
    task = experiment.task._replace(floors=floors)
    summary, _ = loop.run(dataclasses.replace(experiment, task=task), epath.Path(tmp_path / "run"))
    assert summary["floors"] == {"loss": {"value": 0.125, "meaning": "entropy of the labels"}}
    assert calls == ["floors"]


def test_finished_run_returns_its_summary(finished):
    workdir, summary = finished
    before = {path: path.read_bytes() for path in workdir.glob("*.json*")}
    assert loop.run(small_experiment(epochs=2.0), workdir) == (summary, True)
    after = {path: path.read_bytes() for path in workdir.glob("*.json*")}
    assert after == before


def damage(workdir, name, finished):
    """Copies a finished run, changes the last digit in one of its files, and returns the file."""
    shutil.copytree(finished, workdir)
    file = workdir / name
    text = file.read_text()
    last = max(index for index, letter in enumerate(text) if letter.isdigit())
    file.write_text(f"{text[:last]}{'1' if text[last] == '2' else '2'}{text[last + 1 :]}")
    return file


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl"])
@pytest.mark.parametrize("how", ["digit", "empty"])
def test_damaged_file_of_a_finished_run_is_written_anew(tmp_path, finished, capsys, name, how):
    file = damage(tmp_path / "run", name, finished[0])
    if how == "empty":
        file.write_text("")
    summary, was_finished = loop.run(small_experiment(epochs=2.0), epath.Path(tmp_path / "run"))
    assert not was_finished
    assert summary == finished[1]
    assert result(tmp_path / "run") == result(finished[0])
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warning.startswith(f"warning: {file} is damaged (it")
    assert loop.run(small_experiment(epochs=2.0), epath.Path(tmp_path / "run")) == (summary, True)


def test_directory_in_place_of_the_summary_is_refused(tmp_path, finished):
    shutil.copytree(finished[0], tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "summary.json").mkdir()
    with pytest.raises(UserError, match=r"summary.json cannot be read \(Is a directory\); repair"):
        loop.run(small_experiment(epochs=2.0), epath.Path(tmp_path / "run"))


def test_checkpoint_of_another_config_is_refused(tmp_path, finished):
    shutil.copytree(finished[0], tmp_path / "run")
    for name in ("config.json", "summary.json"):
        (tmp_path / "run" / name).unlink()
    with pytest.raises(UserError, match=r"checkpoints/10 belongs to another config; to start from"):
        loop.run(small_experiment(epochs=2.0, seed=1), epath.Path(tmp_path / "run"))
    assert result_of_unfinished(tmp_path / "run") == result_of_unfinished(finished[0])


def result_of_unfinished(workdir):
    return saved_steps(workdir), (workdir / "metrics.jsonl").read_bytes()


def test_run_that_diverges_writes_null_and_warns(tmp_path, monkeypatch, capsys):
    scalars = loop._scalars

    def with_nan(metrics):
        found = scalars(metrics)
        return {**found, "test_loss": math.nan} if "test" in metrics else found

    monkeypatch.setattr(loop, "_scalars", with_nan)
    summary, _ = loop.run(small_experiment(), epath.Path(tmp_path))
    assert summary["diverged"] is True
    assert (summary["test_loss"], summary["best_test_loss"]) == (None, None)
    assert summary["test_accuracy"] > 0

    def refuse(constant):
        raise AssertionError(constant)

    for text in ((tmp_path / "metrics.jsonl").read_text(), (tmp_path / "summary.json").read_text()):
        assert json.loads(text, parse_constant=refuse)["test_loss"] is None
    assert "warning: the run finished, but diverged: test_loss at step 5 is not finite; " in (
        capsys.readouterr().err
    )
    rows = read.read([tmp_path]).rows
    assert rows.diverged.all()
    assert rows.test_loss.isna().all()


def test_batch_that_the_devices_cannot_share_is_refused(tmp_path):
    assert jax.device_count() == 8
    with pytest.raises(UserError, match="batch_size=100 cannot be divided among 8 devices; "):
        loop.run(small_experiment(batch_size=100), epath.Path(tmp_path))
    assert not any(tmp_path.iterdir())


def stop_after(monkeypatch, num_dispatches):
    """Sends a run a SIGTERM after a number of dispatches."""
    dispatches = []
    exchange = signals.StopRequest.exchange

    def count(self):
        dispatches.append(self)
        return exchange(self)

    @contextlib.contextmanager
    def caught():
        yield lambda: signal.SIGTERM if len(dispatches) >= num_dispatches else None

    monkeypatch.setattr(signals.StopRequest, "exchange", count)
    monkeypatch.setattr(signals, "caught", caught)


def test_stop_before_the_first_step_saves_nothing(tmp_path, monkeypatch):
    stop_after(monkeypatch, 0)
    with pytest.raises(Stopped, match=r"^stopped by SIGTERM before the first step; .* scratch$"):
        loop.run(small_experiment(), epath.Path(tmp_path))
    assert saved_steps(tmp_path) == []


def test_run_stopped_within_an_epoch_resumes_bit_for_bit(tmp_path, monkeypatch, finished):
    """The dispatches of an epoch end after 3 and 5 steps, so the third ends at step 8."""
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped) as stopped:
            loop.run(small_experiment(epochs=2.0), epath.Path(tmp_path))
    assert str(stopped.value) == (
        "stopped by SIGTERM at step 8, which is saved; the same command resumes from there"
    )
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert saved_steps(tmp_path) == [5, 8]
    # Fields that change nothing in training may change when a run resumes.
    others = {"log_every_steps": 2, "eval_batch_size": 90, "checkpoint.max_to_keep": 5}
    shutil.copytree(tmp_path, tmp_path / "other")
    summary, _ = loop.run(small_experiment(epochs=2.0, **others), epath.Path(tmp_path / "other"))
    assert summary["params_sha256"] == finished[1]["params_sha256"]
    stored = json.loads((tmp_path / "other" / "config.json").read_text())
    assert (stored["log_every_steps"], stored["eval_batch_size"]) == (2, 90)
    loop.run(small_experiment(epochs=2.0), epath.Path(tmp_path))
    assert result(tmp_path) == result(finished[0])


AVERAGED = {
    "epochs": 2.0,
    "schedule.init_decay_epochs": 1.0,
    "schedule.restart_interval_epochs": 1.0,
    "averaging.ema_decay": 0.9,
    "averaging.swa_start_epoch": 2,
    "averaging.cycle_snapshots": True,
}


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """Returns the directory of a finished run with every average, and its summary."""
    workdir = epath.Path(tmp_path_factory.mktemp("averaged"))
    summary, _ = loop.run(small_experiment(**AVERAGED), workdir)
    return workdir, summary


def test_averages_are_in_every_file(averaged):
    """The network has no batch norm, so that averages of a single state are that state."""
    workdir, summary = averaged
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    first, last = [json.loads(line) for line in lines]
    assert "test_swa_loss" not in first
    assert first["test_snapshot_loss"] == first["test_loss"]
    assert last["test_swa_loss"] == last["test_loss"]
    assert last["test_ema_loss"] not in (last["test_loss"], first["test_ema_loss"])
    assert summary["test_ema_accuracy"] == last["test_ema_accuracy"]
    assert summary["best_test_ema_loss"] == min(first["test_ema_loss"], last["test_ema_loss"])
    assert summary["test_swa_loss"] == summary["best_test_swa_loss"] == last["test_swa_loss"]
    (trial,) = read.read([Path(workdir)]).rows.groupby("seed")
    assert list(trial[1].test_swa_loss.isna()) == [True, False]


@pytest.mark.slow
def test_averages_survive_a_stop(tmp_path, monkeypatch, averaged):
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            loop.run(small_experiment(**AVERAGED), epath.Path(tmp_path))
    loop.run(small_experiment(**AVERAGED), epath.Path(tmp_path))
    assert result(tmp_path) == result(averaged[0])


# The restart after the first epoch, step 5, has a peak of a million. The loss of step 6 is that of
# the parameters before it, so step 7 is the first whose loss is too high.
SPIKE = {
    "epochs": 2.0,
    "schedule.init_decay_epochs": 1.0,
    "schedule.restart_interval_epochs": 1.0,
    "schedule.restart_value": 1e6,
    "guard.loss_threshold": 10.0,
    "guard.grace_epochs": 0.0,
}


def test_rollback_returns_to_the_checkpoint_and_lowers_the_peak(tmp_path, capsys):
    fields = {**SPIKE, "guard.max_rollbacks": 1, "guard.peak_factor": 1e-8}
    summary, _ = loop.run(small_experiment(**fields), epath.Path(tmp_path))
    (rollback,) = summary["rollbacks"]
    assert rollback["changed"] == pytest.approx({"schedule.restart_value": 0.01})
    assert (rollback["step"], rollback["from_step"]) == (7, 5)
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "resuming from checkpoint 5 with schedule.restart_value=0.01" in warnings[0]
    assert summary["test_loss"] < 3
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["schedule"]["restart_value"] == 1e6


def test_guard_that_cannot_act_is_refused_before_anything_is_written(tmp_path):
    experiment = small_experiment(**{**FIXED, "guard.max_rollbacks": 1})
    with pytest.raises(UserError, match=r"^guard.peak_factor=0.5 has no effect, because"):
        loop.run(experiment, epath.Path(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
