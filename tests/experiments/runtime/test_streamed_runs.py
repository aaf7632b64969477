"""Runs that read their data from disk survive kills, and several processes share the reading."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.experiments.runtime.lives import Life, result, train
from tests.experiments.runtime.streamed import write_small
from tests.experiments.runtime.test_processes import two

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DIED_SECONDS = 10


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Returns a function from `data.loading` to the flags of a run on a small data set."""
    root = tmp_path_factory.mktemp("root")
    write_small(root)

    def of(loading, *others):
        workers = ("--config.data.workers=2",) if loading == "stream" else ()
        return (
            *("--config.data.name=my_own", f"--config.data.data_dir={root}"),
            *("--config.epochs=30.5", "--config.log_every_steps=2", "--config.batch_size=8"),
            *(f"--config.data.loading={loading}", *workers, *others),
        )

    return of


@pytest.fixture(scope="module")
def in_memory(options, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("memory")
    assert train(workdir, *options("memory"))[0] == 0
    return result(workdir)


def children():
    """Returns the process ids of the workers of all runs on this machine, by their parent."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
            command = (status.parent / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if b"spawn_main" in command and not fields["State"].startswith("Z"):
            found.setdefault(int(fields["PPid"]), []).append(int(status.parent.name))
    return found


def test_killed_run_resumes_to_the_result_in_memory_and_its_workers_die(
    options, in_memory, tmp_path
):
    rng = random.Random(0)
    for _ in range(2):
        with Life(tmp_path, *options("stream")) as life:
            life.wait_for_epoch()
            time.sleep(rng.uniform(0, 0.2))
            workers = children()[life._process.pid]
            assert len(workers) >= 2
            life.send(signal.SIGKILL)
            assert life.wait() == -signal.SIGKILL
        deadline = time.monotonic() + DIED_SECONDS
        while any(os.path.exists(f"/proc/{worker}") for worker in workers):
            assert time.monotonic() < deadline, "workers outlive the run"
            time.sleep(0.01)
    code, errors = train(tmp_path, *options("stream"))
    assert code == 0, errors
    assert "leaked" not in errors
    assert result(tmp_path) == in_memory


def test_two_processes_each_read_their_share(options, tmp_path):
    few = ("--config.epochs=2.5", "--config.eval_batch_size=4")
    results = []
    for loading in ("memory", "stream"):
        with two(tmp_path / loading, *options(loading, *few)) as lives:
            assert [life.wait() for life in lives] == [0, 0], lives[1].errors()
        results.append(result(tmp_path / loading))
    assert results[0] == results[1]
