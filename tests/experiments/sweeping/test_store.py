"""The files of a sweep: blocks round-trip, and rows mark trials that diverged."""

import math
from types import SimpleNamespace

import pytest
from etils import epath

from experiments.errors import UserError
from experiments.runtime import environment
from experiments.sweeping import store
from experiments.sweeping.plan import Trial
from experiments.sweeping.store import BlockResult
from experiments.tasks.task import Metric

TASK = SimpleNamespace(data="points", model="line", metrics={"loss": Metric("min")})


def trial(setting, seed, **values):
    return Trial("tune", setting, values, SimpleNamespace(task=TASK, seed=seed))


def record(step, train_loss, test_loss):
    return {
        "step": step,
        "epoch": step / 4,
        "learning_rate": [0.1, 0.2],
        "train_loss": train_loss,
        "test_loss": test_loss,
        "seconds": 1.0,
    }


def test_block_size_round_trips(tmp_path):
    directory = epath.Path(tmp_path) / "blocks" / "tune-0"
    assert store.read_block_size(directory) is None
    store.write_block_size(directory, 3)
    assert store.read_block_size(directory) == 3


def test_block_round_trips(tmp_path):
    file = epath.Path(tmp_path) / "0.json"
    assert store.read_block(file) is None
    result = BlockResult([{"setting": "a", "train_loss": 0.1, "test_loss": None}], 2.5)
    store.write_block(file, result)
    assert store.read_block(file) == result


@pytest.mark.parametrize(
    ("num_trials", "block_size", "starts"),
    [(1, 8, [0]), (8, 8, [0]), (9, 8, [0, 8]), (6, 2, [0, 2, 4])],
)
def test_block_is_named_by_its_first_trial(num_trials, block_size, starts):
    files = store.block_files(epath.Path("d"), num_trials, block_size)
    assert [file.name for file in files] == [f"{start}.json" for start in starts]


def test_rows_are_one_per_trial_and_epoch():
    trials = [trial("a", 0, **{"schedule.peak_value": 0.1}), trial("b", 1)]
    history = [record(4, [1.0, 2.0], [3.0, 4.0]), record(8, [0.5, 1.5], [2.5, 3.5])]
    rows = store.make_rows(trials, history)
    assert [(row["setting"], row["step"]) for row in rows] == [
        ("a", 4),
        ("a", 8),
        ("b", 4),
        ("b", 8),
    ]
    assert rows[1] == {
        "phase": "tune",
        "setting": "a",
        "seed": 0,
        "data": "points",
        "model": "line",
        "schedule.peak_value": 0.1,
        "epoch": 2.0,
        "step": 8,
        "learning_rate": 0.1,
        "train_loss": 0.5,
        "test_loss": 2.5,
        "diverged": False,
    }
    assert rows[2]["test_loss"] == 4.0


def test_diverged_trial_stays_diverged_and_has_empty_values():
    history = [
        record(4, [1.0, 1.0], [1.0, 1.0]),
        record(8, [math.nan, 1.0], [2.0, 1.0]),
        record(12, [1.0, 1.0], [math.inf, 1.0]),
        record(16, [1.0, 1.0], [1.0, 1.0]),
    ]
    rows = store.make_rows([trial("a", 0), trial("b", 0)], history)
    assert [row["diverged"] for row in rows] == [False, True, True, True] + 4 * [False]
    assert [row["train_loss"] for row in rows[:4]] == [1.0, None, 1.0, 1.0]
    assert [row["test_loss"] for row in rows[:4]] == [1.0, 2.0, None, 1.0]


def enter(directory, *, threads, monkeypatch, **options):
    """Starts a sweep where XLA has a number of threads; returns the changes."""
    monkeypatch.setattr(environment, "_threads", lambda: threads)
    here, changes = store.enter(epath.Path(directory), **{"require_same": False, **options})
    assert here["threads"] == threads
    return changes


def test_sweep_lists_the_changes_of_its_environment(tmp_path, monkeypatch, capsys):
    fewer = {"step": 0, "changed": {"threads": [4, 2]}}
    assert enter(tmp_path, threads=4, monkeypatch=monkeypatch) == []
    assert enter(tmp_path, threads=4, monkeypatch=monkeypatch) == []
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"^--require_same_environment: .* \(threads: 4, now"):
        enter(tmp_path, threads=2, monkeypatch=monkeypatch, require_same=True)
    assert enter(tmp_path, threads=2, monkeypatch=monkeypatch) == [fewer]
    assert capsys.readouterr().err.count("warning: the environment differs") == 1
    assert enter(tmp_path, threads=2, monkeypatch=monkeypatch, require_same=True) == [fewer]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"environment": 3}', '{"environment": {}'])
def test_damaged_environment_of_a_sweep_counts_as_a_change(tmp_path, monkeypatch, capsys, content):
    enter(tmp_path, threads=4, monkeypatch=monkeypatch)
    (tmp_path / "environment.json").write_text(content)
    with pytest.raises(UserError, match=r"environment\.json: damaged, now replaced"):
        enter(tmp_path, threads=4, monkeypatch=monkeypatch, require_same=True)
    (change,) = enter(tmp_path, threads=4, monkeypatch=monkeypatch)
    assert change["changed"] == {"environment.json": ["damaged", "replaced"]}
    assert len(capsys.readouterr().err.splitlines()) == 1
