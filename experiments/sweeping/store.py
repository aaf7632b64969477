"""The files of a sweep: its environment, the size of its blocks, and the rows of each block.

Each file is sealed. The files of a block name the trials that they belong to by the hash of their
configs. A file that is damaged, or belongs to other trials, is reported and not used.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from experiments import sealed
from experiments.errors import UserError
from experiments.runtime import workdir
from experiments.runtime.environment import (
    Change,
    Environment,
    changed,
    record_change,
)
from experiments.runtime.workdir import write_atomically
from experiments.sweeping.plan import Trial
from experiments.sweeping.shard import Shard

Rows = list[dict[str, Any]]


class BlockResult(NamedTuple):
    """The result of a block: one row per trial and epoch, and the seconds it took."""

    rows: Rows
    seconds: float


def fingerprint(trials: Sequence[Trial]) -> str:
    """Returns a hash of what trials are: their phase, setting, and config."""
    names = [[trial.phase, trial.setting, dict(trial.values)] for trial in trials]
    configs = workdir.fingerprint([trial.experiment.config for trial in trials])
    return sealed.digest([names, configs])


def enter(
    directory: epath.Path, here: Environment, share: str, *, require_same: bool
) -> list[Change]:
    """Stores the environment of a sweep, and compares it with that of its earlier starts.

    Args:
      directory: directory of the sweep.
      here: the environment of this process, or of its workers.
      share: suffix of this process's shard, which has a file of its own; "" for the whole sweep.
      require_same: whether to refuse an environment that may compute other bits.

    Returns:
      The changes of the environment since the sweep, or the shard, was started first.

    Raises:
      UserError: the environment is refused.
    """
    file = directory / f"environment{share}.json"
    # The whole sweep may have been started before its shards were.
    before = file if file.exists() else directory / "environment.json"
    changes: list[Change] = []
    if before.exists():
        try:
            stored = sealed.loads(workdir.read_text(before))
            difference = changed(stored["environment"], here)
            changes = stored["environment_changes"]
        except (ValueError, KeyError):
            difference = {"environment.json": ["damaged", "replaced"]}
        changes = record_change(
            changes, difference, step=0, what="earlier trials", require_same=require_same
        )
    content = {"environment": here, "environment_changes": changes}
    write_atomically(file, sealed.dumps(content, indent=2))
    return changes


def changes_of_all(
    directory: epath.Path, here: Environment, changes: Sequence[Change]
) -> list[Change]:
    """Adds the changes of all shards that were started in a directory.

    Args:
      directory: directory of the sweep.
      here: the environment of this process, or of its workers.
      changes: the result of `enter`.

    Returns:
      The changes, each once. A shard whose environment differs from `here` counts as a change.
    """
    found = list(changes)
    for file in sorted(directory.glob("environment*.json")):
        try:
            stored = sealed.loads(workdir.read_text(file))
            theirs = list(stored["environment_changes"])
            difference = changed(stored["environment"], here)
        except (ValueError, KeyError):
            theirs, difference = [], {file.name: ["damaged", "ignored"]}
        if difference:
            theirs.append({"step": 0, "changed": difference})
        found += [change for change in theirs if change not in found]
    return found


def write_shard(
    directory: epath.Path,
    share: Shard,
    jobs: Sequence[tuple[str, Sequence[Trial], int]],
    content: Mapping[str, Any],
) -> None:
    """Writes the record of a shard whose trials are done, with which a report merges shards.

    Args:
      directory: directory of the sweep.
      share: the shard.
      jobs: name, trials, and shard of each block of the whole sweep, in the order of its table.
      content: what the summary of the sweep says, its config, and the shard's environment.
    """
    blocks = [
        {"name": name, "trials": fingerprint(of), "num_trials": len(of), "shard": owner}
        for name, of, owner in jobs
    ]
    file = directory / f"shard{share.suffix}.json"
    record = {**content, "shard": list(share), "blocks": blocks}
    write_atomically(file, sealed.dumps(record, indent=2))


def read_block_size(directory: epath.Path, trials: Sequence[Trial]) -> int | None:
    """Returns the number of trials per block that a group of trials was started with.

    Args:
      directory: directory of the group.
      trials: the trials of the group.

    Returns:
      The number, or None if the group has not been started. If the plan is damaged, the number is
      that of a finished block, or None if there is none.

    Raises:
      UserError: a file cannot be read.
    """
    plan = directory / "plan.json"
    if not plan.exists():
        return None
    try:
        return _read(plan, trials, "block_size")["block_size"]
    except ValueError as error:
        _warn(plan, error, "taking the size of the blocks from finished ones, or anew")
    for start in range(len(trials)):
        file = directory / f"{start}.json"
        if not file.exists():
            continue
        try:
            block_size = sealed.loads(workdir.read_text(file))["block_size"]
            _read(file, trials[start : start + block_size], "rows")
        except (ValueError, KeyError, TypeError):
            continue  # reported when the block is read
        return block_size
    return None


def write_block_size(directory: epath.Path, trials: Sequence[Trial], block_size: int) -> None:
    """Stores the number of trials per block of a group of trials.

    Args:
      directory: directory of the group.
      trials: the trials of the group.
      block_size: the number.

    Raises:
      UserError: the directory cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # such as a file in place of a directory
        raise UserError(
            f"{directory} cannot be created ({error.strerror}); move what is in its place away, or "
            f"pass another --workdir"
        ) from error
    _write(directory / "plan.json", trials, {"block_size": block_size})


def block_files(directory: epath.Path, num_trials: int, block_size: int) -> list[epath.Path]:
    """Returns the file of each block of a group of trials.

    >>> [file.name for file in block_files(epath.Path("blocks"), 5, 2)]
    ['0.json', '2.json', '4.json']
    """
    return [directory / f"{start}.json" for start in range(0, num_trials, block_size)]


def read_block(
    file: epath.Path, trials: Sequence[Trial], *, is_own: bool = True
) -> BlockResult | None:
    """Returns the result of a finished block.

    Args:
      file: the file of the block.
      trials: the trials of the block.
      is_own: whether this process trains the block if it is not finished, for the warning.

    Returns:
      The result, or None if the block is not finished, or its file is damaged, with a warning.

    Raises:
      UserError: the file cannot be read.
    """
    if not file.exists():
        return None
    try:
        content = _read(file, trials, "rows")
    except ValueError as error:
        again = "running its trials again" if is_own else "its shard must run its trials again"
        _warn(file, error, again)
        return None
    return BlockResult(content["rows"], content["seconds"])


def write_block(
    file: epath.Path, trials: Sequence[Trial], result: BlockResult, *, block_size: int
) -> None:
    """Writes the result of a finished block.

    Args:
      file: the file of the block.
      trials: the trials of the block.
      result: their result.
      block_size: trials per block of the group; the last block may have fewer.
    """
    content = {"block_size": block_size, "seconds": result.seconds, "rows": result.rows}
    _write(file, trials, content)


def _write(file: epath.Path, trials: Sequence[Trial], content: dict[str, Any]) -> None:
    write_atomically(file, sealed.dumps({"trials": fingerprint(trials), **content}))


def _read(file: epath.Path, trials: Sequence[Trial], needed: str) -> dict[str, Any]:
    """Reads a file of some trials; raises ValueError if it is damaged or belongs to others."""
    content = sealed.loads(workdir.read_text(file))
    if content.get("trials") != fingerprint(trials) or needed not in content:
        raise ValueError("it belongs to other trials")
    return content


def _warn(file: epath.Path, reason: Exception, action: str) -> None:
    print(f"warning: {file} is damaged ({reason}); {action}", file=sys.stderr)


def averages_after(trial: Trial, step: int) -> list[str]:
    """Returns the averages of the weights that a trial has after a number of updates."""
    experiment = trial.experiment
    return experiment.averaging.names_after(step, experiment.steps_per_epoch)


def make_rows(trials: Sequence[Trial], history: Sequence[dict[str, Any]]) -> Rows:
    """Returns the rows of a block's trials, one per trial and epoch.

    Args:
      trials: the trials of the block.
      history: one record per epoch, whose curves have one value per trial.

    Returns:
      The rows; a value that is not finite is None, and marks the trial as diverged from then on. An
      average of the weights has None before it begins, and marks nothing.
    """
    return [row for index, trial in enumerate(trials) for row in _trial_rows(trial, index, history)]


def _trial_rows(trial: Trial, index: int, history: Sequence[dict[str, Any]]) -> Rows:
    task, kept = trial.experiment.task, trial.experiment.averaging.names
    names = ["learning_rate", *(f"test_{name}" for name in task.metrics)]
    # Training may lack metrics of evaluation, as in a GAN.
    names[1:1] = [f"train_{name}" for name in task.metrics if f"train_{name}" in history[0]]
    averaged = {f"test_{kind}_{name}": kind for kind in kept for name in task.metrics}
    rows: Rows = []
    diverged = False
    for record in history:
        curves = {name: record[name][index] for name in names}
        diverged |= not all(math.isfinite(value) for value in curves.values())
        begun = averages_after(trial, record["step"])
        for name, kind in averaged.items():
            curves[name] = record[name][index] if kind in begun else math.nan
        rows.append(
            {
                "phase": trial.phase,
                "setting": trial.setting,
                "seed": trial.experiment.seed,
                "data": task.data,
                "model": task.model,
                **trial.values,
                "epoch": record["epoch"],
                "step": record["step"],
                **{name: value if math.isfinite(value) else None for name, value in curves.items()},
                "diverged": diverged,
            }
        )
    return rows
