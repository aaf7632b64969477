"""Checkpoints of a run: its whole state and its history, saved while training goes on."""

import hashlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from experiments.errors import UserError
from experiments.step import TrainState

History = list[dict[str, Any]]


def open_manager(workdir: epath.Path, *, max_to_keep: int) -> ocp.CheckpointManager:
    """The manager of `workdir`/checkpoints, which saves asynchronously and keeps the newest ones.

    Args:
      workdir: directory of the run.
      max_to_keep: checkpoints to keep.

    Returns:
      A manager, to be used as a context: leaving it waits for a save under way.
    """
    options = ocp.CheckpointManagerOptions(max_to_keep=max_to_keep)
    return ocp.CheckpointManager((workdir / "checkpoints").absolute(), options=options)


def save(manager: ocp.CheckpointManager, step: int, state: TrainState, history: History) -> None:
    """Saves a state under its step; returns as soon as it has been copied off the device.

    Args:
      manager: what `open_manager` returned.
      step: updates made so far.
      state: the state, of a run or of many trials, which may be donated afterwards.
      history: the run's epochs so far, JSON-able.
    """
    manager.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave({"history": history})
        ),
    )


def restore_latest(
    manager: ocp.CheckpointManager, shapes: TrainState
) -> tuple[TrainState, History] | None:
    """The newest checkpoint, or None where there is none.

    Args:
      manager: what `open_manager` returned.
      shapes: a state of `jax.ShapeDtypeStruct`, as `jax.eval_shape` gives it.

    Returns:
      The state, and the history of the epochs before it.

    Raises:
      UserError: the newest checkpoint cannot be read.
    """
    newest = manager.latest_step()
    if newest is None:
        return None
    try:
        restored = manager.restore(
            newest,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(shapes),
                extra=ocp.args.JsonRestore(),
            ),
        )
    except Exception as error:  # whatever is wrong with the files, orbax raises almost any type
        place = manager.directory / str(newest)
        raise UserError(
            f"the checkpoint {place} cannot be restored ({type(error).__name__}); remove that "
            f"directory to go on from the one before"
        ) from error
    return restored.state, restored.extra["history"]


def tree_sha256(tree: Any) -> str:
    """One hash of the paths, dtypes, shapes and bytes of all arrays in a tree.

    Args:
      tree: pytree of arrays.

    Returns:
      64 hexadecimal digits.

    >>> tree_sha256({"a": np.zeros(2)}) == tree_sha256({"a": np.zeros(2)})
    True
    >>> tree_sha256({"a": np.zeros(2)}) == tree_sha256({"a": np.zeros(2, np.float32)})
    False
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
