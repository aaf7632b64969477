"""The directory of a run belongs to one config and to one process at a time."""

import errno
import json
import math
import os
import platform

import pytest
from etils import epath

from configs import quickstart
from experiments import sealed
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


def test_error_lists_a_few_of_many_different_fields(directory):
    directory.mkdir(parents=True)
    workdir.claim(directory, {f"field{index}": index for index in range(20)})
    message = r"another config \(field0=0, not '.{199}\.\.\.; .*field12=12, not None; and 15 more\)"
    with pytest.raises(UserError, match=message):
        workdir.claim(directory, {"field0": "long" * 1000})


@pytest.mark.parametrize("blocker", ["runs", "runs/one"])
def test_file_in_place_of_the_directory_is_reported(directory, tmp_path, blocker):
    (tmp_path / blocker).parent.mkdir(exist_ok=True)
    (tmp_path / blocker).write_text("mine")
    lock = workdir.locked(directory)
    with pytest.raises(UserError, match=r"workdir .*runs/one cannot be used"):
        lock.__enter__()
    assert (tmp_path / blocker).read_text() == "mine"


@pytest.mark.parametrize("text", ["", "{torn", "[]", "3", '{"a": ', "[" * 100_000])
def test_invalid_config_file_is_left_alone(directory, text):
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json is not the config of a run: .* delete the f"):
        workdir.claim(directory, plain(quickstart.get_config()))
    assert (directory / "config.json").read_text() == text


@pytest.mark.parametrize("name", ["config.json", "lock"])
def test_directory_in_place_of_a_file_is_reported(directory, name):
    (directory / name).mkdir(parents=True)

    def use():
        with workdir.locked(directory):
            workdir.claim(directory, plain(quickstart.get_config()))

    with pytest.raises(UserError, match=rf"cannot be used \(Is a directory: .*{name}\); pass"):
        use()


def test_config_that_json_cannot_hold_is_refused(directory):
    directory.mkdir(parents=True)
    with pytest.raises(UserError, match="the config has a number that is infinite or NaN"):
        workdir.claim(directory, {"task": {"options": {"value": math.inf}}})
    assert list(directory.iterdir()) == []


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


def test_shares_of_a_directory_exclude_others(directory):
    """Each share is locked once; the whole directory and another division are refused meanwhile."""
    with workdir.locked(directory, share="-1-of-2"), workdir.locked(directory, share="-2-of-2"):
        for share in ("", "-2-of-2", "-1-of-4"):
            other = workdir.locked(directory, share=share)
            with pytest.raises(UserError, match="runs/one is in use by another process"):
                other.__enter__()
    with workdir.locked(directory, share="-1-of-4"):
        pass
    with workdir.locked(directory):
        share = workdir.locked(directory, share="-1-of-4")
        with pytest.raises(UserError, match="runs/one is in use by another process"):
            share.__enter__()


def test_directory_is_in_use_while_it_or_a_share_of_it_is_locked(directory):
    assert not workdir.in_use(directory)
    for share in ("", "-1-of-2"):
        with workdir.locked(directory, share=share):
            assert workdir.in_use(directory)
        assert not workdir.in_use(directory)


def test_lock_is_not_executable_and_honors_the_umask(directory):
    before = os.umask(0o027)
    try:
        with workdir.locked(directory):
            assert (os.stat(directory / "lock").st_mode & 0o777) == 0o640
    finally:
        os.umask(before)


def test_lock_with_other_bytes_is_reported(directory):
    with workdir.locked(directory):
        (directory / "lock").write_bytes(b"\xff\xfe")
        second = workdir.locked(directory)
        with pytest.raises(UserError, match="is in use by another process"):
            second.__enter__()


def test_summary_marks_the_run_as_finished(directory):
    directory.mkdir(parents=True)
    assert workdir.read_summary(directory) is None
    workdir.write_summary(directory, {"steps": 3}, files=())
    assert workdir.read_summary(directory) == {"steps": 3}
    assert [file.name for file in directory.iterdir()] == ["summary.json"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is not complete JSON"),
        ("[1]", "it is not a JSON object"),
        ("{}", "its content does not match its sha256"),
        (sealed.dumps({"block_size": 3}), "it is another kind of file"),
    ],
)
def test_damaged_summary_is_no_summary(directory, capsys, text, reason):
    directory.mkdir(parents=True)
    (directory / "summary.json").write_text(text)
    assert workdir.read_summary(directory, warn=False) is None
    assert capsys.readouterr().err == ""
    assert workdir.read_summary(directory) is None
    assert capsys.readouterr().err == (
        f"warning: {directory}/summary.json is damaged ({reason}); writing it anew\n"
    )


def test_summary_knows_its_files(directory, capsys):
    directory.mkdir(parents=True)
    (directory / "table").write_text("1\n")
    workdir.write_summary(directory, {"steps": 3}, files=("table",))
    assert workdir.read_summary(directory) == {"steps": 3}
    (directory / "table").write_text("2\n")
    assert workdir.read_summary(directory) is None
    assert f"{directory}/table is damaged (it does not match summary.json)" in (
        capsys.readouterr().err
    )
    (directory / "table").unlink()
    assert workdir.read_summary(directory) is None
    assert f"{directory}/table is damaged (it is missing)" in capsys.readouterr().err


def test_failing_disk_is_reported(directory, monkeypatch):
    directory.mkdir(parents=True)
    workdir.write_summary(directory, {"steps": 3}, files=())

    def fail(path):
        raise OSError(errno.EIO, "Input/output error", os.fspath(path))

    monkeypatch.setattr(type(directory), "read_bytes", fail)
    with pytest.raises(UserError, match=r"summary.json cannot be read \(Input/output error\); rep"):
        workdir.read_summary(directory)


def test_finished_run_keeps_the_config_that_its_summary_knows(directory):
    config = quickstart.get_config()
    directory.mkdir(parents=True)
    workdir.claim(directory, plain(config))
    workdir.write_summary(directory, {"steps": 3}, files=("config.json",))
    config.data.data_dir = "elsewhere"
    workdir.claim(directory, plain(config))
    assert workdir.read_summary(directory) == {"steps": 3}


def test_file_is_on_the_disk_before_its_name(directory, monkeypatch):
    """A power failure then leaves the old text or the new."""
    directory.mkdir(parents=True)
    calls = []
    fsync, replace = os.fsync, type(directory).replace

    def synced(number):
        calls.append(os.path.basename(os.readlink(f"/proc/self/fd/{number}")))
        fsync(number)

    def replaced(source, target):
        calls.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(type(directory), "replace", replaced)
    workdir.write_atomically(directory / "file", "text")
    assert calls == [f"file.{platform.node()}-{os.getpid()}.part", "rename", directory.name]
    assert (directory / "file").read_text() == "text"
    assert [path.name for path in directory.iterdir()] == ["file"]


def test_directory_in_place_of_a_written_file_is_reported(directory):
    (directory / "file").mkdir(parents=True)
    with pytest.raises(UserError, match=r"file cannot be written, because it is a directory; move"):
        workdir.write_atomically(directory / "file", "text")
