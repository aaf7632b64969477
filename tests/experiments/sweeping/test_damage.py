"""Whatever damages the files of a sweep: the same result with a warning, or one sentence."""

import collections
import contextlib
import functools
import json
import random
import re
import shutil
import signal

import pandas as pd
import pytest
from etils import epath

from experiments import sealed
from experiments.build.sweeps import read_sweep
from experiments.errors import Stopped, UserError
from experiments.results import read
from experiments.runtime import signals
from experiments.sweeping import blocks, plan, run, store, trials
from tests.experiments.runtime.damage import (
    assert_same_or_refused,
    cases,
    directory_in_place,
    outcome,
)
from tests.experiments.sweeping.one_device import mesh_of, one_device
from tests.experiments.sweeping.small_config import get_config

# Nothing reads these files again: Orbax's own notes, and the lock.
UNREAD = ("_CHECKPOINT_METADATA", "commit_success.txt", "lock")
sweep = functools.cache(lambda: read_sweep(get_config()))


def run_sweep(directory):
    return run.run(sweep(), epath.Path(directory))[0]


def result(directory):
    """Returns what must not change: every row, and what the summary says about the trials."""
    summary = json.loads((directory / "summary.json").read_text())
    kept = ("trials", "diverged", "chosen", "task", "metrics", "objective")
    return (directory / "trials.csv").read_bytes(), {name: summary[name] for name in kept}


@pytest.fixture(scope="module", autouse=True)
def _one_device():
    with one_device():
        yield


def stop(directory, num_dispatches):
    """Runs the sweep until a SIGTERM after a number of dispatches."""
    calls = []

    @contextlib.contextmanager
    def caught():
        yield lambda: signal.SIGTERM if len(calls) == num_dispatches else calls.append(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, "caught", caught)
        with pytest.raises(Stopped):
            run_sweep(directory)


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """Returns the directories of a finished sweep, and of one that was stopped in its last block.

    A dispatch is an epoch. So the last block, of 2 final trials, has saved its second epoch.
    """
    finished, stopped = (tmp_path_factory.mktemp(name) for name in ("finished", "stopped"))
    run_sweep(finished)
    stop(stopped, 11)
    assert (stopped / "blocks" / "final-0" / "2" / "checkpoints").is_dir()
    assert (stopped / "blocks" / "final-0" / "0.json").exists()
    return {"finished": finished, "stopped": stopped}


@pytest.fixture
def stopped(directories, tmp_path):
    shutil.copytree(directories["stopped"], tmp_path / "sweep")
    return tmp_path / "sweep"


@pytest.fixture
def finished(directories, tmp_path):
    shutil.copytree(directories["finished"], tmp_path / "sweep")
    return tmp_path / "sweep"


def warnings_of(capsys):
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]


def test_stopped_sweep_resumes_to_the_same_result(directories, stopped, capsys):
    run_sweep(stopped)
    assert result(stopped) == result(directories["finished"])
    assert warnings_of(capsys) == []


def test_finished_sweep_does_not_run_again(finished, monkeypatch):
    monkeypatch.setattr(run, "_run", None)
    assert run.run(sweep(), epath.Path(finished))[1]


@pytest.mark.parametrize("name", ["trials.csv", "summary.json"])
@pytest.mark.parametrize("how", ["half", "digit", "deleted"])
def test_files_of_a_finished_sweep_are_rebuilt_from_its_blocks(
    directories, finished, monkeypatch, capsys, name, how
):
    text = (finished / name).read_text()
    if how == "deleted":
        (finished / name).unlink()
    else:
        changed = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), text, count=1)
        (finished / name).write_text(changed if how == "digit" else text[: len(text) // 2])
    monkeypatch.setattr(blocks.Trainer, "train", None)
    run_sweep(finished)
    assert result(finished) == result(directories["finished"])
    deleted_summary = name == "summary.json" and how == "deleted"
    assert len(warnings_of(capsys)) == (0 if deleted_summary else 1)


def test_block_with_a_changed_digit_is_computed_again(directories, finished, capsys):
    (finished / "summary.json").unlink()
    block = finished / "blocks" / "tune-0" / "2.json"
    text = block.read_text()
    block.write_text(text.replace('"train_loss": 2.', '"train_loss": 1.', 1))
    assert block.read_text() != text
    run_sweep(finished)
    assert result(finished) == result(directories["finished"])
    assert warnings_of(capsys) == [
        f"warning: {block} is damaged (its content does not match its sha256); running its trials "
        "again"
    ]


def test_block_in_the_place_of_another_is_computed_again(directories, finished, capsys):
    (finished / "summary.json").unlink()
    place = finished / "blocks" / "final-0"
    shutil.copy(place / "0.json", place / "2.json")
    run_sweep(finished)
    assert result(finished) == result(directories["finished"])
    assert warnings_of(capsys) == [
        f"warning: {place / '2.json'} is damaged (it belongs to other trials); running its trials "
        "again"
    ]


def test_damaged_plan_takes_the_size_of_the_blocks(directories, finished, monkeypatch, capsys):
    (finished / "summary.json").unlink()
    file = finished / "blocks" / "final-0" / "plan.json"
    file.write_text(file.read_text().replace('"block_size": 2', '"block_size": 1'))
    monkeypatch.setattr(blocks.Trainer, "train", None)
    run_sweep(finished)
    assert result(finished) == result(directories["finished"])
    (warning,) = warnings_of(capsys)
    assert warning.startswith(f"warning: {file} is damaged (its content does not match")


@pytest.mark.parametrize("how", ["damaged", "config", "devices"])
def test_block_whose_checkpoint_cannot_be_used_begins_anew(
    directories, stopped, monkeypatch, capsys, how
):
    block = stopped / "blocks" / "final-0" / "2"
    if how == "damaged":
        (block / "checkpoints" / "10" / "sha256.json").write_text("")
        reason = f"all checkpoints in {block}/checkpoints are damaged (10: sha256.json differs from"
    elif how == "config":
        shutil.rmtree(block / "checkpoints")
        stop(stopped.parent / "other", 8)  # in the first final block
        other = stopped.parent / "other" / "blocks" / "final-0" / "0" / "checkpoints"
        shutil.copytree(other, block / "checkpoints")
        reason = f"checkpoint {block}/checkpoints/10 belongs to another config"
    else:
        monkeypatch.setattr(trials, "make_mesh", lambda: mesh_of(4))  # two more trials
        reason = f"checkpoint {block}/checkpoints/10 is undamaged, but this version of the code has"
    run_sweep(stopped)
    (warning,) = warnings_of(capsys)
    assert warning.startswith(f"warning: {reason}")
    assert warning.endswith("; the block begins anew")
    found, wanted = (read.read([each]).rows for each in (stopped, directories["finished"]))
    columns = [*read.TRIAL, "step", "learning_rate"]
    pd.testing.assert_frame_equal(found[columns], wanted[columns])
    if how != "devices":
        assert result(stopped) == result(directories["finished"])


def check(directories, tmp_path, capsys, number):
    """Damages files of both directories, and counts what comes of it.

    Args:
      directories: the fixture.
      tmp_path: the fixture.
      capsys: the fixture.
      number: of cases in each directory, one more of which is refused; or None for all.
    """
    wanted = result(directories["finished"])
    counts = collections.Counter()
    for directory in directories.values():
        every_case = cases(directory, ignored=UNREAD)
        # The names of some files differ from run to run, and so does what a sample has.
        refused = ("config.json", directory_in_place)
        chosen = (
            every_case
            if number is None
            else [refused, *random.Random(1).sample(every_case, number)]
        )
        for case in chosen:
            capsys.readouterr()
            found = outcome(directory, tmp_path / "damaged", case, run_sweep, result)
            end = assert_same_or_refused(found, wanted, case, capsys.readouterr().err)
            counts[end] += 1
    return counts


def test_damaged_sweep_is_repaired_or_refused(directories, tmp_path, capsys):
    counts = check(directories, tmp_path, capsys, 12)
    assert counts["repaired"] >= 3
    assert counts["refused"] >= 2


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_damage_to_a_sweep_is_repaired_or_refused(directories, tmp_path, capsys):
    counts = check(directories, tmp_path, capsys, None)
    with capsys.disabled():
        print(dict(counts))


def test_no_flipped_byte_of_a_block_goes_unnoticed(directories, tmp_path):
    final = plan.final_trials(
        sweep(), dict.fromkeys(sweep().settings, plan.grid_points(sweep())[0])
    )
    intact = (directories["finished"] / "blocks" / "final-0" / "0.json").read_bytes()
    content = sealed.loads(intact.decode())
    file = epath.Path(tmp_path) / "0.json"
    store.write_block(
        file, final[:2], store.BlockResult(content["rows"], content["seconds"]), block_size=2
    )
    intact = file.read_bytes()
    wanted = store.read_block(file, final[:2])
    assert wanted is not None
    for index in range(0, len(intact), 3):
        damaged = bytearray(intact)
        damaged[index] ^= 1 << index % 7
        file.write_bytes(damaged)
        assert store.read_block(file, final[:2]) in (None, wanted)


@pytest.mark.parametrize("name", ["summary.json", "trials.csv"])
def test_report_never_shows_another_result(directories, tmp_path, name):
    whole = directories["finished"]
    wanted = read.read([whole]).rows.drop(columns="source")
    for file in ("summary.json", "config.json", "trials.csv"):
        shutil.copy(whole / file, tmp_path / file)
    intact = (whole / name).read_bytes()
    refused = 0
    for index in range(0, len(intact), 97):
        damaged = bytearray(intact)
        damaged[index] ^= 1 << index % 7
        for content in (damaged, intact[:index]):
            (tmp_path / name).write_bytes(content)
            try:
                rows = read.read([tmp_path]).rows.drop(columns="source")
            except UserError:
                refused += 1
                continue
            pd.testing.assert_frame_equal(rows, wanted)
    assert refused > len(intact) / 97
