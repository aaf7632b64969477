"""What a run tells: its files, TensorBoard, the log, and a progress bar on a terminal.

clu's writers import TensorFlow, which takes seconds: they are imported when a run starts.
"""

import importlib.metadata
import json
import os
import platform
import sys
import time
from types import TracebackType
from typing import Any, Self

import jax
from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from experiments.errors import UserError

VERSIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "clu", "numpy")


def claim(workdir: epath.Path, config: ConfigDict) -> None:
    """Makes a directory the workdir of a config's run, unless it is another's.

    Args:
      workdir: directory, made if it is not there.
      config: the run's config, written to `config.json`.

    Raises:
      UserError: the directory cannot be used, or holds the run of another config.
    """
    ours = json.loads(config.to_json())
    file = workdir / "config.json"
    try:
        if not file.exists():
            workdir.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(ours, indent=2) + "\n")
            return
        theirs = json.loads(file.read_text())
    except OSError as error:
        raise UserError(
            f"workdir {workdir} cannot be used ({error.strerror}); pass another --workdir"
        ) from error
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not a run's config: {error}; pass another --workdir") from error
    here, there = _flat(ours), _flat(theirs)
    # Where the data lie does not change what is computed from them.
    different = [
        f"{name}={there.get(name)!r}, not {here.get(name)!r}"
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name) and not name.endswith("data.data_dir")
    ]
    if different:
        raise UserError(
            f"workdir {workdir} holds another config's run ({'; '.join(different)}); "
            f"pass another --workdir"
        )


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
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONS},
        },
    }


class Telemetry:
    """The writers of one run, as a context.

    `metrics.jsonl` is written anew from the history a run resumes with, so that it never has a gap
    or a double line.
    """

    def __init__(
        self, workdir: epath.Path, *, num_steps: int, step: int, history: list[dict[str, float]]
    ) -> None:
        # Nothing here computes with TensorFlow: without oneDNN it starts without its notices.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
        from clu import metric_writers

        self._metrics_file = workdir / "metrics.jsonl"
        write_whole(self._metrics_file, "".join(json.dumps(line) + "\n" for line in history))
        self._log = metric_writers.LoggingWriter()
        self._tensorboard = metric_writers.SummaryWriter(os.fspath(workdir))
        self._bar = tqdm(
            total=num_steps, initial=step, unit="step", disable=not sys.stderr.isatty()
        )
        self.started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        self._tensorboard.close()

    def interval(self, step: int, scalars: dict[str, float]) -> None:
        """Reports the steps since the last report: to TensorBoard and the progress bar."""
        self._tensorboard.write_scalars(step, scalars)
        self._bar.set_postfix(loss=f"{scalars['interval_loss']:.4f}", refresh=False)
        self._bar.update(step - self._bar.n)

    def epoch(self, record: dict[str, float]) -> None:
        """Reports one epoch: to `metrics.jsonl`, TensorBoard and the log."""
        with self._metrics_file.open("a") as file:
            file.write(json.dumps(record) + "\n")
        step = int(record["step"])
        scalars = {name: value for name, value in record.items() if name != "step"}
        self._tensorboard.write_scalars(step, scalars)
        self._tensorboard.flush()
        with self._bar.external_write_mode(file=sys.stderr):
            self._log.write_scalars(step, scalars)


def write_whole(file: epath.Path, text: str) -> None:
    """Writes a file so that whoever looks at it sees the old text or the new, never a part.

    Args:
      file: the file; its directory is there.
      text: the whole content.
    """
    partial_file = file.with_name(file.name + ".part")
    partial_file.write_text(text)
    partial_file.replace(file)


def _flat(section: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in section.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
