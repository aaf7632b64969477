"""Prints text that a trained language model draws: python -m experiments.predict --workdir=RUN.

The newest checkpoint of a finished or stopped run is used. The run may not be in progress.
"""

import math

from absl import flags
from etils import epath

from experiments import cli
from experiments.errors import UserError

MAX_LENGTH = 10**6
MAX_SEED = 2**32 - 1


def main() -> None:
    """Prints the text that the flags describe."""
    values = flags.FLAGS
    if not values.workdir:
        raise UserError("--workdir is missing; pass the directory of a run")
    directory = epath.Path(cli.directory("workdir", values.workdir))
    _check("length", values.length, 1, MAX_LENGTH)
    _check("temperature", values.temperature, 0, math.inf)
    _check("seed", values.seed, 0, MAX_SEED)
    if values.top_k is not None:
        _check("top_k", values.top_k, 1, math.inf)

    # These import jax and other libraries that take seconds.
    from experiments.program import switches
    from experiments.runtime import compile_cache, environment, prediction
    from experiments.tasks.task import Sampling

    switches.pin()
    environment.check_platform()
    compile_cache.use(True)
    options = Sampling(values.prompt, values.length, values.temperature, values.top_k, values.seed)
    print(prediction.of_run(directory, options))


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high or value == math.inf:
        limit = "" if high == math.inf else f" and at most {high}"
        raise UserError(f"--{name}={value} is out of range; it must be at least {low}{limit}")


def define_flags() -> None:
    """Defines the flags of the command; importing it must not, because other commands do too."""
    flags.DEFINE_string("workdir", None, "Directory of the run.")
    flags.DEFINE_string("prompt", None, "Text to continue; by default, a new line.")
    flags.DEFINE_integer("length", 500, "Number of characters to draw.")
    flags.DEFINE_float("temperature", 1.0, "Above 1: more random; 0: the likeliest character.")
    flags.DEFINE_integer("top_k", None, "Draw only from this many of the likeliest characters.")
    flags.DEFINE_integer("seed", 0, "Seed of the draw.")


if __name__ == "__main__":
    define_flags()
    cli.run(main)
