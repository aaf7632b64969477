"""Runs a command under the name that pip installs: `loganneal-train` is `experiments.train`."""

import os
import runpy
import sys
from pathlib import Path

PREFIX = "loganneal-"


def main() -> None:
    """Runs the command that the name of the program says, as `python -m` would."""
    # A config may name a module of the user's, such as a task in the current directory.
    sys.path.append(os.getcwd())
    name = Path(sys.argv[0]).stem.removeprefix(PREFIX)
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)
