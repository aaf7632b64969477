"""Compares every schedule with the best of all: python -m experiments.limit [--out=DIR].

The task is linear regression by SGD, whose expected risk is computed without sampling. There are
four problems: two spectra and two levels of noise. Each schedule has its own best peak. Writes
limit.md and limit.png.
"""

from pathlib import Path

import jax
from absl import flags

from experiments import cli
from experiments.errors import UserError
from experiments.results import limit
from experiments.tasks.expected_risk import Problem, power_law

SPECTRA = (1.0, 2.0)  # exponents
NOISES = (0.1, 1.0)
MIN_STEPS = 8  # a triangle of the shortest schedule has one step


def main() -> None:
    """Prints the table, and writes it with its figure."""
    # The command only computes schedules, so it leaves accelerators to the runs that use them.
    jax.config.update("jax_platforms", "cpu")
    given = flags.FLAGS
    for name, minimum in (("steps", MIN_STEPS), ("dimensions", 1), ("batch_size", 1)):
        if getattr(given, name) < minimum:
            raise UserError(
                f"--{name}={getattr(given, name)} is out of range; it must be at least {minimum}"
            )
    out = Path(given.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    comparisons = limit.compare(
        {
            f"a = {exponent:g}, s = {noise:g}": Problem(
                power_law(given.dimensions, exponent), noise, given.batch_size
            )
            for exponent in SPECTRA
            for noise in NOISES
        },
        given.steps,
    )
    print(limit.table(comparisons))
    spread = max(compared.limit.spread for compared in comparisons.values())
    print(f"the searches for a limit from different starts end within {spread:.0e} of each other")
    limit.write(comparisons, out)
    print(f"wrote {out / 'limit.md'} and {out / 'limit.png'}")


def define_flags() -> None:
    """Defines the command's flags, not on import, because other commands define --out too."""
    flags.DEFINE_string("out", "runs/limit", "Directory for limit.md and limit.png.")
    flags.DEFINE_integer("steps", 1000, "Number of steps of SGD.")
    flags.DEFINE_integer("dimensions", 100, "Number of inputs of the regression.")
    flags.DEFINE_integer("batch_size", 1, "Number of examples per step.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
