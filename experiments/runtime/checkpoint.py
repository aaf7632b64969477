"""Checkpoints of a run: its state and its record, saved while training continues.

Orbax restores an array with a flipped byte without an error. So each checkpoint stores a hash of
every array, and a seal: a file with the hash of every file that holds state or record. The seal is
written before Orbax commits the checkpoint, so a checkpoint that a kill or a full disk
interrupts is never restored.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence, Set
from types import TracebackType
from typing import Any, Self

import orbax.checkpoint as ocp
from etils import epath

from experiments.errors import UserError
from experiments.program.state import TrainState
from experiments.runtime import processes
from experiments.runtime.hashes import leaf_sha256s, leaves
from experiments.runtime.workdir import on_bucket, write_atomically

Record = dict[str, Any]
SHOWN_ARRAYS = 3
SEAL = "sha256.json"
METADATA = "_CHECKPOINT_METADATA"  # Orbax writes times into this file after the seal is written


class Unusable(UserError):
    """No checkpoint can be restored.

    Args:
      reason: why.
      directory: directory of the checkpoints.
    """

    def __init__(self, reason: str, directory: epath.Path) -> None:
        super().__init__(
            f"{reason}; to start from scratch, move {directory} away, or pass another --workdir"
        )
        self.reason = reason


class _Kept:
    """Keeps the newest checkpoints and one more; a `PreservationPolicy` of Orbax.

    Args:
      number: number of checkpoints to keep.

    Attributes:
      best: step of the checkpoint to keep beside them, or None.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self.best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns which checkpoints, from the oldest to the newest, to keep."""
        first = len(checkpoints) - self._number
        return [
            place >= first or checkpoint.step == self.best
            for place, checkpoint in enumerate(checkpoints)
        ]


class Checkpointer:
    """Saves and restores the checkpoints in `workdir/checkpoints`; a context manager.

    Leaving the context waits for the save in progress.

    Args:
      workdir: directory of the run.
      max_to_keep: number of checkpoints to keep; older ones are deleted.
      config_sha256: the fingerprint of the configs whose state is saved; no other is restored.

    Raises:
      Unusable: the directory cannot be used.
    """

    def __init__(self, workdir: epath.Path, *, max_to_keep: int, config_sha256: str) -> None:
        self.directory = workdir / "checkpoints"
        self._config_sha256 = config_sha256
        if not on_bucket(workdir):
            self.directory = self.directory.absolute()
        self._saving = 0
        self._kept = _Kept(max_to_keep)
        asynchronous = ocp.AsyncOptions(
            post_finalization_callback=self._seal,
            # If a directory cannot be created, threads would wait for it until they time out.
            create_directories_asynchronously=False,
        )
        atomicity = ocp.path.atomicity
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._kept,
            cleanup_tmp_directories=True,
            temporary_path_class=atomicity.CommitFileTemporaryPath
            if on_bucket(workdir)
            else atomicity.AtomicRenameTemporaryPath,
            async_options=asynchronous,
        )
        try:
            if self.directory.exists() and not self.directory.is_dir():
                raise NotADirectoryError("it is not a directory")
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        except (OSError, ValueError) as error:
            reason = f"{self.directory} cannot be used ({_one_line(error)})"
            raise Unusable(reason, self.directory) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            try:
                self.finish_saving()
            except UserError:
                self._close_quietly()
                raise
            self._manager.close()
        else:
            self._close_quietly()

    def _close_quietly(self) -> None:
        """Closes the manager after an error, which is the one to report."""
        with contextlib.suppress(Exception):
            self._manager.close()

    def latest_step(self) -> int | None:
        """Returns the step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def save(
        self, step: int, state: TrainState, record: Record, *, best: int | None = None
    ) -> None:
        """Saves a state; returns as soon as the state has been copied from the device.

        Args:
          step: number of updates made.
          state: the state of a run or of many trials; it may be donated afterwards.
          record: everything else to restore, such as the history of epochs, as JSON values.
          best: step of the checkpoint to keep beside the newest, or None.

        Raises:
          UserError: this save, or the one before it, failed.
        """
        extra = {
            "record": record,
            "sha256": leaf_sha256s(state),
            "config_sha256": self._config_sha256,
        }
        with self._one_sentence():
            # Orbax waits for the previous save, whose callback still needs the previous step.
            self._manager.wait_until_finished()
            self._saving, self._kept.best = step, best
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra)
                ),
            )

    def finish_saving(self) -> None:
        """Waits for the save in progress.

        Raises:
          UserError: the save failed.
        """
        with self._one_sentence():
            self._manager.wait_until_finished()

    def restore_latest(self, shapes: TrainState) -> tuple[TrainState, Record] | None:
        """Restores the newest undamaged checkpoint.

        Newer, damaged checkpoints are moved to `damaged_checkpoints`, each with a warning.

        Args:
          shapes: a state of `jax.ShapeDtypeStruct`, such as `jax.eval_shape` returns.

        Returns:
          The state and the record, or None if there is no checkpoint.

        Raises:
          Unusable: there are checkpoints, but all of them are damaged, or the newest undamaged one
            belongs to another config or holds other arrays.
        """
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                _check_files(self.directory / str(step))
                restored = self._restore(step, shapes)
            except _Damaged as error:
                damaged[step] = str(error)
                continue
            processes.wait_for_all("every process has checked the checkpoints")
            if processes.is_first():
                for damaged_step, reason in damaged.items():
                    _set_aside(self.directory / str(damaged_step), reason)
            processes.wait_for_all("damaged checkpoints have been moved")
            self._manager.reload()
            return restored
        if damaged:
            each = "; ".join(f"{step}: {reason}" for step, reason in damaged.items())
            raise Unusable(
                f"all checkpoints in {self.directory} are damaged ({each})", self.directory
            )
        return None

    def restore_best(self, shapes: TrainState) -> tuple[TrainState, Record] | None:
        """Restores the checkpoint that the newest one names as the best.

        Args:
          shapes: as in `restore_latest`.

        Returns:
          The state and the record, or None if there is no checkpoint.

        Raises:
          UserError: the run keeps no best checkpoint, or it is damaged.
          Unusable: as in `restore_latest`.
        """
        newest = self.restore_latest(shapes)
        if newest is None:
            return None
        best = newest[1].get("best")
        if best is None:
            raise UserError(
                f"{self.directory} has no best checkpoint; the run needs checkpoint.keep_best=True"
            )
        place = self.directory / str(best["step"])
        try:
            _check_files(place)
            return self._restore(best["step"], shapes)
        except _Damaged as error:
            raise UserError(
                f"the best checkpoint {place} is damaged ({error}); use the newest one"
            ) from error

    def _restore(self, step: int, shapes: TrainState) -> tuple[TrainState, Record]:
        try:
            # The record first, so that Orbax never starts to restore a state of other shapes.
            args = ocp.args.Composite(extra=ocp.args.JsonRestore())
            extra = self._manager.restore(step, args=args).extra
            if extra.get("config_sha256") != self._config_sha256:
                raise Unusable(
                    f"checkpoint {self.directory / str(step)} belongs to another config",
                    self.directory,
                )
            self._check_arrays(step, extra["sha256"].keys(), leaves(shapes).keys())
            args = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
            state = self._manager.restore(step, args=args).state
        except (_Damaged, Unusable):
            raise
        except Exception as error:  # a damaged file makes Orbax raise almost any type
            raise _Damaged(f"it cannot be read: {type(error).__name__}") from error
        for name, sha256 in leaf_sha256s(state).items():
            if extra["sha256"][name] != sha256:
                raise _Damaged(f"state{name} differs from what was saved")
        return state, extra["record"]

    def _check_arrays(self, step: int, saved: Set[str], expected: Set[str]) -> None:
        """Refuses an undamaged checkpoint whose arrays are not those of this code and config."""
        if saved == expected:
            return
        theirs, ours = (
            ", ".join(sorted(names)[:SHOWN_ARRAYS]) or "nothing else"
            for names in (saved - expected, expected - saved)
        )
        raise Unusable(
            f"checkpoint {self.directory / str(step)} is undamaged, but this version of the code "
            f"has other arrays: the checkpoint has {theirs}, and the run has {ours}; resume with "
            "the version that saved it",
            self.directory,
        )

    def delete_all(self) -> None:
        """Deletes all checkpoints, so that the next save may be of any step."""
        for path in self.directory.iterdir():
            path.rmtree() if path.is_dir() else path.unlink()
        self._manager.reload()

    def _seal(self) -> None:
        """Seals the checkpoint that is being saved; Orbax calls this just before the commit."""
        if not processes.is_first():
            return
        # Until the commit, the directory has a suffix after its step, except on object storage.
        (directory,) = (
            path
            for path in self.directory.iterdir()
            if path.name.partition(".")[0] == str(self._saving)
        )
        seal = {
            str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(_files(directory))
            if file.name != METADATA
        }
        write_atomically(directory / SEAL, _seal_text(seal))

    @contextlib.contextmanager
    def _one_sentence(self) -> Iterator[None]:
        """Turns any error of a save into a UserError."""
        try:
            yield
        except Exception as error:  # a full disk raises almost any type, with the reason inside
            raise UserError(
                f"a checkpoint could not be saved in {self.directory} ({_one_line(error)}); the "
                f"last checkpoint there is undamaged, and the same command resumes from it"
            ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class _Damaged(Exception):
    """Names the file or the array that is damaged, and how."""


def _check_files(checkpoint: epath.Path) -> None:
    try:
        text = (checkpoint / SEAL).read_text()
        seal = json.loads(text)
        if text != _seal_text(seal):
            raise _Damaged(f"{SEAL} differs from what was saved")
        for name, sha256 in seal.items():
            if hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() != sha256:
                raise _Damaged(f"{name} does not match {SEAL}")
    except FileNotFoundError as error:
        missing = str(epath.Path(error.filename).relative_to(checkpoint))
        listed = "" if missing == SEAL else f", but {SEAL} lists it"
        raise _Damaged(f"{missing} is missing{listed}") from error
    except OSError as error:  # such as a directory in place of the file, or a failing disk
        raise _Damaged(f"{error.filename} cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise _Damaged(f"{SEAL} differs from what was saved") from error


def _set_aside(checkpoint: epath.Path, reason: str) -> None:
    directory = checkpoint.parent.parent / "damaged_checkpoints"
    directory.mkdir(exist_ok=True)
    names = {path.name for path in directory.iterdir()}
    again = sum(name.split("-")[0] == checkpoint.name for name in names)
    target = directory / (f"{checkpoint.name}-{again}" if again else checkpoint.name)
    checkpoint.rename(target)
    print(
        f"warning: checkpoint {checkpoint} is damaged ({reason}) and was moved to {target}",
        file=sys.stderr,
    )


def _files(directory: epath.Path) -> Iterator[epath.Path]:
    for path in directory.iterdir():
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _seal_text(seal: dict[str, str]) -> str:
    return json.dumps(seal, indent=1) + "\n"
