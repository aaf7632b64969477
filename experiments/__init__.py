"""The laboratory: experiments on learning-rate schedules, and the networks that they train."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.runtime.trained import Trained


def load(directory: str | os.PathLike[str], which: str = "newest") -> "Trained":
    """Loads the trained network of a run of image classification.

    Args:
      directory: directory of a finished or stopped run. Its data set is not needed.
      which: "newest", or "best" for the checkpoint that `checkpoint.keep_best` keeps.

    Returns:
      The network as a pure function from images to probabilities, with its preprocessing, the shape
      of its images, and the names of its classes. `jax.jit` takes it as a function or as an
      argument.

    Raises:
      UserError: the directory has no such run, or an older version wrote it; or the run is in
        progress.
    """
    # The commands check their flags before they import jax.
    from experiments.runtime.trained import load

    return load(directory, which)
