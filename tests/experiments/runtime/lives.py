"""The train and sweep commands in processes of their own, to kill, stop, or join them in tests."""

import json
import os
import tempfile
import time
from pathlib import Path

from tests import commands

TIMEOUT_SECONDS = 240

# A fully connected network on the digits: 89 steps per epoch, in dispatches of 4.
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

# 4 tuning trials and 4 final ones, in 4 blocks, of networks that are as narrow.
SMALL_SWEEP = (
    "--config=tests/experiments/sweeping/small_config.py",
    "--config.base.log_every_steps=4",
)
# A small run of every other task, whose epochs take about a second.
OTHER_TASKS = {
    "language_model": (
        "--config=configs/language_model.py",
        "--config.batch_size=1024",
        "--config.eval_batch_size=4096",
        "--config.log_every_steps=8",
        "--config.data.context_length=8",
        "--config.model.num_layers=1",
        "--config.model.num_heads=2",
        "--config.model.width=8",
        "--config.model.dropout_rate=0.1",
    ),
    "gan": (
        "--config=configs/gan_mnist.py",
        "--config.data.name=digits",
        "--config.batch_size=32",
        "--config.eval_batch_size=360",
        "--config.log_every_steps=4",
        "--config.model.width_multiplier=0.05",
    ),
    "linear_regression": (
        "--config=configs/linear_regression.py",
        "--config.batch_size=1",
        "--config.log_every_steps=4",
    ),
}
COMMANDS = {"experiments.train": SMALL, "experiments.sweep": SMALL_SWEEP}


class Life:
    """One process of a run; a context manager that leaves no process behind.

    Args:
      workdir: directory of the run.
      *options: flags of the command, beyond those in `COMMANDS`.
      devices: number of virtual CPU devices.
      command: a key of `COMMANDS`.
      task: a key of `OTHER_TASKS`, or None for the classification of `COMMANDS`.
      cores: the cores to which the process is pinned, or None.
    """

    def __init__(
        self,
        workdir,
        *options,
        devices=1,
        command="experiments.train",
        task=None,
        cores=None,
    ):
        self.workdir = Path(workdir)
        self._logs = tempfile.TemporaryDirectory(prefix="life-")
        self.out, self.err = (Path(self._logs.name) / name for name in ("out", "err"))
        self._errors = ""
        small = OTHER_TASKS[task] if task else COMMANDS[command]
        self._command = [command, *small, f"--workdir={self.workdir}", *options]
        self._devices = f"--xla_force_host_platform_device_count={devices}"
        self._cores = cores

    def __enter__(self):
        self._process = commands.start(
            *self._command,
            out=self.out,
            err=self.err,
            cores=self._cores,
            XLA_FLAGS=f"{commands.FAST} {self._devices}",
        )
        return self

    def __exit__(self, *error):
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._errors = self.errors()
        self._logs.cleanup()

    @property
    def pid(self):
        return self._process.pid

    def alive(self):
        return self._process.is_alive()

    def send(self, signal):
        assert self.alive(), self.errors()
        os.kill(self._process.pid, signal)

    def wait(self, timeout=TIMEOUT_SECONDS):
        """Returns the exit code, or minus the number of the signal that killed the process."""
        self._process.join(timeout)
        assert not self.alive(), f"still running after {timeout} s"
        return self._process.exitcode

    def wait_for(self, condition, timeout=TIMEOUT_SECONDS):
        """Waits until `condition()` is true, and checks it every millisecond."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert self.alive(), self.errors()
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def wait_for_epoch(self):
        """Waits until the run reports an epoch after those in its `metrics.jsonl` now."""
        epochs = num_epochs(self.workdir)
        self.wait_for(lambda: num_epochs(self.workdir) > epochs)

    def errors(self):
        """Returns the standard error of the process."""
        return self.err.read_text() if self.err.exists() else self._errors

    def last_line(self):
        return self.errors().splitlines()[-1]


def train(workdir, *options, devices=1, task=None):
    """Runs the command to its end, and returns its exit code and standard error."""
    with Life(workdir, *options, devices=devices, task=task) as life:
        return life.wait(), life.errors()


def result(workdir):
    """Returns what must not change by a single bit: the parameters' hash and `metrics.jsonl`."""
    summary = json.loads((workdir / "summary.json").read_text())
    return summary["params_sha256"], (workdir / "metrics.jsonl").read_bytes()


def num_epochs(workdir):
    """Returns the number of epochs in `metrics.jsonl`."""
    file = workdir / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def saved_steps(workdir):
    """Returns the steps of the committed checkpoints, oldest first."""
    names = [path.name for path in (workdir / "checkpoints").glob("*")]
    return sorted(int(name) for name in names if name.isdecimal())


def is_saving(workdir):
    """Returns whether a save is in progress, or was when the process was killed."""
    return any("orbax-checkpoint-tmp" in path.name for path in (workdir / "checkpoints").glob("*"))
