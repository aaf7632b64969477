"""Several processes of one sweep: the same table, and nothing lost when one of them is killed."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import jax
import pytest

from experiments.errors import UserError
from experiments.sweeping import pool
from tests.experiments.runtime.lives import Life

CORES = sorted(os.sched_getaffinity(0))
needs_two_cores = pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")
TABLE = "trials.csv"


@pytest.fixture(autouse=True)
def without_nproc(monkeypatch):
    """Undoes what a test of several processes may have left."""
    monkeypatch.delenv("NPROC", raising=False)


def sweep(workdir, *options, cores=None):
    return Life(workdir, *options, command="experiments.sweep", cores=cores)


def finish(workdir, *options, cores=None):
    """Runs the command to its end, and returns its table and what it printed."""
    with sweep(workdir, *options, cores=cores) as life:
        assert life.wait() == 0, life.errors()
        return (workdir / TABLE).read_bytes(), life.errors()


def children(pid):
    """Returns the processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid):
    """Returns whether a process runs; one that ended may still be listed, without a command."""
    file = Path(f"/proc/{pid}/cmdline")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return bool(file.read_bytes())
    return False


def wait_for_end(pids):
    """Waits until processes have ended, as those of a killed parent must by themselves."""
    deadline = time.monotonic() + 20
    while any(map(runs, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@needs_two_cores
def test_two_processes_equal_one_on_one_core(tmp_path):
    options = ("--config.grid=()", "--config.tune.seeds=()")
    table, errors = finish(tmp_path / "two", *options, "--processes=2", cores=CORES[:2])
    wanted, _ = finish(tmp_path / "one", *options, cores=CORES[:1])
    assert table == wanted
    assert errors == ""
    one, two = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")
    )
    assert (two.pop("affinity"), one.pop("affinity")) == (CORES[:2], CORES[:1])
    assert "--processes=2" in two.pop("command")
    for name in ("seconds", "sha256", "command"):
        one.pop(name), two.pop(name, None)
    assert one == two  # the hash of the table among them
    assert two["threads"] == 1
    assert two["environment_changes"] == []


@needs_two_cores
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sweep_of_several_processes_may_be_killed_in_any_way(tmp_path):
    """A worker is killed, then the parent gets SIGTERM, then the parent is killed."""
    epochs = "--config.base.epochs=60"
    options = (epochs, "--processes=2")
    undisturbed, _ = finish(tmp_path / "undisturbed", epochs, cores=CORES[:1])
    workdir = tmp_path / "sweep"
    ends = []
    for moment, number in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL)):
        before = saves(workdir)
        with sweep(workdir, *options, cores=CORES[:2]) as life:
            life.wait_for(lambda before=before: saves(workdir) - before)
            workers = children(life.pid)
            assert len(workers) == 2
            os.kill(workers[1] if moment == 0 else life.pid, number)
            ends.append((life.wait(), life.errors()))
            wait_for_end(workers)
        assert not (workdir / "summary.json").exists()
    codes, errors = zip(*ends, strict=True)
    assert codes == (128 + signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGKILL)
    assert errors == (
        "stopped by SIGKILL in one of several processes, perhaps because memory ran out: fewer "
        "processes need less; the same command resumes\n",
        "stopping after the current steps; send the signal again to stop at once\n"
        "stopped by SIGTERM inside a block; the same command resumes from its last checkpoint\n",
        "",
    )
    table, errors = finish(workdir, *options, cores=CORES[:2])
    assert table == undisturbed
    assert errors == ""


def saves(workdir):
    """Returns the checkpoints and the finished blocks."""
    found = (
        (workdir / "blocks").glob("*/*/checkpoints/[0-9]*"),
        (workdir / "blocks").glob("*/*.json"),
    )
    return {str(path) for paths in found for path in paths}


@needs_two_cores
@pytest.mark.slow
def test_error_of_a_worker_is_reported_once(tmp_path):
    """The file is in the place of the second block's checkpoints."""
    blocker = tmp_path / "blocks" / "tune-0" / "2" / "checkpoints"
    blocker.parent.mkdir(parents=True)
    blocker.write_text("mine")
    with sweep(tmp_path, "--processes=2") as life:
        assert life.wait() == 2
        (line,) = life.errors().splitlines()
    assert line.startswith(f"error: {blocker} cannot be used (it is not a directory); ")
    assert not (tmp_path / "summary.json").exists()


def test_cores_are_divided_equally(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 3, 4, 6, 7})
    assert pool.cores_of_workers(1) == [[1, 3, 4, 6, 7]]
    assert pool.cores_of_workers(2) == [[1, 3], [4, 6]]  # equal, so that the bits are equal
    assert pool.cores_of_workers(5) == [[1], [3], [4], [6], [7]]


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        (0, r"^--processes=0 must be at least 1$"),
        (-1, r"^--processes=-1 must be at least 1$"),
        (3, r"^--processes=3 is more than the 2 cores that this process may use; pass at most --p"),
    ],
)
def test_impossible_numbers_of_processes_are_refused(monkeypatch, processes, message):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    with pytest.raises(UserError, match=message):
        pool.cores_of_workers(processes)


def test_accelerator_is_refused(monkeypatch):
    class Device:
        platform = "tpu"

    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    with pytest.raises(
        UserError, match=r"^--processes=2 needs a CPU, but this sweep runs on a tpu,"
    ):
        pool.cores_of_workers(2)
