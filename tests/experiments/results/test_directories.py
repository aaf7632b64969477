"""The list of runs and sweeps says how each ended, or that a process works on it."""

import json

import pytest

from experiments.errors import UserError
from experiments.results import directories
from tests.experiments.results.fake_results import REGRESSION, trial, write_run, write_sweep


def described(directory, running=()):
    found = directories.listed(directory, lambda path: path.name in running)
    return {entry.directory.removeprefix(f"{directory}/"): entry[1:] for entry in found}


def test_states_and_results_of_runs_and_sweeps(tmp_path):
    write_run(tmp_path / "b", [0.5, 0.75], schedule="cosine", test_accuracy=0.75)
    write_run(tmp_path / "old" / "a", [0.5], optimizer="adam", task=REGRESSION, test_loss=0.25)
    write_run(tmp_path / "lost", [None], test_accuracy=None, diverged=True)
    write_sweep(tmp_path / "sweep", [trial([0.5], setting=name) for name in "xy"], diverged=1)
    for name in ("running", "stopped"):
        (tmp_path / name).mkdir()
        config = {"epochs": 20.0, "schedule": {"name": "sig"}, "optimizer": {"name": "sgd"}}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / "metrics.jsonl").write_text("{}\n{}\n")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text(json.dumps({"settings": [{}, {}, {}]}))
    blocks = tmp_path / "half" / "blocks" / "tune-0"
    blocks.mkdir(parents=True)
    for name in ("0.json", "2.json", "size.json"):
        (blocks / name).touch()
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.md").touch()
    assert described(tmp_path, running=["running"]) == {
        "b": ("run", "cosine", "accuracy 75.00% on mnist", "finished"),
        "half": ("sweep", "3 settings", "2 blocks done", "stopped"),
        "lost": ("run", "sig+", "accuracy not finite on mnist", "failed"),
        "old/a": ("run", "sig+ (adam)", "loss 0.25 on mnist", "finished"),
        "running": ("run", "sig", "2 of 20 epochs", "running"),
        "stopped": ("run", "sig", "2 of 20 epochs", "stopped"),
        "sweep": ("sweep", "2 settings", "2 trials (1 diverged)", "finished"),
    }


def test_damaged_directory_does_not_hide_the_others(tmp_path):
    write_run(tmp_path / "a", [0.5], test_accuracy=0.5)
    run = write_run(tmp_path / "b", [0.5], test_accuracy=0.5)
    (run / "summary.json").write_text("{")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.json").write_text("[]")
    found = described(tmp_path)
    assert [entry[-1] for entry in found.values()] == ["finished", "damaged", "damaged"]
    assert "summary.json" in found["b"][2]


def test_directory_that_is_a_run_is_listed_itself(tmp_path):
    run = write_run(tmp_path / "a", [0.5], test_accuracy=0.5)
    (found,) = directories.listed(run, lambda path: False)
    assert found.directory == str(run)
    with pytest.raises(UserError, match="is not a directory; pass one that has runs"):
        directories.listed(tmp_path / "none", lambda path: False)
