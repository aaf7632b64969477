"""What a run tells: its files, TensorBoard, the log, and a progress bar on a terminal.

clu's writers import TensorFlow, which takes seconds: a thread does it while the run compiles.
"""

import contextlib
import fcntl
import functools
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import threading
from collections.abc import Iterator
from types import ModuleType, TracebackType
from typing import Any, Self

import jax
from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments.errors import UserError

# Of a run that goes on: where its data lie, and how its devices share a step.
MAY_CHANGE = ("data.data_dir", "parallel.strategy")
VERSIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "clu", "numpy")


@contextlib.contextmanager
def locked(workdir: epath.Path) -> Iterator[None]:
    """Keeps a directory for this process; the system gives it free when the process ends.

    A bucket has no locks: there, whoever starts two runs in one directory is not stopped.

    Args:
      workdir: directory, made if it is not there.

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
                f"workdir {workdir} is in use by another process ({holder}); wait for its end, or "
                f"pass another --workdir"
            ) from error
        os.ftruncate(file, 0)
        os.write(file, f"{platform.node()}, process {os.getpid()}".encode())
        yield
    finally:
        os.close(file)


def on_bucket(workdir: epath.Path) -> bool:
    """Whether a directory is in object storage, which has neither locks nor renames.

    >>> on_bucket(epath.Path("gs://bucket/run")), on_bucket(epath.Path("/tmp/run"))
    (True, False)
    """
    return "://" in os.fspath(workdir)


def claim(workdir: epath.Path, config: ConfigDict) -> None:
    """Makes a directory the workdir of a config's run, unless it is another's.

    Args:
      workdir: directory, which `locked` made.
      config: the run's config, written to `config.json`.

    Raises:
      UserError: the directory cannot be used, or holds the run of another config.
    """
    ours = json.loads(config.to_json())
    file = workdir / "config.json"
    try:
        if not file.exists():
            write_whole(file, json.dumps(ours, indent=2) + "\n")
            return
        theirs = json.loads(file.read_text())
    except OSError as error:
        raise _unusable(workdir, error) from error
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not a run's config: {error}; pass another --workdir") from error
    here, there = _flat(ours), _flat(theirs)
    different = [
        name for name in sorted(here.keys() | there.keys()) if here.get(name) != there.get(name)
    ]
    refused = [
        f"{name}={there.get(name)!r}, not {here.get(name)!r}"
        for name in different
        if not name.endswith(MAY_CHANGE)
    ]
    if refused:
        raise UserError(
            f"workdir {workdir} holds another config's run ({'; '.join(refused)}); "
            f"pass another --workdir"
        )
    if different:
        write_whole(file, json.dumps(ours, indent=2) + "\n")


def _unusable(workdir: epath.Path, error: OSError) -> UserError:
    return UserError(f"workdir {workdir} cannot be used ({error.strerror}); pass another --workdir")


def finished(workdir: epath.Path) -> dict[str, Any] | None:
    """The summary of a workdir's run, or None while it is unfinished."""
    file = workdir / "summary.json"
    return json.loads(file.read_text()) if file.exists() else None


def write_summary(workdir: epath.Path, summary: dict[str, Any]) -> None:
    """Writes `summary.json`, which says that the run is finished, whole or not at all."""
    write_whole(workdir / "summary.json", json.dumps(summary, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """The device and the versions that a result came from."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind
        if device.platform != "cpu"
        else f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "platform": device.platform,
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONS},
        },
    }


def _writers() -> ModuleType:
    """Clu's writers; of several threads that ask for them the others wait for the first."""
    # Nothing here computes with TensorFlow: without oneDNN it starts without its notices.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    return importlib.import_module("clu.metric_writers")


class Telemetry:
    """The writers of one run, as a context.

    `metrics.jsonl` is written anew from the history a run resumes with, so that it never has a gap
    or a double line. It has no clock time, so that two runs of one config have the same bytes.
    """

    def __init__(
        self, workdir: epath.Path, *, num_steps: int, step: int, history: list[dict[str, float]]
    ) -> None:
        threading.Thread(target=_writers, daemon=True).start()
        self._workdir = workdir
        self._metrics_file = workdir / "metrics.jsonl"
        self._lines = [_line(record) for record in history]
        write_whole(self._metrics_file, "".join(self._lines))
        self._events: set[epath.Path] = set()
        self._bar = tqdm(
            total=num_steps, initial=step, unit="step", disable=not sys.stderr.isatty()
        )

    @functools.cached_property
    def _tensorboard(self) -> Any:
        return _writers().SummaryWriter(os.fspath(self._workdir))

    @functools.cached_property
    def _log(self) -> Any:
        return _writers().LoggingWriter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if "_tensorboard" not in self.__dict__:
            return  # nothing was reported
        if error is None:
            with self._writing_events():
                self._tensorboard.close()
            return
        # What ended the run is what is told, not what the writer says of it afterwards.
        with contextlib.suppress(Exception):
            self._tensorboard.close()

    def interval(self, step: int, scalars: dict[str, float]) -> None:
        """Reports the steps since the last report: to the progress bar and TensorBoard."""
        self._bar.set_postfix(loss=f"{scalars['interval_loss']:.4f}", refresh=False)
        self._bar.update(step - self._bar.n)
        with self._writing_events():
            self._tensorboard.write_scalars(step, scalars)

    def epoch(self, record: dict[str, float]) -> None:
        """Reports one epoch: to `metrics.jsonl`, TensorBoard and the log."""
        # Whole, because to what is on a bucket nothing can be added.
        self._lines.append(_line(record))
        write_whole(self._metrics_file, "".join(self._lines))
        step = int(record["step"])
        scalars = {name: value for name, value in record.items() if name != "step"}
        with self._writing_events():
            self._tensorboard.write_scalars(step, scalars)
            self._tensorboard.flush()
        self._check_events()
        with self._bar.external_write_mode(file=sys.stderr):
            self._log.write_scalars(step, scalars)

    def _check_events(self) -> None:
        """Refuses to go on writing to a file that was removed, which no write would notice."""
        events = set(self._workdir.glob("events.out.tfevents.*"))
        lost = sorted(self._events - events)
        if lost:
            raise UserError(
                f"the TensorBoard file {lost[0]} was removed while the run was writing; the same "
                f"command goes on from the last checkpoint with a new one"
            )
        self._events = events

    @contextlib.contextmanager
    def _writing_events(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # TensorFlow has an exception of its own for every errno
            reason = " ".join(str(error).split())
            raise UserError(
                f"TensorBoard's events cannot be written to {self._workdir} ({reason}); the same "
                f"command goes on from the last checkpoint"
            ) from error


def write_whole(file: epath.Path, text: str) -> None:
    """Writes a file so that whoever looks at it sees the old text or the new, never a part.

    Args:
      file: the file; its directory is there.
      text: the whole content.
    """
    partial_file = file.with_name(file.name + ".part")
    partial_file.write_text(text)
    partial_file.replace(file)


def _line(record: dict[str, float]) -> str:
    kept = {name: value for name, value in record.items() if name != "seconds"}
    return json.dumps(kept) + "\n"


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
