"""Whatever damages the files of a run: the same result with a warning, or one sentence."""

import collections
import contextlib
import functools
import json
import random
import signal

import pandas as pd
import pytest
from etils import epath

from experiments import sealed
from experiments.errors import Stopped, UserError
from experiments.results import read
from experiments.runtime import loop, signals, workdir
from tests.experiments.runtime.damage import assert_same_or_refused, cases, outcome
from tests.experiments.runtime.lives import result, saved_steps
from tests.experiments.runtime.small import small_experiment

# Nothing reads these files again: TensorBoard's events, Orbax's own notes, and the lock.
UNREAD = ("events.out", "_CHECKPOINT_METADATA", "commit_success.txt", "lock")
experiment = functools.cache(lambda: small_experiment(epochs=3.0))


def run(directory):
    loop.run(experiment(), epath.Path(directory))


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    """Compiles the programs once for all runs of this module."""
    compile_programs = loop._programs
    made = []

    def programs(experiment, strategy):
        if not made:
            made.append(compile_programs(experiment, strategy))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_programs", programs)
        yield


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """Returns the directories of a finished run, and of one that was stopped in its last epoch."""
    finished, stopped = (tmp_path_factory.mktemp(name) for name in ("finished", "stopped"))
    run(finished)
    calls = []

    @contextlib.contextmanager
    def caught():
        yield lambda: signal.SIGTERM if len(calls) > 11 else calls.append(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals, "caught", caught)
        with pytest.raises(Stopped):
            run(stopped)
    assert saved_steps(stopped) == [10, 13]
    return {"finished": finished, "stopped": stopped}


def sample(every_case, number):
    """Returns as many cases among the many files of checkpoints as among the others."""
    parts = [], []
    for kind, case in every_case:
        parts[case[0].startswith("checkpoints")].append((kind, case))
    choice = random.Random(1)
    return [case for part in parts for case in choice.sample(part, number)]


def check(directories, tmp_path, capsys, number):
    """Damages files of both directories, and counts what comes of it.

    Args:
      directories: the fixture.
      tmp_path: the fixture.
      capsys: the fixture.
      number: of cases among the checkpoints, and among the other files; None for all.
    """
    wanted = result(directories["finished"])
    every_case = [
        (kind, case)
        for kind, directory in directories.items()
        for case in cases(directory, ignored=UNREAD)
    ]
    chosen = every_case if number is None else sample(every_case, number)
    counts = collections.Counter()
    for kind, case in chosen:
        capsys.readouterr()
        found = outcome(directories[kind], tmp_path / "damaged", case, run, result)
        kind_of_end = assert_same_or_refused(found, wanted, case, capsys.readouterr().err)
        counts[kind_of_end] += 1
    return counts


def test_damaged_run_is_repaired_or_refused(directories, tmp_path, capsys):
    counts = check(directories, tmp_path, capsys, 14)
    assert counts["repaired"] >= 3
    assert counts["refused"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_damage_to_a_run_is_repaired_or_refused(directories, tmp_path, capsys):
    counts = check(directories, tmp_path, capsys, None)
    with capsys.disabled():
        print(dict(counts))


def test_no_flipped_byte_of_a_summary_goes_unnoticed(directories, tmp_path):
    finished = directories["finished"]
    intact = (finished / "summary.json").read_bytes()
    for name in ("config.json", "inputs.safetensors", "metrics.jsonl"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    (tmp_path / "summary.json").write_bytes(intact)
    wanted = workdir.read_summary(epath.Path(tmp_path))
    assert wanted is not None
    for index in range(len(intact)):
        damaged = bytearray(intact)
        damaged[index] ^= 1
        (tmp_path / "summary.json").write_bytes(damaged)
        # White space may change; the content may not.
        assert workdir.read_summary(epath.Path(tmp_path), warn=False) in (None, wanted)


@pytest.mark.parametrize("name", ["summary.json", "config.json", "metrics.jsonl"])
def test_report_never_shows_another_result(directories, tmp_path, name):
    finished = directories["finished"]
    wanted = read.read([finished]).rows.drop(columns="source")
    for file in ("summary.json", "config.json", "metrics.jsonl"):
        (tmp_path / file).write_bytes((finished / file).read_bytes())
    intact = (finished / name).read_bytes()
    refused = 0
    for index in range(0, len(intact), 29):
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
    assert refused > len(intact) / 29


def test_summary_of_an_earlier_version_is_still_read(directories, tmp_path):
    finished = directories["finished"]
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    content = sealed.loads((finished / "summary.json").read_text())
    del content["files"]
    (tmp_path / "summary.json").write_text(json.dumps(content))
    assert len(read.read([tmp_path]).rows) == 3
