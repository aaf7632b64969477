"""What happens to the directory of a run before its first step."""

import contextlib
from typing import Any

from etils import epath

from experiments.build.experiment import Experiment
from experiments.data import inputs
from experiments.errors import UserError
from experiments.runtime import processes, workdir


def claim(
    experiment: Experiment, directory: epath.Path, stack: contextlib.ExitStack, *, extend: bool
) -> None:
    """Reserves the directory for this run, in the process that writes its files.

    Args:
      experiment: the experiment.
      directory: directory of the run.
      stack: keeps the directory reserved until it is closed.
      extend: see `workdir.claim`.

    Raises:
      UserError: the directory cannot be used.
    """
    if processes.is_first():
        stack.enter_context(workdir.locked(directory))
        workdir.claim(directory, experiment.config, extend=extend)


def read_summary(directory: epath.Path) -> dict[str, Any] | None:
    """Returns the summary of the finished run, or None, the same in every process.

    Args:
      directory: directory of the run.

    Raises:
      UserError: the processes see different directories, or the summary cannot be read.
    """
    if not (directory / "config.json").exists():
        raise UserError(
            f"workdir {directory} is not the directory that process 0 sees under that name; pass a "
            "--workdir that all processes share, such as gs://BUCKET/NAME"
        )
    return workdir.read_summary(directory, warn=processes.is_first())


def store_inputs(experiment: Experiment, directory: epath.Path) -> None:
    """Stores what the network needs besides its weights, in the process that writes files.

    Args:
      experiment: an experiment whose data were read.
      directory: directory of the run.
    """
    if experiment.task.inputs and processes.is_first():
        workdir.write_atomically(directory / inputs.FILE, experiment.task.inputs())
