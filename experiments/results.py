"""Reads finished runs and sweeps into one table, a row a trial and epoch, and checks it."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import ranges
from experiments.errors import UserError

TRIAL = ["phase", "data", "model", "setting", "seed"]
CURVES = [
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
]
PHASES = ("final", "tune")
LAST_EPOCHS = 0.1


def read(directories: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reads any mix of runs and sweeps, in whatever order.

    Args:
      directories: each that of a single run or of a sweep.

    Returns:
      The rows, one a trial and epoch, sorted: the columns `TRIAL`, a column for every swept field
      by its dotted name (NaN where it was not swept), `CURVES`, `diverged` and `source`, the
      directory. The sources, one a directory: `source`, `kind`, `command`, `trials`, `seconds`,
      `device` and `versions`.

    Raises:
      UserError: a directory holds no result or an unfinished one, a file is cut off or is not what
        it should be, two trials are the same, or trials of one table cannot be compared.
    """
    parts, sources = [], []
    for directory in sorted(directories):
        rows, source = _read_one(directory)
        parts.append(rows.assign(source=str(directory)))
        sources.append({"source": str(directory), **source})
    rows = pd.concat(parts, ignore_index=True)
    swept = swept_fields(rows)
    rows = rows.sort_values([*TRIAL, *swept, "source", "step"], ignore_index=True)
    rows = rows[[*TRIAL, *swept, *CURVES, "diverged", "source"]]
    _check_trials(rows)
    return rows, pd.DataFrame(sources)


def swept_fields(rows: pd.DataFrame) -> list[str]:
    """The columns named by a dotted config field, sorted."""
    return sorted(column for column in rows.columns if "." in column)


def per_trial(rows: pd.DataFrame) -> pd.DataFrame:
    """Sums up each trial.

    Args:
      rows: of `read`.

    Returns:
      One row a trial, sorted: `TRIAL`, the swept fields, `diverged`, `last`, the mean test accuracy
      of its last tenth of epochs, and `best`, the highest of all its epochs; both are NaN of a
      trial that diverged.
    """
    columns = [*TRIAL, *swept_fields(rows)]
    records = []
    for trial, epochs in rows.groupby(columns, dropna=False):
        accuracy = epochs.test_accuracy.to_numpy()
        diverged = bool(epochs.diverged.any())
        records.append(
            {
                **dict(zip(columns, trial, strict=True)),
                "diverged": diverged,
                "last": math.nan if diverged else accuracy[-last_epochs(len(accuracy)) :].mean(),
                "best": math.nan if diverged else accuracy.max(),
            }
        )
    return pd.DataFrame(records)


def last_epochs(epochs: int) -> int:
    """How many epochs the last tenth of them is: at least one.

    >>> [last_epochs(epochs) for epochs in (1, 10, 16, 100)]
    [1, 1, 2, 10]
    """
    return max(1, round(LAST_EPOCHS * epochs))


def model_name(name: str, width_multiplier: float) -> str:
    """A network's name in tables: a narrower or wider one is another network.

    >>> model_name("lenet4", 1.0), model_name("lenet4", 0.25)
    ('lenet4', 'lenet4 (width 0.25)')
    """
    return name if width_multiplier == 1 else f"{name} (width {width_multiplier:g})"


def _read_one(directory: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    kinds = {"sweep": directory / "trials.csv", "run": directory / "metrics.jsonl"}
    found = [kind for kind, file in kinds.items() if file.exists()]
    if not found:
        if (directory / "config.json").exists():
            raise UserError(
                f"{directory} is unfinished: it has neither trials.csv, of a sweep, nor "
                f"metrics.jsonl, of a run"
            )
        raise UserError(f"{directory} is no directory of a run or of a sweep")
    if not (directory / "summary.json").exists():
        raise UserError(f"{directory} is unfinished: summary.json is missing")
    extra = ("command", "trials") if found[0] == "sweep" else ("epochs", "steps")
    summary = _read_fields(
        directory / "summary.json", "seconds", "device", "device_count", "versions", *extra
    )
    source = {
        "kind": found[0],
        "command": summary.get("command", ""),
        "trials": summary.get("trials", 1),
        "seconds": summary["seconds"],
        "device": f"{summary['device_count']} × {summary['device']}",
        "versions": ", ".join(f"{name} {of}" for name, of in summary["versions"].items()),
    }
    if found[0] == "sweep":
        return _read_sweep(kinds["sweep"], num_trials=summary["trials"]), source
    return _read_run(directory, num_steps=summary["steps"], epochs=summary["epochs"]), source


def _read_run(directory: Path, *, num_steps: int, epochs: float) -> pd.DataFrame:
    """The rows of a single run, which is named by its schedule."""
    config = _read_fields(
        directory / "config.json",
        *("data.name", "model.name", "model.width_multiplier"),
        *("optimizer.name", "schedule.name", "seed"),
    )
    optimizer = config["optimizer.name"]
    trial = {
        "phase": "final",
        "data": config["data.name"],
        "model": model_name(config["model.name"], config["model.width_multiplier"]),
        "setting": config["schedule.name"] + ("" if optimizer == "sgd" else f" ({optimizer})"),
        "seed": config["seed"],
    }
    file = directory / "metrics.jsonl"
    try:
        records = [json.loads(line) for line in file.read_text().splitlines()]
        rows = pd.DataFrame(records)[CURVES].astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise _broken(file, error) from error
    if (len(rows), rows.step.max()) != (math.ceil(epochs), num_steps):
        raise UserError(
            f"{file} is cut off: it has {len(rows)} epochs and ends at step {rows.step.max():g}; "
            f"its run has {math.ceil(epochs)} and ends at step {num_steps}"
        )
    finite = rows.map(math.isfinite).all(axis=1)
    return rows.assign(**trial, diverged=(~finite).cummax())


def _read_sweep(file: Path, *, num_trials: int) -> pd.DataFrame:
    """The rows of a sweep's trials.csv."""
    try:
        text = file.read_text()
        # As text, for a setting may be called 0.1, or nan.
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
        swept = swept_fields(rows)
        rows = rows[[*TRIAL, *swept, *CURVES, "diverged"]]
        numbers = [*swept, *CURVES]
        rows[numbers] = rows[numbers].replace("", "nan").astype(float)
        rows["seed"] = rows.seed.astype(int)
    except (OSError, ValueError, KeyError) as error:
        raise _broken(file, error) from error
    if not text.endswith("\n") or not rows.diverged.isin(["True", "False"]).all():
        raise UserError(f"{file} is cut off: a line of it is not whole")
    rows["diverged"] = rows.diverged == "True"
    unknown = ~rows.phase.isin(PHASES)
    if unknown.any():
        phase = rows.phase[unknown].iloc[0]
        raise UserError(f"{file} has an unknown phase {phase!r}; it is one of {', '.join(PHASES)}")
    lacking = sorted(set(rows.data) - set(rows.data[rows.phase == "final"]))
    if rows.empty or lacking:
        raise UserError(f"{file} has no rows of phase final of {', '.join(lacking) or 'any data'}")
    missing = ~rows.diverged & ~rows[CURVES].map(math.isfinite).all(axis=1)
    if missing.any():
        line = missing.to_numpy().argmax() + 2
        raise UserError(f"{file}, line {line} lacks a number, and is not of a trial that diverged")
    lengths = rows.groupby([*TRIAL, *swept], dropna=False).size()
    for phase, of_phase in lengths.groupby("phase"):
        if of_phase.nunique() > 1:
            raise UserError(
                f"{file} is cut off or has lines twice: its trials of phase {phase} have from "
                f"{of_phase.min()} to {of_phase.max()} epochs"
            )
    if len(lengths) != num_trials:
        raise UserError(
            f"{file} is cut off: it has {len(lengths)} trials, and its summary.json says "
            f"{num_trials}"
        )
    return rows


def _read_fields(file: Path, *paths: str) -> dict[str, Any]:
    """The values of dotted fields of a JSON file."""
    try:
        content = json.loads(file.read_text())
        return {path: ranges.field(content, path) for path in paths}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _broken(file, error) from error


def _broken(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(
        f"{file} cannot be read, is cut off or lacks a field: {type(error).__name__} {reason}"
    )


def _check_trials(rows: pd.DataFrame) -> None:
    """Refuses trials that are there twice, and those that cannot stand in one table."""
    swept = swept_fields(rows)
    for (data, model, setting), cell in rows[rows.phase == "final"].groupby(TRIAL[1:4]):
        for field in swept:
            values = cell.dropna(subset=field).groupby(field).source.first()
            if len(values) > 1:
                found = ", ".join(f"{value:g} in {source}" for value, source in values.items())
                raise UserError(
                    f"{data}, {model}, {setting} has trials of different {field}, which no cell "
                    f"can hold: {found}"
                )
    for phase, of_phase in rows.groupby("phase"):
        # Only while tuning is a setting trained with several values of the swept fields.
        trial = [*TRIAL, *swept] if phase == "tune" else TRIAL
        for (_, data, model, setting, seed, *_), epochs in of_phase.groupby(trial, dropna=False):
            sources = sorted(epochs.source.unique())
            if len(sources) > 1 or epochs.step.duplicated().any():
                raise UserError(
                    f"{data}, {model}, {setting}, seed {seed} is there twice, in "
                    f"{' and in '.join(sources)}"
                )
    lengths = rows.groupby([*TRIAL, *swept, "source"], dropna=False, as_index=False).size()
    for (_, data), table in lengths.groupby(["phase", "data"]):
        epochs = table.groupby("size").source.first()
        if len(epochs) > 1:
            found = ", ".join(f"{length} in {source}" for length, source in epochs.items())
            raise UserError(
                f"the trials of {data} have different numbers of epochs, which no table can hold: "
                f"{found}"
            )
