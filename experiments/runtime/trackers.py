"""Trackers of `experiments.train`: a CSV file, Weights & Biases, or MLflow.

Each has the methods of `clu.metric_writers.MetricWriter` that a run uses. It is not a subclass,
because importing that class imports TensorFlow, which takes seconds.
"""

import importlib.util
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict

from experiments.errors import UserError
from experiments.runtime.workdir import on_bucket, write_atomically

IDS = "tracker.json"  # in the directory of a run: tracker -> what finds its run again
PROJECT = "loganneal"
CSV = "metrics.csv"
MLFLOW_DIRECTORY = "runs/mlruns"
MAX_PARAM_LETTERS = 6000  # of MLflow
MAX_PARAMS = 100  # of MLflow, in one call


class Tracker(Protocol):
    """Records the scalars and pictures of a run, in which a resumed run continues."""

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Records the config by dotted field, at the start of each part of a run."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records scalars of a step."""

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Records pictures of a step, uint8 [height, width, channels]."""

    def flush(self) -> None:
        """Writes what has been recorded so far."""

    def close(self, *, finished: bool = True) -> None:
        """Flushes and closes the tracker; `finished` says whether the run reached its end."""


class CsvTracker:
    """Writes `metrics.csv`: one row per step that was reported, and one column per scalar.

    A resumed run continues the file from the rows before its step. A cell without a value is empty.
    Pictures are files of the run already.

    Args:
      workdir: directory of the run.
      step: step at which the run starts or resumes.
    """

    def __init__(self, workdir: epath.Path, step: int) -> None:
        self._file = workdir / CSV
        self._rows: dict[int, dict[str, str]] = {}
        if step and self._file.exists():
            header, *lines = self._file.read_text().splitlines()
            names = header.split(",")
            rows = [dict(zip(names, line.split(","), strict=True)) for line in lines]
            self._rows = {
                int(row["step"]): {name: value for name, value in row.items() if value}
                for row in rows
                if int(row["step"]) <= step
            }

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Does nothing: `config.json` is beside the file."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds scalars to the row of a step."""
        row = self._rows.setdefault(step, {"step": str(step)})
        row.update({name: repr(float(value)) for name, value in scalars.items()})

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Does nothing: the directory of the run has the pictures as files."""

    def flush(self) -> None:
        """Writes the complete file."""
        rows = [self._rows[step] for step in sorted(self._rows)]
        names = ["step", *sorted({name for row in rows for name in row} - {"step"})]
        lines = [names, *([row.get(name, "") for name in names] for row in rows)]
        write_atomically(self._file, "".join(",".join(line) + "\n" for line in lines))

    def close(self, *, finished: bool = True) -> None:
        """Writes the complete file."""
        self.flush()


class WandbTracker:
    """Records a run with Weights & Biases, in the mode and project of its environment variables.

    Args:
      workdir: directory of the run.
      step: step at which the run starts or resumes.
    """

    def __init__(self, workdir: epath.Path, step: int) -> None:
        import wandb

        self._wandb = wandb
        ids = _read_ids(workdir)
        if "wandb" not in ids:
            ids["wandb"] = uuid.uuid4().hex[:12]
            _write_ids(workdir, ids)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=ids["wandb"],
            name=workdir.name,
            resume="allow",
            dir=None if on_bucket(workdir) else os.fspath(workdir),
            # The run has its own log, and its code is not the working directory's.
            settings=wandb.Settings(console="off", save_code=False),
        )
        # W&B's own step only rises, but a run may return to an earlier checkpoint.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Records the config."""
        self._run.config.update(dict(hparams), allow_val_change=True)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records scalars of a step."""
        self._run.log({**scalars, "step": step})

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Records pictures of a step."""
        shown = {name: self._wandb.Image(image) for name, image in images.items()}
        self._run.log({**shown, "step": step})

    def flush(self) -> None:
        """Does nothing: another process writes as soon as a value is recorded."""

    def close(self, *, finished: bool = True) -> None:
        """Waits until everything is written; a run that was stopped is marked as failed."""
        self._run.finish(exit_code=0 if finished else 1)


class MlflowTracker:
    """Records a run with MLflow, at MLFLOW_TRACKING_URI or in the directory `runs/mlruns`.

    Args:
      workdir: directory of the run.
      step: step at which the run starts or resumes.
    """

    def __init__(self, workdir: epath.Path, step: int) -> None:
        # MLflow refuses directories without it, and a database needs packages that a server has.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        import mlflow

        uri = os.environ.get("MLFLOW_TRACKING_URI") or MLFLOW_DIRECTORY
        self._client = mlflow.MlflowClient(tracking_uri=uri)
        self._entities = mlflow.entities
        ids = _read_ids(workdir)
        self._is_new = "mlflow" not in ids
        if self._is_new:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            experiment = self._client.get_experiment_by_name(name)
            number = experiment and experiment.experiment_id
            created = self._client.create_run(
                number or self._client.create_experiment(name), run_name=workdir.name
            )
            ids["mlflow"] = created.info.run_id
            _write_ids(workdir, ids)
        self._id = ids["mlflow"]
        self._client.update_run(self._id, status="RUNNING")

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Records the config as parameters; those of a run that continues are recorded already."""
        if not self._is_new:
            return
        params = [
            self._entities.Param(name, str(value)[:MAX_PARAM_LETTERS])
            for name, value in hparams.items()
        ]
        for start in range(0, len(params), MAX_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + MAX_PARAMS])

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Records scalars of a step."""
        now = int(1000 * time.time())
        metrics = [
            self._entities.Metric(name, float(value), now, step) for name, value in scalars.items()
        ]
        self._client.log_batch(self._id, metrics=metrics)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Records pictures of a step."""
        for name, image in images.items():
            self._client.log_image(self._id, image, key=name, step=step)

    def flush(self) -> None:
        """Does nothing: each call writes."""

    def close(self, *, finished: bool = True) -> None:
        """Ends the run in MLflow; the same command continues one that was stopped."""
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")


class Kind(NamedTuple):
    """A tracker that a run may have.

    Attributes:
      make: its class.
      package: the package that it needs, or None.
    """

    make: Callable[[epath.Path, int], Tracker]
    package: str | None = None


def check(name: str | None) -> None:
    """Refuses a tracker that is unknown, or whose package is not installed.

    Args:
      name: a name in `TRACKERS`, or None.

    Raises:
      UserError: the name is unknown, or a package is missing.
    """
    if name is None:
        return
    if name not in TRACKERS:
        raise UserError(f"--tracker={name} is not a tracker; choose from {', '.join(TRACKERS)}")
    package = TRACKERS[name].package
    if package and importlib.util.find_spec(package) is None:
        raise UserError(
            f"--tracker={name} needs the package {package}, which is not installed; install it "
            f"with: pip install 'loganneal-jax[{name}]'"
        )


def start(name: str, workdir: epath.Path, config: Mapping[str, Any], step: int) -> Tracker:
    """Starts a tracker, or continues with the tracked run of the directory.

    Args:
      name: a name in `TRACKERS`.
      workdir: directory of the run.
      config: its config as a nested dict.
      step: step at which the run starts or resumes.

    Returns:
      The tracker.
    """
    tracker = TRACKERS[name].make(workdir, step)
    tracker.write_hparams(flatten_dict(config, sep="."))
    return tracker


def _read_ids(workdir: epath.Path) -> dict[str, str]:
    file = workdir / IDS
    return json.loads(file.read_text()) if file.exists() else {}


def _write_ids(workdir: epath.Path, ids: Mapping[str, str]) -> None:
    write_atomically(workdir / IDS, json.dumps(ids, indent=2) + "\n")


TRACKERS = {
    "csv": Kind(CsvTracker),
    "mlflow": Kind(MlflowTracker, "mlflow"),
    "wandb": Kind(WandbTracker, "wandb"),
}
