"""Writes the weights of a run as a safetensors file, which other frameworks read."""

import json

import numpy as np
import safetensors.numpy
from etils import epath
from flax.traverse_util import flatten_dict

from experiments.errors import UserError
from experiments.runtime import trained, workdir


def write(directory: epath.Path, file: epath.Path, which: str) -> tuple[int, int]:
    """Writes the weights of a checkpoint.

    `flax.traverse_util.unflatten_dict(arrays, sep="/")` turns the arrays of the file into the
    variables of the network.

    Args:
      directory: directory of a finished or stopped run.
      file: the file to write; an older one is replaced.
      which: a checkpoint in `trained.WHICH`.

    Returns:
      The step of the weights, and the number of arrays.

    Raises:
      UserError: the directory has no run or no checkpoint, the run is in progress, or the file
        cannot be written.
    """
    run = trained.read_run(directory, which)
    variables = {"params": run.state.params, "batch_stats": run.state.batch_stats}
    arrays = {name: np.asarray(array) for name, array in flatten_dict(variables, sep="/").items()}
    step = int(run.state.step)
    metadata = {"config": json.dumps(run.config), "step": str(step)}
    if run.inputs:
        metadata["class_names"] = json.dumps(run.inputs.class_names)
        metadata["image_shape"] = json.dumps(run.inputs.image_shape)
        metadata["dtype"] = run.inputs.dtype
        for step_name, fitted in zip(run.inputs.steps, run.inputs.fitted, strict=True):
            arrays |= {f"preprocess/{step_name}/{n}": array for n, array in enumerate(fitted)}
    if not file.parent.is_dir():
        raise UserError(f"{file.parent} is not a directory; create it, or pass another file")
    workdir.write_atomically(file, safetensors.numpy.save(arrays, metadata))
    return step, len(arrays)
