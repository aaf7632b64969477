"""The directory of a run or a sweep: its lock, its config, and its summary."""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath
from flax.traverse_util import flatten_dict

from experiments import sealed
from experiments.build.ranges import shown
from experiments.errors import UserError

# Fields that may differ when a run resumes, because they do not change what it learns.
MAY_CHANGE = (
    *("data.data_dir", "data.max_damaged", "data.workers", "parallel.strategy"),
    *("log_every_steps", "eval_batch_size", "checkpoint.every_epochs", "checkpoint.max_to_keep"),
    "checkpoint.keep_best",
)
EPOCHS, TOTAL_EPOCHS = "epochs", "schedule.total_epochs"
MAX_SHOWN = 5  # differing fields that an error lists
SUMMARY = "summary.json"
LOCK_MODE = 0o666  # less what the user's umask takes away


@contextlib.contextmanager
def locked(workdir: epath.Path, *, share: str = "") -> Iterator[None]:
    """Reserves a directory for this process until the context or the process ends.

    Several processes may share it, each with its own share: "-1-of-4" to "-4-of-4". A process
    without a share, or with one of another number of shares, is refused meanwhile.

    Object storage has no locks, so two runs in one bucket directory are not detected.

    Args:
      workdir: the directory, created if it does not exist.
      share: what this process reserves, or "" for the whole directory.

    Raises:
      UserError: the directory cannot be used, or another process uses it.
    """
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            if not on_bucket(workdir):
                _lock(stack, workdir, "lock", fcntl.LOCK_SH if share else fcntl.LOCK_EX)
                if share:
                    _lock(stack, workdir, f"lock{share}", fcntl.LOCK_EX)
                    _refuse_others(workdir, share)
        except OSError as error:
            raise _unusable(workdir, error) from error
        yield


def _lock(stack: contextlib.ExitStack, workdir: epath.Path, name: str, kind: int) -> None:
    """Locks a file in a directory until the stack is closed."""
    file = os.open(workdir / name, os.O_RDWR | os.O_CREAT, LOCK_MODE)
    stack.callback(os.close, file)
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _in_use(workdir, file) from error
    os.ftruncate(file, 0)
    os.write(file, f"{platform.node()}, process {os.getpid()}".encode())


def _refuse_others(workdir: epath.Path, share: str) -> None:
    """Refuses a directory in which a process has a share of another number of shares."""
    count = share.rpartition("-")[2]
    for path in workdir.glob("lock-*-of-*"):
        if path.name.endswith(f"-of-{count}"):
            continue
        file = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(workdir, file) from error
        finally:
            os.close(file)


def _in_use(workdir: epath.Path, file: int) -> UserError:
    holder = os.read(file, 300).decode(errors="replace")
    return UserError(
        f"workdir {workdir} is in use by another process ({holder}); wait until it ends, or pass "
        f"another --workdir"
    )


def in_use(workdir: epath.Path) -> bool:
    """Returns whether a process reserves a directory, or a share of it, at this moment.

    Object storage has no locks, so a directory there is never in use.
    """
    if on_bucket(workdir):
        return False
    for path in workdir.glob("lock*"):
        file = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
    return False


def on_bucket(workdir: epath.Path) -> bool:
    """Returns whether a directory is in object storage, which has neither locks nor renames.

    >>> on_bucket(epath.Path("gs://bucket/run")), on_bucket(epath.Path("/tmp/run"))
    (True, False)
    """
    return "://" in os.fspath(workdir)


def claim(workdir: epath.Path, config: Mapping[str, Any], *, extend: bool = False) -> None:
    """Stores a config in a directory, or compares it with the config that is there.

    Args:
      workdir: a directory that `locked` reserved.
      config: the config as a nested dict, written to `config.json`.
      extend: whether the run there may have fewer epochs, with the same schedule.

    Raises:
      UserError: the directory cannot be used, or belongs to a run with another config.
    """
    file = workdir / "config.json"
    try:
        if not file.exists():
            if extend:
                raise UserError(
                    f"workdir {workdir} has no run to extend; train one without --extend_to_epochs"
                )
            _write_config(file, config)
            return
        stored = json.loads(file.read_text())
        if not isinstance(stored, dict):
            raise ValueError("it is not a JSON object")
    except OSError as error:
        raise _unusable(workdir, error) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file} is not the config of a run: {error}; pass another --workdir, or delete the "
            f"file, and the same command resumes if the checkpoints belong to its config"
        ) from error
    if extend and trajectory(config) == trajectory(stored):
        _extend(workdir, config, stored)
        return
    ours, theirs = flatten_dict(config, sep="."), flatten_dict(stored, sep=".")
    different = [
        name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)
    ]
    refused = [
        f"{name}={shown(theirs.get(name))}, not {shown(ours.get(name))}"
        for name in different
        if not name.endswith(MAY_CHANGE)
    ]
    if refused:
        more = len(refused) - MAX_SHOWN
        listed = "; ".join([*refused[:MAX_SHOWN], *([f"and {more} more"] if more > 0 else [])])
        raise UserError(
            f"workdir {workdir} belongs to a run with another config ({listed}); "
            f"pass another --workdir"
        )
    # The summary of a finished run holds a hash of its config.json.
    if different and not (workdir / SUMMARY).exists():
        _write_config(file, config)


def _extend(workdir: epath.Path, config: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    """Replaces the config of a run by one with more epochs, and marks the run as unfinished."""
    before, after = stored[EPOCHS], config[EPOCHS]
    if before > after:
        raise UserError(
            f"workdir {workdir} has a run that was extended to {before:g} epochs before; "
            f"--extend_to_epochs={after:g} must be at least that"
        )
    if before < after:
        # A process that is killed in between leaves an unfinished run, which can be extended, too.
        (workdir / SUMMARY).unlink(missing_ok=True)
        _write_config(workdir / "config.json", config)


def _write_config(file: epath.Path, config: Mapping[str, Any]) -> None:
    try:
        text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    except ValueError as error:
        raise UserError("the config has a number that is infinite or NaN; change it") from error
    write_atomically(file, text)


def _unusable(workdir: epath.Path, error: OSError) -> UserError:
    place = "" if error.filename in (None, os.fspath(workdir)) else f": {error.filename}"
    return UserError(
        f"workdir {workdir} cannot be used ({error.strerror}{place}); pass another --workdir"
    )


def trajectory(config: Mapping[str, Any]) -> str:
    """Returns a hash of what determines the states of a run, but not of when it ends.

    Args:
      config: the config of a run as a nested dict.

    Returns:
      64 hexadecimal digits.

    >>> long = {"epochs": 20.0, "schedule": {"total_epochs": 10.0}}
    >>> trajectory({"epochs": 10.0}) == trajectory(long)
    True
    >>> trajectory({"epochs": 10.0}) == trajectory({"epochs": 20.0})
    False
    """
    flat = flatten_dict(config, sep=".")
    epochs = flat.pop(EPOCHS, None)
    if flat.get(TOTAL_EPOCHS) is None:
        flat[TOTAL_EPOCHS] = epochs
    return fingerprint([flat])


def fingerprint(configs: Sequence[Mapping[str, Any]]) -> str:
    """Returns a hash of configs without the fields that may differ when a run resumes.

    Args:
      configs: configs as nested dicts.

    Returns:
      64 hexadecimal digits.

    >>> fingerprint([{"seed": 0}]) == fingerprint([{"seed": 0, "data": {"data_dir": "elsewhere"}}])
    True
    >>> fingerprint([{"seed": 0}]) == fingerprint([{"seed": 1}])
    False
    """
    fixed = [
        {
            name: value
            for name, value in flatten_dict(config, sep=".").items()
            if not name.endswith(MAY_CHANGE)
        }
        for config in configs
    ]
    return sealed.digest(fixed)


def read_summary(workdir: epath.Path, *, warn: bool = True) -> dict[str, Any] | None:
    """Returns the summary of a finished run.

    Args:
      workdir: directory of the run or the sweep.
      warn: whether this process prints the warning about a damaged file.

    Returns:
      The summary, or None if the run is not finished. A run whose summary is damaged, or one of
      whose files differs from what the summary says, is not finished; its command writes them anew
      from the checkpoints.

    Raises:
      UserError: the summary cannot be read.
    """
    file = workdir / SUMMARY
    if not file.exists():
        return None
    try:
        summary = sealed.loads(read_text(file))
    except ValueError as error:
        _damaged(file, str(error), warn)
        return None
    files = summary.pop("files", None)
    if files is None:
        _damaged(file, "it is another kind of file", warn)
        return None
    for name, sha256 in files.items():
        other = workdir / name
        if not other.exists():
            _damaged(other, "it is missing", warn)
            return None
        if _file_sha256(other) != sha256:
            _damaged(other, f"it does not match {SUMMARY}", warn)
            return None
    return summary


def _damaged(file: epath.Path, reason: str, warn: bool) -> None:
    if warn:
        print(f"warning: {file} is damaged ({reason}); writing it anew", file=sys.stderr)


def write_summary(workdir: epath.Path, summary: Mapping[str, Any], *, files: Sequence[str]) -> None:
    """Writes `summary.json` atomically; its presence marks the run as finished.

    Args:
      workdir: directory of the run or the sweep.
      summary: JSON values by name, none of them NaN or infinite.
      files: names of files in the directory, whose hashes the summary holds too.
    """
    hashes = {name: _file_sha256(workdir / name) for name in files}
    write_atomically(workdir / SUMMARY, sealed.dumps({**summary, "files": hashes}, indent=2))


def read_text(file: epath.Path) -> str:
    """Returns the text of a file; bytes that are not UTF-8 are replaced.

    Args:
      file: a file that exists.

    Returns:
      The text.

    Raises:
      UserError: the file cannot be read, or is a directory.
    """
    return _read_bytes(file).decode(errors="replace")


def _read_bytes(file: epath.Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}); repair it or move it away, and run the "
            f"same command again"
        ) from error


def _file_sha256(file: epath.Path) -> str:
    return hashlib.sha256(_read_bytes(file)).hexdigest()


def write_atomically(file: epath.Path, content: str | bytes) -> None:
    """Writes a file so that a reader sees either the old content or the new, never a part.

    This holds after a power failure too, because the system writes the content to the disk before
    the name. Object storage does so by itself.

    Args:
      file: the file; its directory exists.
      content: the complete content.

    Raises:
      UserError: there is a directory of that name.
    """
    local = not on_bucket(file)
    if local and file.is_dir():
        raise UserError(
            f"{file} cannot be written, because it is a directory; move it away, and run the same "
            f"command again"
        )
    # Shards may write one file at the same time.
    partial_file = file.with_name(f"{file.name}.{platform.node()}-{os.getpid()}.part")
    with partial_file.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        if local:
            stream.flush()
            os.fsync(stream.fileno())
    partial_file.replace(file)
    if local:
        _sync(file.parent)


def _sync(directory: epath.Path) -> None:
    """Waits until the names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
