"""The files of a sweep: its environment, the size of its blocks, and the rows of each block."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from etils import epath

from experiments.runtime.environment import (
    Change,
    Environment,
    changed,
    environment,
    record_change,
)
from experiments.runtime.workdir import write_atomically
from experiments.sweeping.plan import Trial

Rows = list[dict[str, Any]]
SPLITS = ("train", "test")


class BlockResult(NamedTuple):
    """The result of a block: one row per trial and epoch, and the seconds it took."""

    rows: Rows
    seconds: float


def enter(directory: epath.Path, *, require_same: bool) -> tuple[Environment, list[Change]]:
    """Stores the environment of a sweep, and compares it with that of its earlier starts.

    Args:
      directory: directory of the sweep.
      require_same: whether to refuse an environment that may compute other bits.

    Returns:
      The environment, and its changes since the sweep was started first.

    Raises:
      UserError: the environment is refused.
    """
    file = directory / "environment.json"
    here = environment()
    changes: list[Change] = []
    if file.exists():
        try:
            stored = json.loads(file.read_text())
            difference = changed(stored["environment"], here)
            changes = list(stored["environment_changes"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            difference = {"environment.json": ["damaged", "replaced"]}
        changes = record_change(
            changes, difference, step=0, what="earlier trials", require_same=require_same
        )
    content = {"environment": here, "environment_changes": changes}
    write_atomically(file, json.dumps(content, indent=2) + "\n")
    return here, changes


def read_block_size(directory: epath.Path) -> int | None:
    """Returns the number of trials per block that a group of trials was started with, or None."""
    file = directory / "plan.json"
    return json.loads(file.read_text())["block_size"] if file.exists() else None


def write_block_size(directory: epath.Path, block_size: int) -> None:
    """Stores the number of trials per block of a group of trials."""
    directory.mkdir(parents=True, exist_ok=True)
    write_atomically(directory / "plan.json", json.dumps({"block_size": block_size}) + "\n")


def block_files(directory: epath.Path, num_trials: int, block_size: int) -> list[epath.Path]:
    """Returns the file of each block of a group of trials.

    >>> [file.name for file in block_files(epath.Path("blocks"), 5, 2)]
    ['0.json', '2.json', '4.json']
    """
    return [directory / f"{start}.json" for start in range(0, num_trials, block_size)]


def read_block(file: epath.Path) -> BlockResult | None:
    """Returns the result of a finished block, or None."""
    if not file.exists():
        return None
    content = json.loads(file.read_text())
    return BlockResult(content["rows"], content["seconds"])


def write_block(file: epath.Path, result: BlockResult) -> None:
    """Writes the result of a finished block."""
    write_atomically(file, json.dumps({"seconds": result.seconds, "rows": result.rows}) + "\n")


def make_rows(trials: Sequence[Trial], history: Sequence[dict[str, Any]]) -> Rows:
    """Returns the rows of a block's trials, one per trial and epoch.

    Args:
      trials: the trials of the block.
      history: one record per epoch, whose curves have one value per trial.

    Returns:
      The rows; a value that is not finite is None, and marks the trial as diverged from then on.
    """
    return [row for index, trial in enumerate(trials) for row in _trial_rows(trial, index, history)]


def _trial_rows(trial: Trial, index: int, history: Sequence[dict[str, Any]]) -> Rows:
    task = trial.experiment.task
    names = ["learning_rate", *(f"{split}_{name}" for split in SPLITS for name in task.metrics)]
    rows: Rows = []
    diverged = False
    for record in history:
        curves = {name: record[name][index] for name in names}
        diverged |= not all(math.isfinite(value) for value in curves.values())
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
