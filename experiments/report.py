"""Writes tables and figures: python -m experiments.report RESULTS... [--out=DIR] [--baseline=NAME].

RESULTS are the directories of finished single runs and sweeps, in any mix. Each data set gets its
own tables. A report on single runs begins with the differences between their configs.
"""

import os
from pathlib import Path

from absl import flags

from experiments import cli
from experiments.errors import UserError
from experiments.results import report


def main(*arguments: str) -> None:
    """Writes the report that the flags describe."""
    if not arguments:
        raise UserError("no results given; pass the directories of runs and sweeps")
    # A report only computes schedules, so it leaves accelerators to the runs that use them.
    os.environ["JAX_PLATFORMS"] = "cpu"
    out = Path(flags.FLAGS.out).expanduser()
    directories = [Path(argument).expanduser() for argument in arguments]
    number = report.write(
        directories, out, baseline=flags.FLAGS.baseline, labels=flags.FLAGS.labels
    )
    print(f"wrote {out / 'report.md'} with {number} tables and figures")


def define_flags() -> None:
    """Defines the command's flags, not on import, because other commands may define --out too."""
    flags.DEFINE_string(
        "out", "runs/report", "Directory for report.md, its tables, and its figures."
    )
    flags.DEFINE_string(
        "baseline", None, "Method to compare with. Defaults to cosine, or else the first method."
    )
    flags.DEFINE_list(
        "labels",
        [],
        "Comma-separated names of single runs, in the order of RESULTS. Defaults to the schedules, "
        "optimizers, and fields that differ.",
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True)
