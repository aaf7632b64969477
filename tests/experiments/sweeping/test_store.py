"""The files of a sweep: blocks round-trip, and rows mark trials that diverged."""

import math
from types import SimpleNamespace

import pytest
from etils import epath

from experiments.errors import UserError
from experiments.program.averaging import OFF
from experiments.runtime import environment
from experiments.sweeping import store
from experiments.sweeping.plan import Trial
from experiments.sweeping.store import BlockResult
from experiments.tasks.task import Metric

TASK = SimpleNamespace(data="points", model="line", metrics={"loss": Metric("min")})


def trial(setting, seed, **values):
    experiment = SimpleNamespace(
        task=TASK, seed=seed, config={"seed": seed}, averaging=OFF, steps_per_epoch=5
    )
    return Trial("tune", setting, values, experiment)


def record(step, train_loss, test_loss):
    return {
        "step": step,
        "epoch": step / 4,
        "learning_rate": [0.1, 0.2],
        "train_loss": train_loss,
        "test_loss": test_loss,
        "seconds": 1.0,
    }


TRIALS = [trial("a", seed) for seed in range(5)]
RESULT = BlockResult([{"setting": "a", "train_loss": 0.125, "test_loss": None}], 2.5)


def test_block_size_round_trips(tmp_path):
    directory = epath.Path(tmp_path) / "blocks" / "tune-0"
    assert store.read_block_size(directory, TRIALS) is None
    store.write_block_size(directory, TRIALS, 3)
    assert store.read_block_size(directory, TRIALS) == 3


def test_block_round_trips(tmp_path):
    file = epath.Path(tmp_path) / "0.json"
    assert store.read_block(file, TRIALS) is None
    store.write_block(file, TRIALS, RESULT, block_size=5)
    assert store.read_block(file, TRIALS) == RESULT


DAMAGE = {
    "empty": lambda text: "",
    "half": lambda text: text[: len(text) // 2],
    "digit": lambda text: text.replace("0.125", "0.225"),
    "other JSON": lambda text: "[1, 2]",
    "bytes": lambda text: text.replace("a", "\ud800"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_block_is_not_used(tmp_path, capsys, how):
    file = epath.Path(tmp_path) / "0.json"
    store.write_block(file, TRIALS, RESULT, block_size=5)
    damaged = DAMAGE[how](file.read_text()).encode(errors="surrogatepass")
    assert damaged != file.read_bytes()
    file.write_bytes(damaged)
    assert store.read_block(file, TRIALS) is None
    error = capsys.readouterr().err
    assert error.startswith(f"warning: {file} is damaged (it")
    assert error.endswith("; running its trials again\n")


@pytest.mark.parametrize(
    "others",
    [
        TRIALS[:4],
        TRIALS[::-1],
        [trial("b", seed) for seed in range(5)],
        [trial("a", seed, **{"schedule.peak_value": 0.1}) for seed in range(5)],
        [each._replace(phase="final") for each in TRIALS],
    ],
    ids=["fewer", "order", "setting", "values", "phase"],
)
def test_block_of_other_trials_is_not_used(tmp_path, capsys, others):
    file = epath.Path(tmp_path) / "0.json"
    store.write_block(file, others, RESULT, block_size=5)
    assert store.read_block(file, TRIALS) is None
    assert "(it belongs to other trials)" in capsys.readouterr().err


def test_trials_are_the_same_if_only_their_data_moved():
    here, there = (
        trial("a", 0)._replace(experiment=SimpleNamespace(config={"data": {"data_dir": directory}}))
        for directory in ("here", "there")
    )
    assert store.fingerprint([here]) == store.fingerprint([there])


@pytest.mark.parametrize("how", ["empty", "digit", "other trials"])
def test_size_of_the_blocks_is_taken_from_a_finished_one_if_the_plan_is_damaged(
    tmp_path, capsys, how
):
    directory = epath.Path(tmp_path)
    plan = directory / "plan.json"
    store.write_block_size(directory, TRIALS[:4] if how == "other trials" else TRIALS, 2)
    if how != "other trials":
        plan.write_text("" if how == "empty" else plan.read_text().replace(": 2", ": 3"))
    assert store.read_block_size(directory, TRIALS) is None
    (directory / "0.json").write_text("{}")
    store.write_block(directory / "2.json", TRIALS[2:4], RESULT, block_size=2)
    assert store.read_block_size(directory, TRIALS) == 2
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert warnings[0].startswith(f"warning: {plan} is damaged (it")


@pytest.mark.parametrize("name", ["blocks", "blocks/tune-0"])
def test_file_in_place_of_a_directory_is_refused(tmp_path, name):
    directory = epath.Path(tmp_path) / "blocks" / "tune-0"
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    assert store.read_block_size(directory, TRIALS) is None
    with pytest.raises(UserError, match=r"tune-0 cannot be created \(.*\); move what is in its pl"):
        store.write_block_size(directory, TRIALS, 2)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["plan.json", "0.json"])
def test_directory_in_place_of_a_file_is_refused(tmp_path, name):
    directory = epath.Path(tmp_path)
    (directory / name).mkdir()
    with pytest.raises(UserError, match=rf"{name} cannot be read \(Is a directory\); repair it or"):
        store.read_block_size(directory, TRIALS) if name == "plan.json" else store.read_block(
            directory / name, TRIALS
        )


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
    here = environment.environment()
    assert here["threads"] == threads
    return store.enter(epath.Path(directory), here, "", **{"require_same": False, **options})


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
