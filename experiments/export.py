"""Writes the weights of a run: python -m experiments.export WORKDIR FILE.safetensors.

The file has the parameters, the batch statistics, and what the preprocessing was fitted to. Its
metadata has the config and the names of the classes. safetensors reads it in any framework.
"""

from absl import flags
from etils import epath

from experiments import cli
from experiments.errors import UserError

ENDING = ".safetensors"


def main(*arguments: str) -> None:
    """Writes the file that the arguments name."""
    if len(arguments) != 2:
        raise UserError(
            f"{len(arguments)} arguments were given; pass the directory of a run and a file that "
            f"ends in {ENDING}"
        )
    directory, file = (epath.Path(cli.directory("export", each)) for each in arguments)
    if file.suffix != ENDING:
        raise UserError(f"{file} does not end in {ENDING}; pass such a file")

    # These import jax and other libraries that take seconds.
    from experiments.program import switches
    from experiments.runtime import environment, export

    switches.pin()
    environment.check_platform()
    step, number = export.write(directory, file, flags.FLAGS.which)
    print(f"wrote {number} arrays of step {step} to {file}")


def define_flags() -> None:
    """Defines the flags of the command; importing it must not, because other commands do too."""
    flags.DEFINE_enum(
        "which", "newest", ["newest", "best"], "Checkpoint; checkpoint.keep_best keeps the best."
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main, positional=True)
