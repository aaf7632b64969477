"""A run can be extended: it goes on as the longer run with the same schedule."""

import json
import shutil

import pytest
from etils import epath

from experiments.errors import Stopped, UserError
from experiments.runtime import loop
from tests import commands
from tests.experiments.runtime.lives import result
from tests.experiments.runtime.small import small_experiment
from tests.experiments.runtime.test_loop import stop_after

SCHEDULE = {"schedule.name": "cosine", "averaging.ema_decay": 0.9}
FIRST = {**SCHEDULE, "epochs": 2.0}
LONGER = {**SCHEDULE, "epochs": 4.0, "schedule.total_epochs": 2.0}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns the directories of a finished run, and of the longer one from the start."""
    first, longer = (epath.Path(tmp_path_factory.mktemp(name)) for name in ("first", "longer"))
    loop.run(small_experiment(**FIRST), first)
    loop.run(small_experiment(**LONGER), longer)
    return first, longer


def test_extended_run_equals_the_longer_run_bit_for_bit(runs, tmp_path, monkeypatch):
    """It is stopped at step 13, in its third epoch, and extended once more by the same call."""
    first, longer = runs
    shutil.copytree(first, tmp_path / "run")
    run = epath.Path(tmp_path / "run")
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(Stopped, match="at step 13, which is saved"):
            loop.run(small_experiment(**LONGER), run, extend=True)
    assert not (run / "summary.json").exists()
    summary, was_finished = loop.run(small_experiment(**LONGER), run, extend=True)
    assert not was_finished
    assert result(run) == result(longer)
    assert (summary["epochs"], summary["steps"]) == (4.0, 20)
    assert summary["extended_from_epochs"] == 2.0
    stored = json.loads((run / "config.json").read_text())
    assert (stored["epochs"], stored["schedule"]["total_epochs"]) == (4.0, 2.0)
    assert loop.run(small_experiment(**LONGER), run, extend=True) == (summary, True)
    fewer = {**LONGER, "epochs": 3.0}
    with pytest.raises(UserError, match=r"was extended to 4 epochs before; --extend_to_epochs=3 "):
        loop.run(small_experiment(**fewer), run, extend=True)
    with pytest.raises(UserError, match=r"epochs=4.0, not 2.0; schedule.total_epochs=2.0, not Non"):
        loop.run(small_experiment(**FIRST), run)


def test_run_of_another_config_is_not_extended(runs, tmp_path):
    other = small_experiment(**{**LONGER, "seed": 3})
    before = {file: file.read_bytes() for file in runs[0].glob("*.json*")}
    with pytest.raises(UserError, match=r"belongs to a run with another config"):
        loop.run(other, runs[0], extend=True)
    with pytest.raises(UserError, match=r"has no run to extend; train one without --extend_to_ep"):
        loop.run(other, epath.Path(tmp_path / "new"), extend=True)
    assert {file: file.read_bytes() for file in runs[0].glob("*.json*")} == before


@pytest.mark.slow
def test_command_extends_the_run_in_its_directory(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)

    def command(*flags):
        return commands.run("experiments.train", f"--workdir={run}", *flags)

    process = command("--extend_to_epochs=2")
    assert process.returncode == 2
    assert "--extend_to_epochs=2 is not more than the 2 epochs of the run; pa" in process.stderr
    for _ in range(2):
        process = command("--extend_to_epochs=3")
        assert process.returncode == 0, process.stderr
        line = "extending the run from 2 to 3 epochs: schedule 'cosine' holds its end value, 0.001"
        assert line in process.stderr.splitlines()
    assert "after 3 epochs" in process.stdout
    assert "was finished before" in process.stdout
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["learning_rate"] for record in metrics][2] == pytest.approx(0.001)
