"""Reads finished runs and sweeps into one table with one row per trial and epoch."""

import functools
import json
import math
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from experiments.errors import UserError
from experiments.results import integrity

TRIAL = ["phase", "data", "model", "setting", "seed"]
PHASES = ("final", "tune")
DIRECTIONS = ("max", "min")
LAST_EPOCHS = 0.1


class Metric(NamedTuple):
    """A metric of a task, as `summary.json` describes it.

    Attributes:
      name: such as "loss".
      direction: "max" if higher is better, "min" if lower is better.
      percent: whether reports show the metric in percent.
    """

    name: str
    direction: str
    percent: bool

    @property
    def label(self) -> str:
        """The name in running text."""
        return self.name.replace("_", " ")

    @property
    def scale(self) -> float:
        """The factor from a value to the number that reports show."""
        return 100.0 if self.percent else 1.0


class Task(NamedTuple):
    """What a run or a sweep learned. Results of different tasks are never compared.

    Attributes:
      name: name of the task.
      metrics: metric name -> metric.
      objective: name of the metric that ranks trials.
    """

    name: str
    metrics: Mapping[str, Metric]
    objective: str

    def __str__(self) -> str:
        metrics = ", ".join(
            f"{metric.name} ({metric.direction}{', percent' if metric.percent else ''})"
            for metric in self.metrics.values()
        )
        return f"task {self.name}, metrics {metrics}, objective {self.objective}"


class Results(NamedTuple):
    """The results of runs and sweeps of one task.

    Attributes:
      rows: one row per trial and epoch, sorted. Its columns are `TRIAL`, the swept fields by their
        dotted names (NaN where a field was not swept), `curves`, `diverged`, and `source`.
      sources: one row per directory, with the columns `source`, `kind`, `command`, `trials`,
        `seconds`, `device`, and `versions`.
      metrics: metric name -> metric.
      objective: the metric that ranks trials.
    """

    rows: pd.DataFrame
    sources: pd.DataFrame
    metrics: Mapping[str, Metric]
    objective: Metric


def read(directories: Sequence[Path]) -> Results:
    """Reads any mix of runs and sweeps, in any order.

    Args:
      directories: the directories of single runs and sweeps, at least one.

    Returns:
      The results, independent of the order of the directories.

    Raises:
      UserError: a directory is not a finished run or sweep, a file is truncated or malformed, the
        directories differ in task, a trial appears twice, or trials cannot share a table.
    """
    parts, sources, tasks = [], [], {}
    for directory in sorted(directories):
        rows, source, task = _read_directory(directory)
        parts.append(rows.assign(source=str(directory)))
        sources.append({"source": str(directory), **source})
        tasks[directory] = task
    _check_tasks(tasks)
    rows = pd.concat(parts, ignore_index=True)
    swept = swept_fields(rows)
    rows = rows.sort_values([*TRIAL, *swept, "source", "step"], ignore_index=True)
    rows = rows[[*TRIAL, *swept, *curves(task.metrics), "diverged", "source"]]
    _check_trials(rows)
    return Results(rows, pd.DataFrame(sources), task.metrics, task.metrics[task.objective])


def curves(metrics: Mapping[str, Metric]) -> list[str]:
    """Returns the columns that change from epoch to epoch.

    >>> curves({"loss": Metric("loss", "min", False)})
    ['epoch', 'step', 'learning_rate', 'train_loss', 'test_loss']
    """
    return [
        "epoch",
        "step",
        "learning_rate",
        *(f"{s}_{m}" for s in ("train", "test") for m in metrics),
    ]


def swept_fields(rows: pd.DataFrame) -> list[str]:
    """Returns the columns named by a dotted config field, sorted."""
    return sorted(column for column in rows.columns if "." in column)


def per_trial(rows: pd.DataFrame, objective: str, direction: str) -> pd.DataFrame:
    """Summarizes each trial by its objective on the test split.

    Args:
      rows: one row per trial and epoch, with the columns `TRIAL`, the swept fields, `diverged`, and
        `test_<objective>`.
      objective: name of the metric.
      direction: "max" if higher is better, "min" if lower is better.

    Returns:
      One row per trial, sorted: `TRIAL`, the swept fields, `diverged`, `last` (mean over the last
      tenth of epochs), and `best` (best epoch). Both are NaN for a trial that diverged.
    """
    columns = [*TRIAL, *swept_fields(rows)]
    records = []
    for trial, epochs in rows.groupby(columns, dropna=False):
        values = epochs[f"test_{objective}"].to_numpy()
        diverged = bool(epochs.diverged.any())
        last = best = math.nan
        if not diverged:
            last = values[-last_epochs(len(values)) :].mean()
            best = values.max() if direction == "max" else values.min()
        summary = {"diverged": diverged, "last": last, "best": best}
        records.append({**dict(zip(columns, trial, strict=True)), **summary})
    return pd.DataFrame(records)


def last_epochs(epochs: int) -> int:
    """Returns the number of epochs in the last tenth, at least one.

    >>> [last_epochs(epochs) for epochs in (1, 10, 16, 100)]
    [1, 1, 2, 10]
    """
    return max(1, round(LAST_EPOCHS * epochs))


def _read_directory(directory: Path) -> tuple[pd.DataFrame, dict[str, Any], Task]:
    kinds = {"sweep": directory / "trials.csv", "run": directory / "metrics.jsonl"}
    kind = next((kind for kind, file in kinds.items() if file.exists()), None)
    lacking = "neither trials.csv (sweep) nor metrics.jsonl (run)"
    if kind is None and not (directory / "config.json").exists():
        raise UserError(f"{directory} is not the directory of a run or a sweep: it has {lacking}")
    if kind is None or not (directory / "summary.json").exists():
        lacking = lacking if kind is None else "no summary.json"
        raise UserError(f"{directory} is unfinished: it has {lacking}; run its command again")
    integrity.check(directory)
    extra = ("command", "trials") if kind == "sweep" else ("epochs", "steps", "data", "model")
    file = directory / "summary.json"
    summary = _read_fields(
        file,
        *("seconds", "device", "device_count", "versions", "task", "metrics", "objective"),
        *extra,
    )
    task = _task(file, summary)
    source = {
        "kind": kind,
        "command": summary.get("command", ""),
        "trials": summary.get("trials", 1),
        "seconds": summary["seconds"],
        "device": f"{summary['device_count']} × {summary['device']}",
        "versions": ", ".join(f"{name} {of}" for name, of in summary["versions"].items()),
    }
    if kind == "sweep":
        rows = _read_sweep(kinds["sweep"], curves(task.metrics), num_trials=summary["trials"])
    else:
        rows = _read_run(directory, curves(task.metrics), summary)
    return rows, source, task


def _task(file: Path, summary: Mapping[str, Any]) -> Task:
    """Returns the task that a `summary.json` describes."""
    try:
        metrics = {
            name: Metric(name, described["direction"], described["percent"])
            for name, described in summary["metrics"].items()
        }
        directions = (metric.direction for metric in metrics.values())
        unknown = next((found for found in directions if found not in DIRECTIONS), None)
        if unknown is not None:
            raise ValueError(f"direction {unknown!r}, not one of {', '.join(DIRECTIONS)}")
        return Task(summary["task"], metrics, metrics[summary["objective"]].name)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _broken(file, error) from error


def _read_run(directory: Path, curve_names: list[str], summary: Mapping[str, Any]) -> pd.DataFrame:
    """Reads the rows of a single run, which is named after its schedule and optimizer."""
    config = _read_fields(directory / "config.json", "optimizer.name", "schedule.name", "seed")
    optimizer = config["optimizer.name"]
    trial = {
        "phase": "final",
        "data": summary["data"],
        "model": summary["model"],
        "setting": config["schedule.name"] + ("" if optimizer == "sgd" else f" ({optimizer})"),
        "seed": config["seed"],
    }
    file = directory / "metrics.jsonl"
    try:
        records = [json.loads(line) for line in file.read_text().splitlines()]
        rows = pd.DataFrame(records)[curve_names].astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise _broken(file, error) from error
    epochs, num_steps = math.ceil(summary["epochs"]), summary["steps"]
    if (len(rows), rows.step.max()) != (epochs, num_steps):
        raise UserError(
            f"{file} is truncated: it has {len(rows)} epochs and ends at step "
            f"{rows.step.max():g}, but summary.json says {epochs} epochs and {num_steps} steps"
        )
    finite = rows.map(math.isfinite).all(axis=1)
    return rows.assign(**trial, diverged=(~finite).cummax())


def _read_sweep(file: Path, curve_names: list[str], *, num_trials: int) -> pd.DataFrame:
    """Reads the rows of a sweep's trials.csv."""
    try:
        text = file.read_text()
        # Read as text, because a setting may be called 0.1 or nan.
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
        swept = swept_fields(rows)
        rows = rows[[*TRIAL, *swept, *curve_names, "diverged"]]
        numbers = [*swept, *curve_names]
        rows[numbers] = rows[numbers].replace("", "nan").astype(float)
        rows["seed"] = rows.seed.astype(int)
    except (OSError, ValueError, KeyError) as error:
        raise _broken(file, error) from error
    if not text.endswith("\n") or not rows.diverged.isin(["True", "False"]).all():
        raise UserError(f"{file} is truncated: it has an incomplete line")
    rows["diverged"] = rows.diverged == "True"
    unknown = ~rows.phase.isin(PHASES)
    if unknown.any():
        phase = rows.phase[unknown].iloc[0]
        raise UserError(f"{file} has the unknown phase {phase!r}; choose from {', '.join(PHASES)}")
    lacking = sorted(set(rows.data) - set(rows.data[rows.phase == "final"]))
    if rows.empty or lacking:
        raise UserError(
            f"{file} has no trials of phase final for {', '.join(lacking) or 'any data'}"
        )
    missing = ~rows.diverged & ~rows[curve_names].map(math.isfinite).all(axis=1)
    if missing.any():
        line = missing.to_numpy().argmax() + 2
        raise UserError(f"{file}, line {line}, lacks a number, but its trial did not diverge")
    lengths = rows.groupby([*TRIAL, *swept], dropna=False).size()
    for phase, of_phase in lengths.groupby("phase"):
        if of_phase.nunique() > 1:
            raise UserError(
                f"{file} is truncated or repeats lines: its trials of phase {phase} have "
                f"{of_phase.min()} to {of_phase.max()} epochs"
            )
    if len(lengths) != num_trials:
        raise UserError(
            f"{file} is truncated: it has {len(lengths)} trials, but summary.json says {num_trials}"
        )
    return rows


def _read_fields(file: Path, *paths: str) -> dict[str, Any]:
    """Returns the values of dotted fields in a JSON file."""
    try:
        content = json.loads(file.read_text())
        return {
            path: functools.reduce(operator.getitem, path.split("."), content) for path in paths
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(file, error) from error


def _broken(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(
        f"{file} is unreadable, truncated, or lacks a field: {type(error).__name__} {reason}"
    )


def _check_tasks(tasks: Mapping[Path, Task]) -> None:
    """Raises an error if the directories differ in task, metrics, or objective."""
    (first, expected), *others = tasks.items()
    for directory, task in others:
        if task != expected:
            raise UserError(
                f"a report covers one task, but {first} has {expected}, and {directory} has {task}"
            )


def _check_trials(rows: pd.DataFrame) -> None:
    """Raises an error if a trial appears twice, or if trials cannot share a table."""
    swept = swept_fields(rows)
    for (data, model, setting), cell in rows[rows.phase == "final"].groupby(TRIAL[1:4]):
        for field in swept:
            values = cell.dropna(subset=field).groupby(field).source.first()
            if len(values) > 1:
                found = ", ".join(f"{value:g} in {source}" for value, source in values.items())
                raise UserError(
                    f"{data}, {model}, {setting} has trials with different values of {field}, "
                    f"which cannot share a cell: {found}"
                )
    for phase, of_phase in rows.groupby("phase"):
        # Tuning is the only phase that trains a setting with several values of the swept fields.
        trial = [*TRIAL, *swept] if phase == "tune" else TRIAL
        for (_, data, model, setting, seed, *_), epochs in of_phase.groupby(trial, dropna=False):
            sources = sorted(epochs.source.unique())
            if len(sources) > 1 or epochs.step.duplicated().any():
                raise UserError(
                    f"{data}, {model}, {setting}, seed {seed} appears twice, in "
                    f"{' and in '.join(sources)}"
                )
    lengths = rows.groupby([*TRIAL, *swept, "source"], dropna=False, as_index=False).size()
    for (_, data), table in lengths.groupby(["phase", "data"]):
        epochs = table.groupby("size").source.first()
        if len(epochs) > 1:
            found = ", ".join(f"{length} in {source}" for length, source in epochs.items())
            raise UserError(
                f"trials of {data} have different numbers of epochs and cannot share a table: "
                f"{found}"
            )
