"""Lists the directories of runs and sweeps, with their method, result, and state."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.errors import UserError
from experiments.results import integrity, tables
from experiments.results.described import Task, read_json, read_summary, task_of

FINISHED, RUNNING, STOPPED, FAILED = "finished", "running", "stopped", "failed"
DAMAGED = "damaged"


class Listed(NamedTuple):
    """A directory of a run or a sweep.

    Attributes:
      directory: its path.
      kind: "run" or "sweep".
      method: schedule and optimizer of a run, or the number of settings of a sweep.
      result: the objective at the end of a run, the number of trials of a sweep, or how far an
        unfinished run has come.
      state: "finished"; "failed" if it finished, but diverged; "running"; "stopped" if no process
        works on it, so that the same command resumes it; or "damaged".
    """

    directory: str
    kind: str
    method: str
    result: str
    state: str


def listed(directory: Path, in_use: Callable[[Path], bool]) -> list[Listed]:
    """Returns what stands in a directory and below it, sorted by path.

    Args:
      directory: a directory that has directories of runs and sweeps, or is one.
      in_use: returns whether a process works on a directory.

    Returns:
      One entry per run or sweep.

    Raises:
      UserError: there is no such directory.
    """
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory; pass one that has runs, such as runs/")
    return [_describe(found, in_use) for found in _find(directory)]


def _find(directory: Path) -> list[Path]:
    """Returns the directories that have a config, without those inside of another one."""
    found = []
    for place, folders, files in os.walk(directory):
        folders.sort()
        if "config.json" in files:
            found.append(Path(place))
            folders.clear()
    return found


def _describe(directory: Path, in_use: Callable[[Path], bool]) -> Listed:
    kind = "run"
    try:
        config = read_json(directory / "config.json")
        kind = "sweep" if "settings" in config else "run"
        method = _method(config)
        file = directory / "summary.json"
        if not file.exists():
            result = _progress(directory, config) if kind == "run" else _blocks(directory)
            state = RUNNING if in_use(directory) else STOPPED
            return Listed(str(directory), kind, method, result, state)
        integrity.check(directory)
        summary = read_summary(file, kind)
        if kind == "sweep":
            diverged = f" ({summary['diverged']} diverged)" if summary.get("diverged") else ""
            result = f"{summary['trials']} trials{diverged}"
            return Listed(str(directory), kind, method, result, FINISHED)
        state = FAILED if summary.get("diverged") else FINISHED
        result = _objective(task_of(file, summary), summary)
    except (UserError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        return Listed(str(directory), kind, tables.EMPTY, reason, DAMAGED)
    return Listed(str(directory), kind, method, result, state)


def _method(config: Mapping[str, Any]) -> str:
    if "settings" in config:
        return f"{len(config['settings'])} settings"
    optimizer = config["optimizer"]["name"]
    return config["schedule"]["name"] + ("" if optimizer == "sgd" else f" ({optimizer})")


def _objective(task: Task, summary: Mapping[str, Any]) -> str:
    metric = task.metrics[task.objective]
    value = summary[f"test_{metric.name}"]
    unit = "%" if metric.percent else ""
    text = "not finite" if value is None else f"{tables.shown(value, metric)}{unit}"
    return f"{metric.label} {text} on {summary['data']}"


def _progress(directory: Path, config: Mapping[str, Any]) -> str:
    file = directory / "metrics.jsonl"
    epochs = len(file.read_text().splitlines()) if file.exists() else 0
    return f"{epochs} of {config['epochs']:g} epochs"


def _blocks(directory: Path) -> str:
    return f"{len(list((directory / 'blocks').glob('*/[0-9]*.json')))} blocks done"
