"""Runs a command under the name that pip installs: `loganneal-train` is `experiments.train`."""

import importlib.util
import os
import runpy
import sys
from pathlib import Path

PREFIX = "loganneal-"
USAGE_ERROR = 2


def main() -> None:
    """Runs the command that the name of the program says, as `python -m` would."""
    program = Path(sys.argv[0]).stem
    # The library alone is installed without the packages of the commands.
    if importlib.util.find_spec("ml_collections") is None:
        print(
            f"error: {program} needs more packages than the library; run pip install "
            "'loganneal-jax[experiments]'",
            file=sys.stderr,
        )
        sys.exit(USAGE_ERROR)
    # A config may name a module of the user's, such as a task in the current directory.
    sys.path.append(os.getcwd())
    name = program.removeprefix(PREFIX)
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
