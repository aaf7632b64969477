"""Lives of a run: the command as a process of its own that starts in a moment.

A server that has imported everything is forked for each of them; no backend is there before.
"""

import json
import multiprocessing
import os
import runpy
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # whose notices the server would print
TIMEOUT_SECONDS = 120
# The seconds that importing these takes are saved in every life.
IMPORTED = ("experiments.run", "clu.metric_writers", "tensorflow", "sklearn.datasets")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.lives", *IMPORTED])

# Fully connected, on digits: 89 steps an epoch, in dispatches of 4.
SMALL = (
    "--config=configs/quickstart.py",
    "--config.batch_size=16",
    "--config.log_every_steps=4",
    "--config.data.image_size=8",
    "--config.model.name=nn2",
    "--config.model.width_multiplier=0.02",
    "--config.model.attention.name=none",
)
STEPS_PER_EPOCH = 89


class Life:
    """One process of a run, to be used as a context that leaves no process behind."""

    def __init__(self, workdir, *options, devices=1):
        self.workdir = Path(workdir)
        self._logs = tempfile.TemporaryDirectory(prefix="life-")
        self.out, self.err = (Path(self._logs.name) / name for name in ("out", "err"))
        self._told = ""
        arguments = [*SMALL, f"--workdir={self.workdir}", *options]
        self._process = CONTEXT.Process(
            target=_live, args=(arguments, devices, str(self.out), str(self.err))
        )

    def __enter__(self):
        self._process.start()
        return self

    def __exit__(self, *error):
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._told = self.errors()
        self._logs.cleanup()

    def alive(self):
        return self._process.is_alive()

    def send(self, number):
        assert self.alive(), self.errors()
        os.kill(self._process.pid, number)

    def wait(self, timeout=TIMEOUT_SECONDS):
        """The exit code, or minus the number of the signal that killed it."""
        self._process.join(timeout)
        assert not self.alive(), f"still running after {timeout} s"
        return self._process.exitcode

    def wait_for(self, there, timeout=TIMEOUT_SECONDS):
        """Waits until `there()` holds, by the millisecond."""
        deadline = time.monotonic() + timeout
        while not there():
            assert self.alive(), self.errors()
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def errors(self):
        return self.err.read_text() if self.err.exists() else self._told

    def last_line(self):
        return self.errors().splitlines()[-1]


def live(workdir, *options, devices=1):
    """Runs the command to its end: its exit code and its standard error."""
    with Life(workdir, *options, devices=devices) as life:
        return life.wait(), life.errors()


def result(workdir):
    """What must be the same to the bit: the hash of the parameters, and the file of metrics."""
    summary = json.loads((workdir / "summary.json").read_text())
    return summary["params_sha256"], (workdir / "metrics.jsonl").read_bytes()


def saved_steps(workdir):
    """Steps of the checkpoints that are committed, oldest first."""
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    return sorted(int(name) for name in names if name.isdecimal())


def being_saved(workdir):
    """Whether a save is under way, or was when the run was killed."""
    return any("orbax-checkpoint-tmp" in path.name for path in (workdir / "checkpoints").glob("*"))


def _live(arguments, devices, out, err):
    """The process: the command as `python -m experiments.train` runs it."""
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream.fileno())
    # Compiling is most of a life; what runs for milliseconds need not be optimised.
    os.environ["XLA_FLAGS"] = (
        f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
    )
    sys.argv = ["experiments/train.py", *arguments]
    runpy.run_module("experiments.train", run_name="__main__", alter_sys=True)
