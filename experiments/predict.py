"""Prints what a trained network predicts: python -m experiments.predict WORKDIR [FILES...].

A classifier of images prints one line for each image: its file, its class, and the probability of
that class. A language model prints text that it generates, and takes no files. The command uses the
newest checkpoint of a finished or stopped run, or its best one with --which=best. The run may not
be in progress.
"""

import math

from absl import flags
from etils import epath

from experiments import cli
from experiments.errors import UserError

MAX_LENGTH = 10**6
MAX_SEED = 2**32 - 1
OF_TEXTS = ("prompt", "length", "temperature", "top_k", "seed")


def main(*arguments: str) -> None:
    """Prints the predictions that the arguments ask for."""
    values = flags.FLAGS
    if values.workdir is None and not arguments:
        raise UserError("the directory of a run is missing; pass it as the first argument")
    place, files = (values.workdir, arguments) if values.workdir else (arguments[0], arguments[1:])
    directory = epath.Path(cli.directory("workdir", place))
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
    if prediction.is_classifier(directory):
        given = [name for name in OF_TEXTS if values[name].present]
        if given:
            raise UserError(f"--{given[0]} has no effect on a classifier of images; remove it")
        if not files:
            raise UserError(f"{directory} has a classifier of images; pass image files after it")
        for name, class_name, probability in prediction.of_files(directory, files, values.which):
            print(f"{name}\t{class_name}\t{probability:.4f}")
        return
    if files:
        raise UserError(
            f"{files[0]!r} cannot be used, because {directory} has no classifier of images; remove "
            "it"
        )
    options = Sampling(values.prompt, values.length, values.temperature, values.top_k, values.seed)
    print(prediction.of_run(directory, options, values.which))


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high or value == math.inf:
        limit = "" if high == math.inf else f" and at most {high}"
        raise UserError(f"--{name}={value} is out of range; it must be at least {low}{limit}")


def define_flags() -> None:
    """Defines the flags of the command; importing it must not, because other commands do too."""
    flags.DEFINE_string("workdir", None, "Directory of the run, instead of the first argument.")
    flags.DEFINE_enum(
        "which", "newest", ["newest", "best"], "Checkpoint; checkpoint.keep_best keeps the best."
    )
    flags.DEFINE_string("prompt", None, "Text to continue. Defaults to a new line.")
    flags.DEFINE_integer("length", 500, "Number of characters to generate.")
    flags.DEFINE_float("temperature", 1.0, "Above 1 is more random; 0 is the likeliest.")
    flags.DEFINE_integer("top_k", None, "Number of likeliest characters to choose from.")
    flags.DEFINE_integer("seed", 0, "Seed of the generated text.")


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True)
