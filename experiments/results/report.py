"""Makes a report from finished runs and sweeps: report.md, its tables as CSV, and its figures."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.errors import UserError
from experiments.results import figures, intervals, tables
from experiments.results.read import (
    TRIAL,
    Metric,
    Results,
    last_epochs,
    per_trial,
    read,
    swept_fields,
)

HOW = (
    "The value of a trial is its {label} on the test split, averaged over the last tenth of its "
    "epochs (at least one). Only the tables of best values pick an epoch by its test {label}. "
    f"**Intervals are over seeds**: each is the {intervals.CONFIDENCE:.0%} Student t interval for "
    "the mean of a method's trials on one data set and one model. It does not generalize to other "
    "data sets or models. A trial diverged if its loss or parameters became infinite or NaN. "
    "Diverged trials are counted, but excluded from all means. A cell with a single trial has no "
    'interval, and "-" marks a cell without trials.\n'
)
# Tuning rows shown per method. A search has hundreds, and its CSV contains them all.
TUNING_ROWS = 10


def write(directories: Sequence[Path], out: Path, *, baseline: str | None = None) -> int:
    """Reads results and writes their report.

    Args:
      directories: directories of runs and sweeps.
      out: directory of the report, created if necessary.
      baseline: method to compare with. Defaults to `tables.default_baseline`.

    Returns:
      The number of tables and figures.

    Raises:
      UserError: the results cannot be used, or `out` cannot be written. No file is written if the
        results cannot be used.
    """
    files = make(read(directories), baseline=baseline)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (out / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error
    return len(files) - 1


def make(results: Results, *, baseline: str | None = None) -> dict[str, bytes]:
    """Makes all files of a report.

    Args:
      results: the results to report.
      baseline: method to compare with. Defaults to `tables.default_baseline`.

    Returns:
      File name -> content, with `report.md` last.

    Raises:
      UserError: a data set has no trials of the baseline.
    """
    rows, objective = results.rows, results.objective
    trials = per_trial(rows, objective.name, objective.direction)
    files: dict[str, bytes] = {}
    parts = ["# Results\n", HOW.format(label=objective.label), _sources(results.sources)]
    for data in sorted(trials.data.unique()):
        final = rows[(rows.data == data) & (rows.phase == "final")]
        parts.append(_header(data, final))
        name = re.sub(r"[^\w.+-]", "_", data)
        for kind, caption, table in _tables(data, trials[trials.data == data], objective, baseline):
            files[f"{name}_{kind}.csv"] = table.to_csv(index=False).encode()
            shown = table
            if kind == "tuning":
                shown = table[table["rank"].astype(int) <= TUNING_ROWS]
            if len(shown) < len(table):
                caption += (
                    f" This table shows the {TUNING_ROWS} best points of each method, out of "
                    f"{len(table)} rows."
                )
            parts.append(f"{caption} ([CSV]({name}_{kind}.csv))\n\n{tables.markdown(shown)}")
        # A task without a metric called "loss" shows the objective on both splits.
        for split, metric in (
            ("test", objective),
            ("train", results.metrics.get("loss", objective)),
        ):
            picture = io.BytesIO()
            figures.draw(final, split, metric).savefig(picture, format="png")
            file = f"{name}_{split}_{metric.name}.png"
            files[file] = picture.getvalue()
            parts.append(
                f"**{split.capitalize()} {metric.label}**: mean over trials, with its interval."
                f"{_cut(metric)} Below: the learning rate at the end of each epoch.\n\n"
                f"![{split} {metric.label}, {data}]({file})\n"
            )
    files["report.md"] = "\n".join(parts).encode()
    return files


def _tables(
    data: str, trials: pd.DataFrame, objective: Metric, baseline: str | None
) -> list[tuple[str, str, pd.DataFrame]]:
    """Returns the short name, caption, and content of every table of a data set."""
    elsewhere = [field for field in swept_fields(trials) if trials[field].isna().all()]
    trials = trials.drop(columns=elsewhere)
    final = trials[trials.phase == "final"]
    methods = tables.in_order(final.setting)
    if baseline is not None and baseline not in methods:
        raise UserError(
            f"--baseline={baseline} is not a method of {data}; choose from {', '.join(methods)}"
        )
    baseline = baseline or tables.default_baseline(methods)
    tuned = (trials.phase == "tune").any()
    label = objective.label
    percent = ", in percent" if objective.percent else ""
    high = objective.direction == "max"
    average_caption = (
        f"**Mean test {label} of the last tenth of epochs**{percent}, with its interval over "
        f"trials. {'Higher' if high else 'Lower'} is better."
    )
    if swept_fields(final):
        average_caption += " Below each model are the values of the swept fields"
        average_caption += ", chosen on the validation split." if tuned else "."
    best_caption = (
        f"**Best test {label}**{percent}: the {'highest' if high else 'lowest'} value over all "
        "epochs of all trials that did not diverge. It is chosen on the test split, so it improves "
        "with the number of trials."
    )
    made = [
        ("average", average_caption, tables.average(final, objective)),
        ("best", best_caption, tables.best(final, objective)),
        (
            "trials",
            "**Number of trials**, and how many of them diverged.",
            tables.counts(final),
        ),
    ]
    if len(methods) > 1:
        caption = (
            f"**Difference from {baseline}** in test {label}"
            f"{', in percentage points' if objective.percent else ''}, over the seeds that both "
            f"methods have, without diverged trials. A {'positive' if high else 'negative'} "
            f"difference is better than {baseline}. Each row gives the interval over seeds, p of "
            "the paired t test, and p after Holm's correction for all tests in this table. There "
            "is no test with fewer than two seeds, or if all differences are equal."
        )
        made.append(("differences", caption, tables.differences(final, objective, baseline)))
    if tuned:
        caption = (
            f"**Tuning**: mean validation {label} of the last tenth of epochs{percent}, for every "
            "point that was tried. The final trials use the chosen point. No other table includes "
            "tuning trials."
        )
        made.append(("tuning", caption, tables.tuning(trials, objective)))
    return made


def _cut(metric: Metric) -> str:
    """Returns what the caption of a figure says about an axis that does not show all means."""
    if metric.direction == "min":
        return ""
    return " The axis is cut to where the curves end; the figure names methods that end below it."


def _sources(sources: pd.DataFrame) -> str:
    """Lists the directories that the report covers, as Markdown."""
    shown = pd.DataFrame(
        {
            "results": sources.source,
            "kind": sources.kind,
            "trials": sources.trials.map(str),
            "seconds": sources.seconds.map("{:.0f}".format),
            "device": sources.device,
            "command": sources.command.replace("", tables.EMPTY),
        }
    )
    versions = [
        f"Versions ({', '.join(group.source) if len(group) < len(sources) else 'all'}): {of}.\n"
        for of, group in sources.groupby("versions")
    ]
    total = f"{sources.trials.sum()} trials in {sources.seconds.sum():.0f} seconds.\n"
    return "\n".join(["## Sources\n", tables.markdown(shown), total, *versions])


def _header(data: str, rows: pd.DataFrame) -> str:
    epochs = rows.groupby(TRIAL).size().iloc[0]
    last = last_epochs(epochs)
    return f"## {data}\n\nEpochs per trial: {epochs}. Epochs in the last tenth: {last}.\n"
