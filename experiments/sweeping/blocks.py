"""Cuts the trials of a stage into blocks, and trains a block in this process."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from experiments.build.sweeps import Sweep
from experiments.errors import Stopped
from experiments.program import averaging, parallel
from experiments.program.state import TrainState
from experiments.program.steps import Examples, pieces
from experiments.runtime.checkpoint import Checkpointer, Record, Unusable
from experiments.sweeping import store, trials
from experiments.sweeping.plan import Trial
from experiments.sweeping.store import BlockResult

Received = Callable[[], int | None]  # returns the signal that asks the sweep to stop, or None
Advance = Callable[[int], object]  # called with the number of steps that were made

# On a CPU, a trial gains nothing from the others of its block. Small blocks divide well among
# processes and shards. Single trials would spend more time on files.
CPU_TRIALS = 5
CPU_STATE_BYTES = 2**30  # of all trials of a block
INSIDE = "inside a block; the same command resumes from its last checkpoint"


class Job(NamedTuple):
    """A block: some trials of one program, which run together.

    Attributes:
      file: the file of its result.
      trials: its trials.
      block_size: trials per block of its group; the last block may have fewer.
    """

    file: epath.Path
    trials: Sequence[Trial]
    block_size: int

    @property
    def name(self) -> str:
        """The name of the block in its sweep, such as "tune-0/4.json"."""
        return f"{self.file.parent.name}/{self.file.name}"


def cut(
    stage: str,
    of_stage: Sequence[Trial],
    directory: epath.Path,
    size_of: Callable[[Sequence[Trial]], int],
) -> list[Job]:
    """Cuts a stage into blocks, and stores their sizes.

    Args:
      stage: its name, with which the names of its directories begin.
      of_stage: its trials.
      directory: directory of the sweep.
      size_of: returns the trials per block of a group, the trials of one program, if the group has
        not been started.

    Returns:
      The blocks, group by group.

    Raises:
      UserError: a file cannot be read or written.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in of_stage:
        groups.setdefault(trials.program_of(trial.experiment), []).append(trial)
    jobs = []
    for index, group in enumerate(groups.values()):
        place = directory / "blocks" / f"{stage}-{index}"
        size = store.read_block_size(place, group)
        if size is None:
            size = size_of(group)
            store.write_block_size(place, group, size)
        for number, file in enumerate(store.block_files(place, len(group), size)):
            jobs.append(Job(file, group[number * size : (number + 1) * size], size))
    return jobs


def size_on_cpu(num_trials: int, state_bytes: int, num_devices: int) -> int:
    """Returns the trials per block on a CPU, which depend on nothing but the sweep.

    Args:
      num_trials: trials of a group.
      state_bytes: bytes of the state of one trial.
      num_devices: devices that share the trials.

    Returns:
      A number that divides `num_trials` among one device, so that all blocks share a program.

    >>> [size_on_cpu(number, 1000, 1) for number in (3, 25, 28, 31)]
    [3, 5, 4, 1]
    >>> size_on_cpu(28, 300_000_000, 1), size_on_cpu(40, 1000, 8)
    (2, 40)
    """
    fits = max(1, min(CPU_TRIALS, CPU_STATE_BYTES // state_bytes))
    per_device = -(-num_trials // num_devices)
    return num_devices * max(size for size in range(1, fits + 1) if per_device % size == 0)


class Trainer:
    """Trains blocks in this process. The blocks of a program share what was compiled.

    Args:
      sweep: the sweep.
      received: returns the signal that asks to stop.
    """

    def __init__(self, sweep: Sweep, received: Received) -> None:
        self._sweep = sweep
        self._received = received
        self._mesh = trials.make_mesh()
        self._made: dict[str, trials.TrialPrograms] = {}
        self._ready_program = ""
        self._data: tuple[Examples, Examples]

    def block_size(self, group: Sequence[Trial]) -> int:
        """Returns the trials per block of a group, the trials of one program."""
        if self._sweep.block_size:
            return self._sweep.block_size
        if self._mesh.devices.flat[0].platform == "cpu":
            shapes = jax.eval_shape(self._programs(group).init, _make_block(group[:1], self._mesh))
            state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
            return size_on_cpu(len(group), state_bytes // self._mesh.size, self._mesh.size)
        programs, (train, _) = self._programs(group), self._splits(group)
        fits = trials.block_size_that_fits(
            programs, _make_block(group, self._mesh), train, num_devices=self._mesh.size
        )
        return min(len(group), fits)

    def train(self, job: Job, advance: Advance) -> None:
        """Trains a block, and stores its result.

        Args:
          job: the block.
          advance: called with the steps of all its trials that were made.

        Raises:
          Stopped: a signal asked to stop.
          UserError: a file cannot be read or written.
        """
        programs, (train, test) = self._programs(job.trials), self._splits(job.trials)
        result = _train(
            self._sweep, job, programs, train, test, self._mesh, self._received, advance
        )
        store.write_block(job.file, job.trials, result, block_size=job.block_size)
        job.file.with_suffix("").rmtree(missing_ok=True)

    def _programs(self, group: Sequence[Trial]) -> trials.TrialPrograms:
        """Returns the programs of some trials, made once."""
        program = trials.program_of(group[0].experiment)
        if program not in self._made:
            batched = trials.batched_on(self._mesh.devices.flat[0].platform)
            made = trials.make_programs(group[0].experiment, self._mesh, batched)
            self._made[program] = made
        return self._made[program]

    def _splits(self, group: Sequence[Trial]) -> tuple[Examples, Examples]:
        """Returns the data of some trials on the devices, kept until the program changes."""
        experiment = group[0].experiment
        program = trials.program_of(experiment)
        if program != self._ready_program:
            data = experiment.task.load()
            train, test = (
                parallel.to_devices(split, trials.replicated(self._mesh))
                for split in (data.train, data.test)
            )
            self._data, self._ready_program = (train, test), program
        return self._data


def _train(
    sweep: Sweep,
    job: Job,
    programs: trials.TrialPrograms,
    train: Examples,
    test: Examples,
    mesh: Mesh,
    received: Received,
    advance: Advance,
) -> BlockResult:
    """Runs the trials of one block to their end, from its newest checkpoint if there is one."""
    block_trials = job.trials
    experiment = block_trials[0].experiment
    steps_per_epoch, num_steps = experiment.steps_per_epoch, experiment.num_steps
    block = _make_block(block_trials, mesh)
    learning_rates = np.asarray(block.learning_rates)
    with Checkpointer(
        job.file.with_suffix(""), max_to_keep=1, config_sha256=store.fingerprint(block_trials)
    ) as checkpointer:
        restored = _restore(checkpointer, jax.eval_shape(programs.init, block))
        state, record = restored or (programs.init(block), {"history": []})
        history = record["history"]
        first_step = int(history[-1]["step"]) if history else 0
        advance(first_step * len(block_trials))
        for start, stop in pieces(first_step, num_steps, steps_per_epoch):
            started = time.monotonic()
            train_metrics = []
            orders = programs.order(state)
            for first, end in pieces(start, stop, experiment.log_every_steps):
                signal = received()
                if signal:
                    raise Stopped(signal, INSIDE)
                count = parallel.count(end - first, trials.replicated(mesh))
                state, metrics = programs.train(state, block, train, orders, count)
                train_metrics.append(jax.device_get(metrics))
                advance((end - first) * len(block_trials))
            evaluated = averaging.evaluate(
                _averages_of_any(block_trials, stop),
                state,
                train,
                test,
                evaluate=programs.evaluate,
                statistics=programs.statistics,
            )
            history.append(
                {
                    "step": stop,
                    "epoch": stop / steps_per_epoch,
                    "learning_rate": learning_rates[:, stop - 1].tolist(),
                    **trials.means({"train": train_metrics}),
                    **trials.means(
                        {split: [metrics] for split, metrics in jax.device_get(evaluated).items()}
                    ),
                    "seconds": round(time.monotonic() - started, 3),
                }
            )
            epoch = -(-stop // steps_per_epoch)
            if epoch % sweep.checkpoint_every_epochs == 0 and stop < num_steps:
                checkpointer.save(stop, state, {"history": history})
    return BlockResult(
        store.make_rows(block_trials, history), sum(record["seconds"] for record in history)
    )


def _restore(checkpointer: Checkpointer, shapes: TrainState) -> tuple[TrainState, Record] | None:
    """Restores the checkpoint of a block, or deletes it if it cannot be used."""
    try:
        return checkpointer.restore_latest(shapes)
    except Unusable as error:
        print(f"warning: {error.reason}; the block begins anew", file=sys.stderr)
        checkpointer.delete_all()
        return None


def _averages_of_any(block_trials: Sequence[Trial], step: int) -> list[str]:
    """Returns the averages of the weights that at least one of some trials has after a step."""
    found = [store.averages_after(trial, step) for trial in block_trials]
    return list(dict.fromkeys(name for of_trial in found for name in of_trial))


def _make_block(block_trials: Sequence[Trial], mesh: Mesh) -> trials.Block:
    """Returns the block of some trials, with the last one repeated until the devices share it."""
    padding = [block_trials[-1]] * (-len(block_trials) % mesh.size)
    return trials.make_block([trial.experiment for trial in [*block_trials, *padding]])
