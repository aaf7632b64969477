"""Compares every schedule with the best of all: python -m experiments.limit [--map] [--out=DIR].

The task is linear regression by SGD, whose expected risk is computed without sampling. Each
schedule has its own best peak on each problem. Without --map, there are two spectra and two levels
of noise, for one batch size and one number of steps; the command writes limit.md and limit.png.
With --map, there are more of each, and the command writes map.csv, map.md, and map.png. A map that
was interrupted continues with the problems that map.csv does not contain.

The flags --exponent, --noise, --batch_size, and --steps replace the values; each may be repeated.
"""

import itertools
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments import cli
from experiments.errors import UserError
from experiments.results import limit, limit_map, limit_map_report
from experiments.tasks.expected_risk import Problem, power_law

MIN_STEPS = 8  # a triangle of the shortest schedule has one step
AXES = ("exponent", "noise", "batch_size", "steps")
Axes = dict[str, list[Any]]
TABLE: Axes = {"exponent": [1.0, 2.0], "noise": [0.1, 1.0], "batch_size": [1], "steps": [1000]}
MAP: Axes = {
    "exponent": [0.5, 1.0, 1.5, 2.0],
    "noise": [0.03, 0.1, 0.3, 1.0, 3.0, 10.0],
    "batch_size": [1, 16],
    "steps": [100, 1000, 10_000],
}


def main() -> None:
    """Prints the table, and writes it with its figure."""
    # The command only computes schedules, so it leaves accelerators to the runs that use them.
    jax.config.update("jax_platforms", "cpu")
    given = flags.FLAGS
    axes: Axes = {name: given[name].value or (MAP if given.map else TABLE)[name] for name in AXES}
    _check(axes)
    out = Path(given.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    if given.map:
        _map(axes, out)
    else:
        _table(axes, out)


def _check(axes: Axes) -> None:
    given = flags.FLAGS
    least = {"exponent": 0, "noise": 0, "batch_size": 1, "steps": MIN_STEPS}
    if given.map:
        least["steps"] = limit_map.MIN_STEPS
    for name, values in {"dimensions": [given.dimensions], **axes}.items():
        minimum = least.get(name, 1)
        for value in values:
            if not value >= minimum:
                raise UserError(f"--{name}={value} is out of range; it must be at least {minimum}")
    for name in ("batch_size", "steps"):
        if len(axes[name]) > 1 and not given.map:
            raise UserError(f"--{name} is given {len(axes[name])} times; only --map takes several")


def _table(axes: Axes, out: Path) -> None:
    (batch_size,), (steps,) = axes["batch_size"], axes["steps"]
    comparisons = limit.compare(
        {
            f"a = {exponent:g}, s = {noise:g}": Problem(
                power_law(flags.FLAGS.dimensions, exponent), noise, batch_size
            )
            for exponent, noise in itertools.product(axes["exponent"], axes["noise"])
        },
        steps,
    )
    print(limit.table(comparisons))
    spread = max(compared.limit.spread for compared in comparisons.values())
    print(f"the searches for a limit from different starts end within {spread:.0e} of each other")
    limit.write(comparisons, out)
    print(f"wrote {out / 'limit.md'} and {out / 'limit.png'}")


def _map(axes: Axes, out: Path) -> None:
    points = [
        limit_map.Point(flags.FLAGS.dimensions, exponent, noise, batch_size, steps)
        for steps, batch_size, exponent, noise in itertools.product(
            *(axes[name] for name in ("steps", "batch_size", "exponent", "noise"))
        )
    ]
    rows = limit_map.write_rows(points, out / "map.csv")
    limit_map_report.write(rows, out)
    print((out / "map.md").read_text(), end="")
    print(f"wrote {out / 'map.csv'}, {out / 'map.md'}, and {out / 'map.png'}")


def define_flags() -> None:
    """Defines the command's flags, not on import, because other commands define --out too."""
    flags.DEFINE_string("out", "runs/limit", "Directory for the files.")
    flags.DEFINE_boolean("map", False, "Write the map instead of the table.")
    flags.DEFINE_integer("dimensions", 100, "Number of inputs of the regression.")
    flags.DEFINE_multi_float("exponent", None, "Decay of the spectrum; may be repeated.")
    flags.DEFINE_multi_float("noise", None, "Deviation of the labels' noise; may be repeated.")
    flags.DEFINE_multi_integer("batch_size", None, "Examples per step; --map takes several.")
    flags.DEFINE_multi_integer("steps", None, "Number of steps of SGD; --map takes several.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
