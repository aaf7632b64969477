"""Reads the rows of a run or a sweep, one per trial and epoch, and refuses impossible values."""

import io
import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.errors import UserError
from experiments.results.described import Metric, broken, impossible

TRIAL = ["phase", "data", "model", "setting", "seed"]
CELL = TRIAL[1:4]  # what one cell of a table is about
PHASES = ("final", "tune")
# Columns that are no field of a config, besides the metrics of the two splits.
OTHERS = {"epoch", "step", "learning_rate", "diverged", "failed", "last", "best", "split", "source"}
METRICS_OF = ("train_", "test_")
AVERAGES = ("ema", "swa", "snapshot")  # of the weights, by the names in `program.averaging`
FLOAT32_MAX = float(np.finfo(np.float32).max)
ROUNDING = 1e-6  # of a float32 fraction, which may exceed 1 in its last digit


def curves(metrics: Mapping[str, Metric], columns: Collection[str]) -> list[str]:
    """Returns the columns that change from epoch to epoch.

    Args:
      metrics: metric name -> metric.
      columns: the columns that there are. Training may lack metrics other than its loss.

    >>> curves({"loss": Metric("loss", "min", False), "kid": Metric("kid", "min", False)}, [])
    ['epoch', 'step', 'learning_rate', 'train_loss', 'test_loss', 'test_kid']
    """
    train = [f"train_{name}" for name in metrics]
    train = [column for column in train if column in {"train_loss", *columns}]
    return ["epoch", "step", "learning_rate", *train, *(f"test_{name}" for name in metrics)]


def averaged(columns: Collection[str], metrics: Mapping[str, Metric]) -> list[str]:
    """Returns the columns with metrics of averaged weights, among some columns.

    >>> averaged(["test_loss", "test_ema_loss"], {"loss": Metric("loss", "min", False)})
    ['test_ema_loss']
    """
    named = [f"test_{average}_{metric}" for average in AVERAGES for metric in metrics]
    return [name for name in named if name in columns and name not in curves(metrics, columns)]


def swept_fields(rows: pd.DataFrame) -> list[str]:
    """Returns the columns named by the config fields that a sweep tuned, sorted."""
    return sorted(
        column
        for column in rows.columns
        if column not in OTHERS and column not in TRIAL and not column.startswith(METRICS_OF)
    )


def of_run(
    directory: Path,
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    metrics: Mapping[str, Metric],
) -> pd.DataFrame:
    """Reads the rows of a single run, which is named after its schedule and optimizer.

    Args:
      directory: directory of the run.
      config: the config of the run by dotted field.
      summary: its checked summary.
      metrics: metric name -> metric.

    Returns:
      The columns `TRIAL`, `curves`, `averaged`, and `diverged`.

    Raises:
      UserError: a file is truncated or malformed, or holds an impossible value.
    """
    for field, kind in (("optimizer.name", str), ("schedule.name", str), ("seed", int)):
        if not isinstance(config.get(field), kind):
            raise broken(directory / "config.json", KeyError(field))
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
        rows = pd.DataFrame(records)
        names = curves(metrics, rows.columns)
        rows = rows[[*names, *averaged(rows.columns, metrics)]].astype(float)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise broken(file, error) from error
    epochs, num_steps = math.ceil(summary["epochs"]), summary["steps"]
    if (len(rows), rows.step.max()) != (epochs, num_steps):
        raise UserError(
            f"{file} is truncated: it has {len(rows)} epochs and ends at step "
            f"{rows.step.max():g}, but summary.json says {epochs} epochs and {num_steps} steps"
        )
    finite = rows[names].map(math.isfinite).all(axis=1)
    rows = rows.assign(**trial, diverged=(~finite).cummax())
    _check_values(file, rows, metrics)
    return rows


def of_sweep(
    file: Path,
    text: str,
    swept: Sequence[str],
    summary: Mapping[str, Any],
    metrics: Mapping[str, Metric],
) -> pd.DataFrame:
    """Reads the rows of a sweep's table.

    Args:
      file: its file, for errors.
      text: the text of its `trials.csv`.
      swept: the fields of its grid.
      summary: its checked summary.
      metrics: metric name -> metric.

    Returns:
      The columns `TRIAL`, `swept`, `curves`, `averaged`, and `diverged`.

    Raises:
      UserError: the text is truncated or malformed, or holds an impossible value.
    """
    try:
        # Read as text, because a setting may be called 0.1 or nan.
        rows = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
        curve_names = curves(metrics, rows.columns)
        unknown = [name for name in rows.columns if "." in name and name not in swept]
        unknown = [name for name in unknown if name not in curve_names]
        if unknown:
            raise ValueError(f"column {unknown[0]} is not a field of the grid in config.json")
        numbers = [*swept, *curve_names, *averaged(rows.columns, metrics)]
        rows = rows[[*TRIAL, *numbers, "diverged"]]
        rows[numbers] = rows[numbers].replace("", "nan").astype(float)
        rows["seed"] = rows.seed.astype(int)
    except (ValueError, KeyError, OverflowError) as error:
        raise broken(file, error) from error
    if not text.endswith("\n") or not rows.diverged.isin(["True", "False"]).all():
        raise UserError(f"{file} is truncated: it has an incomplete line")
    rows["diverged"] = rows.diverged == "True"
    _check_phases(file, rows, swept)
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
    if len(lengths) != summary["trials"]:
        raise UserError(
            f"{file} is truncated: it has {len(lengths)} trials, but summary.json says "
            f"{summary['trials']}"
        )
    rows = rows.sort_values([*TRIAL, *swept, "step"], ignore_index=True)
    for _, trial in rows.groupby([*TRIAL, *swept], dropna=False):
        _check_values(file, trial, metrics)
    return rows


def _check_phases(file: Path, rows: pd.DataFrame, swept: Sequence[str]) -> None:
    """Raises an error unless every setting is trained in the final phase, at a single point."""
    unknown = ~rows.phase.isin(PHASES)
    if unknown.any():
        phase = rows.phase[unknown].iloc[0]
        raise UserError(f"{file} has the unknown phase {phase!r}; choose from {', '.join(PHASES)}")
    final = rows[rows.phase == "final"]
    cells = {tuple(cell) for cell in rows[CELL].itertuples(index=False)}
    lacking = sorted(cells - {tuple(cell) for cell in final[CELL].itertuples(index=False)})
    if rows.empty or lacking:
        where = ", ".join(lacking[0]) if lacking else "any data"
        raise UserError(f"{file} has no trials of phase final for {where}")
    for cell, trials in final.groupby(CELL):
        for field in swept:
            if trials[field].nunique(dropna=False) > 1:
                values = ", ".join(f"{value:g}" for value in trials[field].unique())
                raise UserError(
                    f"{file} has final trials of {', '.join(cell)} with different values of "
                    f"{field}, which cannot share a cell: {values}"
                )


def _check_values(file: Path, trial: pd.DataFrame, metrics: Mapping[str, Metric]) -> None:
    """Raises an error if a value in the rows of a trial is one that no run writes."""
    for name in ("step", "epoch"):
        values = trial[name].to_numpy()
        steps = np.diff(values, prepend=0.0)
        if not (np.isfinite(values).all() and (steps > 0).all()):
            at = int(np.argmin(np.isfinite(values) & (steps > 0)))
            raise impossible(
                f"{file}: {name} of line {at + 1} of a trial",
                float(values[at]),
                "above the one before it",
            )
    fractional = trial.step % 1 != 0
    if fractional.any():
        raise impossible(f"{file}: step", float(trial.step[fractional].iloc[0]), "an integer")
    kinds = [*METRICS_OF, *(f"test_{average}_" for average in AVERAGES)]
    fractions = [f"{kind}{m.name}" for kind in kinds for m in metrics.values() if m.percent]
    for name in [*curves(metrics, trial.columns)[2:], *averaged(trial.columns, metrics)]:
        values = trial[name].to_numpy()
        values = values[np.isfinite(values)]
        low, high = (0.0, 1.0) if name in fractions else (-FLOAT32_MAX, FLOAT32_MAX)
        outside = values[(values < low - ROUNDING) | (values > high + ROUNDING)]
        if len(outside):
            allowed = "a fraction from 0 to 1" if name in fractions else "a value of float32"
            raise impossible(f"{file}: {name}", float(outside[0]), allowed)
