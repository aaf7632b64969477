"""The directory of a run or a sweep: its lock, its config, and its summary."""

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath
from flax.traverse_util import flatten_dict

from experiments.errors import UserError

# Fields that may differ when a run resumes: the location of the data, and how devices share a step.
MAY_CHANGE = ("data.data_dir", "parallel.strategy")


@contextlib.contextmanager
def locked(workdir: epath.Path) -> Iterator[None]:
    """Reserves a directory for this process until the context or the process ends.

    Object storage has no locks, so two runs in one bucket directory are not detected.

    Args:
      workdir: the directory, created if it does not exist.

    Raises:
      UserError: the directory cannot be used, or another process uses it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = None if on_bucket(workdir) else os.open(workdir / "lock", os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise _unusable(workdir, error) from error
    if file is None:
        yield
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(file, 300).decode()
            raise UserError(
                f"workdir {workdir} is in use by another process ({holder}); wait until it ends, "
                f"or pass another --workdir"
            ) from error
        os.ftruncate(file, 0)
        os.write(file, f"{platform.node()}, process {os.getpid()}".encode())
        yield
    finally:
        os.close(file)


def on_bucket(workdir: epath.Path) -> bool:
    """Returns whether a directory is in object storage, which has neither locks nor renames.

    >>> on_bucket(epath.Path("gs://bucket/run")), on_bucket(epath.Path("/tmp/run"))
    (True, False)
    """
    return "://" in os.fspath(workdir)


def claim(workdir: epath.Path, config: Mapping[str, Any]) -> None:
    """Stores a config in a directory, or compares it with the config that is there.

    Args:
      workdir: a directory that `locked` reserved.
      config: the config as a nested dict, written to `config.json`.

    Raises:
      UserError: the directory cannot be used, or belongs to a run with another config.
    """
    file = workdir / "config.json"
    try:
        if not file.exists():
            _write_json(file, config)
            return
        stored = json.loads(file.read_text())
    except OSError as error:
        raise _unusable(workdir, error) from error
    except json.JSONDecodeError as error:
        raise UserError(
            f"{file} is not the config of a run: {error}; pass another --workdir"
        ) from error
    ours, theirs = flatten_dict(config, sep="."), flatten_dict(stored, sep=".")
    different = [
        name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)
    ]
    refused = [
        f"{name}={theirs.get(name)!r}, not {ours.get(name)!r}"
        for name in different
        if not name.endswith(MAY_CHANGE)
    ]
    if refused:
        raise UserError(
            f"workdir {workdir} belongs to a run with another config ({'; '.join(refused)}); "
            f"pass another --workdir"
        )
    if different:
        _write_json(file, config)


def _unusable(workdir: epath.Path, error: OSError) -> UserError:
    return UserError(f"workdir {workdir} cannot be used ({error.strerror}); pass another --workdir")


def read_summary(workdir: epath.Path) -> dict[str, Any] | None:
    """Returns the summary of a finished run, or None if the run is not finished."""
    file = workdir / "summary.json"
    return json.loads(file.read_text()) if file.exists() else None


def write_summary(workdir: epath.Path, summary: Mapping[str, Any]) -> None:
    """Writes `summary.json` atomically; its presence marks the run as finished."""
    _write_json(workdir / "summary.json", summary)


def _write_json(file: epath.Path, content: Mapping[str, Any]) -> None:
    write_atomically(file, json.dumps(content, indent=2) + "\n")


def write_atomically(file: epath.Path, text: str) -> None:
    """Writes a file so that a reader sees either the old text or the new, never a part.

    Args:
      file: the file; its directory exists.
      text: the complete content.
    """
    partial_file = file.with_name(file.name + ".part")
    partial_file.write_text(text)
    partial_file.replace(file)
