"""Checkpoints of a run: its whole state and its record, saved while training goes on.

Orbax restores a flipped byte of an array without a word, so a checkpoint carries the hash of every
array, and a seal in it the hash of every file. It gets its name, its step, when it is sealed: what
a kill or a full disk breaks off before has none, and is cleared away.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.path import atomicity

from experiments import processes
from experiments.errors import UserError
from experiments.step import TrainState
from experiments.telemetry import on_bucket, write_whole

Manager: TypeAlias = ocp.CheckpointManager
Record = dict[str, Any]
SEAL = "sha256.json"
METADATA = "_CHECKPOINT_METADATA"  # orbax's own, of a whole checkpoint


@contextlib.contextmanager
def open_manager(workdir: epath.Path, *, max_to_keep: int) -> Iterator[Manager]:
    """The manager of `workdir`/checkpoints, which saves asynchronously and keeps the newest ones.

    Args:
      workdir: directory of the run.
      max_to_keep: checkpoints to keep.

    Yields:
      A manager; leaving the context waits for a save under way.

    Raises:
      UserError: a save under way failed.
    """
    directory = workdir / "checkpoints"
    if not on_bucket(workdir):
        directory = directory.absolute()
    options = ocp.CheckpointManagerOptions(
        max_to_keep=max_to_keep,
        cleanup_tmp_directories=True,
        temporary_path_class=_SealingOnBucket if on_bucket(workdir) else _Sealing,
        # Where a directory cannot be made, threads would wait for it until their time is up.
        async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
    )
    manager = ocp.CheckpointManager(directory, options=options)
    try:
        yield manager
        finish_saving(manager)
    except BaseException:
        # What ended the run is what is told, not what a save says of it afterwards.
        with contextlib.suppress(Exception):
            manager.close()
        raise
    manager.close()


def save(manager: Manager, step: int, state: TrainState, record: Record) -> None:
    """Saves a state under its step; returns as soon as it has been copied off the device.

    Args:
      manager: of `open_manager`.
      step: updates made so far.
      state: the state, of a run or of many trials, which may be donated afterwards.
      record: what belongs to the state and is no array, such as the history of epochs; JSON-able.

    Raises:
      UserError: this save, or the one before it, failed.
    """
    extra = {"record": record, "sha256": _leaf_sha256s(state)}
    with _told_in_one_sentence(manager):
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra)
            ),
        )


def finish_saving(manager: Manager) -> None:
    """Waits for the save under way, if there is one.

    Args:
      manager: of `open_manager`.

    Raises:
      UserError: it failed.
    """
    with _told_in_one_sentence(manager):
        manager.wait_until_finished()


def restore_latest(manager: Manager, shapes: TrainState) -> tuple[TrainState, Record] | None:
    """The newest checkpoint that is whole, or None where there is no checkpoint.

    Newer ones that are damaged are set aside in `damaged_checkpoints`, each with a warning.

    Args:
      manager: of `open_manager`.
      shapes: a state of `jax.ShapeDtypeStruct`, as `jax.eval_shape` gives it.

    Returns:
      The state and the record that were saved.

    Raises:
      UserError: there are checkpoints, and none of them is whole.
    """
    damaged: dict[int, str] = {}
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            _check_files(manager.directory / str(step))
            restored = _restore(manager, step, shapes)
        except _Damaged as error:
            damaged[step] = str(error)
            continue
        processes.wait_for_all("every process has read what is damaged")
        if processes.is_first():
            for damaged_step, reason in damaged.items():
                _set_aside(manager.directory / str(damaged_step), reason)
        processes.wait_for_all("what is damaged is set aside")
        manager.reload()
        return restored
    if damaged:
        each = "; ".join(f"{step}: {reason}" for step, reason in damaged.items())
        raise UserError(
            f"none of the checkpoints in {manager.directory} is whole ({each}); to begin anew, "
            f"move that directory away"
        )
    return None


class _Damaged(Exception):
    """The file that is wrong, and what is wrong with it."""


def _check_files(checkpoint: epath.Path) -> None:
    try:
        text = (checkpoint / SEAL).read_text()
        seal = json.loads(text)
        if text != _written(seal):
            raise _Damaged(f"{SEAL} is not what was saved")
        for name, sha256 in seal.items():
            if hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() != sha256:
                raise _Damaged(f"{name} is not what {SEAL} says")
    except FileNotFoundError as error:
        missing = epath.Path(error.filename).relative_to(checkpoint)
        raise _Damaged(f"{missing} is missing, by {SEAL}") from error
    except (ValueError, AttributeError) as error:
        raise _Damaged(f"{SEAL} is not what was saved") from error


def _restore(manager: Manager, step: int, shapes: TrainState) -> tuple[TrainState, Record]:
    try:
        # First, so that Orbax need not break off in the middle of a state that is another.
        extra = manager.restore(step, args=ocp.args.Composite(extra=ocp.args.JsonRestore())).extra
        if extra["sha256"].keys() != _leaves(shapes).keys():
            raise _Damaged("its arrays have other names, types or shapes than this config's")
        args = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
        state = manager.restore(step, args=args).state
    except _Damaged:
        raise
    except Exception as error:  # whatever is wrong with the files, orbax raises almost any type
        raise _Damaged(f"it cannot be read: {type(error).__name__}") from error
    for name, sha256 in _leaf_sha256s(state).items():
        if extra["sha256"][name] != sha256:
            raise _Damaged(f"state{name} is not what was saved")
    return state, extra["record"]


def _set_aside(checkpoint: epath.Path, reason: str) -> None:
    directory = checkpoint.parent.parent / "damaged_checkpoints"
    directory.mkdir(exist_ok=True)
    names = {path.name for path in directory.iterdir()}
    again = sum(name.split("-")[0] == checkpoint.name for name in names)
    target = directory / (f"{checkpoint.name}-{again}" if again else checkpoint.name)
    checkpoint.rename(target)
    print(
        f"warning: the checkpoint {checkpoint} is damaged ({reason}) and was set aside as {target}",
        file=sys.stderr,
    )


class _Sealing(atomicity.AtomicRenameTemporaryPath):
    """How orbax commits a directory, and a checkpoint sealed before it is there by its name."""

    async def finalize(self) -> None:
        final = self.get_final()
        # The parts of a checkpoint, whose names are no numbers, are committed in the same way.
        if not final.name.isdecimal():
            await super().finalize()
            return
        self._final_path = final.with_name(f"{final.name}{atomicity.TMP_DIR_SUFFIX}-unsealed")
        await super().finalize()
        _seal(self._final_path)
        self._final_path = self._final_path.rename(final)


class _SealingOnBucket(atomicity.CommitFileTemporaryPath):
    """The same where a directory cannot be renamed: a file says that the checkpoint is there."""

    async def finalize(self) -> None:
        if self.get_final().name.isdecimal():
            # Orbax writes the time into its own file once more, with the one that commits.
            _seal(self.get(), leave_out=(METADATA,))
        await super().finalize()


def _seal(checkpoint: epath.Path, leave_out: Sequence[str] = ()) -> None:
    seal = {
        str(file.relative_to(checkpoint)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(_files(checkpoint))
        if file.name not in leave_out
    }
    write_whole(checkpoint / SEAL, _written(seal))


def _files(directory: epath.Path) -> Iterator[epath.Path]:
    for path in directory.iterdir():
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _written(seal: dict[str, str]) -> str:
    return json.dumps(seal, indent=1) + "\n"


@contextlib.contextmanager
def _told_in_one_sentence(manager: Manager) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a disk that is full comes as almost any type, its reason inside
        reason = " ".join(str(error).split())
        raise UserError(
            f"a checkpoint could not be saved in {manager.directory} ({reason}); the last one that "
            f"is there is whole, and the same command goes on from it"
        ) from error


def _leaves(tree: Any) -> dict[str, Any]:
    """The arrays of a tree, or their shapes alone, by path, type and shape."""
    return {
        f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}": leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _leaf_sha256s(tree: Any) -> dict[str, str]:
    """A hash of every array of a tree; of a PRNG key, that of its numbers."""
    return {
        name: tree_sha256(
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        )
        for name, leaf in _leaves(tree).items()
    }


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
