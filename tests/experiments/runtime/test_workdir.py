"""The directory of a run belongs to one config and to one process at a time."""

import json
import os

import pytest
from etils import epath

from configs import quickstart
from experiments.build.experiment import plain
from experiments.errors import UserError
from experiments.runtime import workdir


@pytest.fixture
def directory(tmp_path):
    return epath.Path(tmp_path) / "runs" / "one"


def test_directory_is_claimed_for_one_config(directory):
    config = quickstart.get_config()
    directory.mkdir(parents=True)
    workdir.claim(directory, plain(config))
    stored = json.loads((directory / "config.json").read_text())
    assert stored == json.loads(config.to_json())
    workdir.claim(directory, plain(config))  # the same run resumes
    # The data moved, and the devices share a step differently.
    config.data.data_dir = "elsewhere"
    config.parallel.strategy = "pmap"
    workdir.claim(directory, plain(config))
    stored = json.loads((directory / "config.json").read_text())
    assert stored == json.loads(config.to_json())
    config.schedule.name = "constant"
    config.seed = 5
    message = (
        r"a run with another config \(schedule.name='cyclical_log_annealing', not 'constant'; "
        r"seed=0, not 5\)"
    )
    with pytest.raises(UserError, match=message):
        workdir.claim(directory, plain(config))
    assert json.loads((directory / "config.json").read_text()) == stored


@pytest.mark.parametrize("blocker", ["runs", "runs/one"])
def test_file_in_place_of_the_directory_is_reported(directory, tmp_path, blocker):
    (tmp_path / blocker).parent.mkdir(exist_ok=True)
    (tmp_path / blocker).write_text("mine")
    lock = workdir.locked(directory)
    with pytest.raises(UserError, match=r"workdir .*runs/one cannot be used"):
        lock.__enter__()
    assert (tmp_path / blocker).read_text() == "mine"


def test_invalid_config_file_is_left_alone(directory):
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{torn")
    with pytest.raises(UserError, match=r"config.json is not the config of a run"):
        workdir.claim(directory, plain(quickstart.get_config()))
    assert (directory / "config.json").read_text() == "{torn"


def test_directory_is_locked_by_one_process_at_a_time(directory):
    """A lock belongs to an open file, so this process can stand in for a second one."""
    with workdir.locked(directory):
        second = workdir.locked(directory)
        with pytest.raises(
            UserError, match=rf"runs/one is in use by another process \(.*, process {os.getpid()}\)"
        ):
            second.__enter__()
    with workdir.locked(directory):
        pass


def test_summary_marks_the_run_as_finished(directory):
    directory.mkdir(parents=True)
    assert workdir.read_summary(directory) is None
    workdir.write_summary(directory, {"steps": 3})
    assert workdir.read_summary(directory) == {"steps": 3}
    assert [file.name for file in directory.iterdir()] == ["summary.json"]
