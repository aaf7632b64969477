"""Writes tables and figures: python -m experiments.report RESULTS... --out=DIR [--baseline=NAME].

RESULTS are directories of single runs and of sweeps, in any mix; each must be finished. Data sets
are never mixed in one table.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from absl import flags

from experiments import cli, figures, results, statistics, tables
from experiments.errors import UserError

HOW = f"""\
A trial's accuracy is the mean of its test accuracy over the last tenth of its epochs, at least one;
no epoch is picked by its test accuracy, except in the tables of maxima. **An interval is over
seeds**: it is the {statistics.CONFIDENCE:.0%} interval of Student's t for the mean of a method's
trials. It holds for one data set and one model, and says nothing of others. A trial whose loss or
parameters were not finite has diverged: it is counted, and in no mean. A cell of a single trial has
no interval; "-" is a cell without a trial.
"""
TUNING_ROWS = 10  # of each method; a search has hundreds, which only its CSV holds
CAPTIONS = {
    "test_accuracy": "Test accuracy, cut to where the curves end; what ends below is named",
    "train_loss": "Train loss",
}


def main(*arguments: str) -> None:
    """Writes the report that the flags say."""
    if not arguments:
        raise UserError("no results are named; pass the directories of runs and sweeps")
    if not flags.FLAGS.out:
        raise UserError("--out is missing; pass --out=DIR")
    directories = [Path(argument) for argument in arguments]
    write(directories, Path(flags.FLAGS.out), baseline=flags.FLAGS.baseline)


def write(directories: Sequence[Path], out: Path, *, baseline: str | None = None) -> None:
    """Reads results, and writes their report if all of it can be made.

    Args:
      directories: of runs and sweeps.
      out: directory, made if it is not there.
      baseline: method to compare with; None: `tables.default_baseline`.

    Raises:
      UserError: the results cannot be used, or `out` cannot be written.
    """
    files = make(*results.read(directories), baseline=baseline)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (out / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error
    print(f"wrote {out / 'report.md'} with {len(files) - 1} tables and figures")


def make(
    rows: pd.DataFrame, sources: pd.DataFrame, *, baseline: str | None = None
) -> dict[str, bytes]:
    """Makes all files of a report before any is written.

    Args:
      rows: of `results.read`.
      sources: of `results.read`.
      baseline: method to compare with; None: `tables.default_baseline`.

    Returns:
      File name -> content, `report.md` last.

    Raises:
      UserError: a data set has no trials of the baseline.
    """
    trials = results.per_trial(rows)
    files: dict[str, bytes] = {}
    parts = ["# Results\n", HOW, _what_was_read(sources)]
    for data in sorted(trials.data.unique()):
        of_data = rows[(rows.data == data) & (rows.phase == "final")]
        parts.append(_header(data, of_data))
        name = re.sub(r"[^\w.+-]", "_", data)
        for kind, caption, table in _tables(data, trials[trials.data == data], baseline):
            files[f"{name}_{kind}.csv"] = table.to_csv(index=False).encode()
            shown = table
            if kind == "tuning":
                shown = table[table["rank"].astype(int) <= TUNING_ROWS]
            if len(shown) < len(table):
                caption += (
                    f" The {TUNING_ROWS} best of each method are shown, of {len(table)} rows."
                )
            parts.append(f"{caption} ([CSV]({name}_{kind}.csv))\n\n{tables.markdown(shown)}")
        for quantity, caption in CAPTIONS.items():
            picture = io.BytesIO()
            figures.draw(of_data, quantity).savefig(picture, format="png")
            files[f"{name}_{quantity}.png"] = picture.getvalue()
            parts.append(
                f"{caption}: mean over trials and its interval. Below it the learning rate at the "
                f"end of each epoch.\n\n![{quantity}, {data}]({name}_{quantity}.png)\n"
            )
    files["report.md"] = "\n".join(parts).encode()
    return files


def _tables(
    data: str, trials: pd.DataFrame, baseline: str | None
) -> list[tuple[str, str, pd.DataFrame]]:
    """Short name, caption and content of every table of a data set."""
    elsewhere = [field for field in results.swept_fields(trials) if trials[field].isna().all()]
    trials = trials.drop(columns=elsewhere)
    final = trials[trials.phase == "final"]
    methods = tables.in_order(final.setting)
    if baseline is not None and baseline not in methods:
        raise UserError(
            f"--baseline={baseline} is no method of {data}; choose one of {', '.join(methods)}"
        )
    baseline = baseline or tables.default_baseline(methods)
    tuned = (trials.phase == "tune").any()
    average_caption = (
        "**Mean test accuracy of the last tenth of epochs**, per cent, with its interval over "
        "trials."
    )
    if results.swept_fields(final):
        average_caption += " Below each model stand the values its trials had of the swept fields"
        average_caption += ", chosen on the validation split." if tuned else "."
    made = [
        ("average", average_caption, tables.average(final)),
        (
            "maximum",
            "**Maximum test accuracy**, per cent: the highest of all epochs of all trials that did "
            "not diverge. It is picked on the test split, and grows with the number of trials.",
            tables.maximum(final),
        ),
        ("trials", "**Number of trials**, and of those that diverged.", tables.counts(final)),
    ]
    if len(methods) > 1:
        caption = (
            f"**Difference to {baseline}** on the seeds that both have, without trials that "
            f"diverged: percentage points with the interval over seeds, p of the paired t test, "
            f"and p by Holm's correction for all tests of this table. There is no test of fewer "
            f"than two seeds, or of differences that are all equal."
        )
        made.append(("differences", caption, tables.differences(final, baseline)))
    if tuned:
        caption = (
            "**Tuning**: mean validation accuracy of the last tenth of epochs of every value that "
            "was tried, and which one the final trials have. Tuning trials are in no other table."
        )
        made.append(("tuning", caption, tables.tuning(trials)))
    return made


def _what_was_read(sources: pd.DataFrame) -> str:
    """Where the results come from, as Markdown."""
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
        f"Versions of {', '.join(group.source) if len(group) < len(sources) else 'all'}: {of}.\n"
        for of, group in sources.groupby("versions")
    ]
    total = f"{sources.trials.sum()} trials in {sources.seconds.sum():.0f} seconds.\n"
    return "\n".join(["## What was read\n", tables.markdown(shown), total, *versions])


def _header(data: str, rows: pd.DataFrame) -> str:
    epochs = rows.groupby(results.TRIAL).size().iloc[0]
    last = results.last_epochs(epochs)
    return f"## {data}\n\nTrials of {epochs} epochs, the last tenth of which is {last}.\n"


def define_flags() -> None:
    """Defines the command's flags; not on import, for another command may define --out too."""
    flags.DEFINE_string("out", None, "Directory to write report.md, its tables and figures to.")
    flags.DEFINE_string("baseline", None, "Method to compare with; cosine or the first by default.")


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True)
