"""Reports of a run's progress: metrics.jsonl, TensorBoard, a tracker, the log, a progress bar."""

import contextlib
import functools
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Self

import numpy as np
from absl import logging
from etils import epath
from tqdm import tqdm

from experiments.errors import UserError
from experiments.runtime.events import EventFile, png
from experiments.runtime.trackers import Tracker
from experiments.runtime.workdir import write_atomically

METRICS = "metrics.jsonl"
PICTURES = "pictures"
# Prefix of a metric's name in metrics.jsonl -> its group in TensorBoard and trackers.
GROUPS = {"train_": "train/", "test_": "eval/", "interval_": "interval/", "floor_": "eval/floor_"}
OTHER_TAGS = {"learning_rate": "train/learning_rate", "seconds": "time/epoch_seconds"}
NOT_SHOWN = ("step", "epoch")  # they are the horizontal axis


class Telemetry:
    """Writes the progress of one run; a context manager.

    A resumed run rewrites `metrics.jsonl` from its history, so that the file has neither gaps nor
    duplicate lines. The file contains no times, so two runs of one config write the same bytes. A
    value that is not finite is null there. TensorBoard drops what an earlier process or the part
    before a rollback reported after the step at which the run resumes.

    Args:
      workdir: directory of the run.
      num_steps: steps of the run.
      step: step at which the run starts or resumes.
      history: records of the finished epochs.
      floors: name -> what a metric is compared with; TensorBoard and the log show it each epoch.
      start_tracker: starts the tracker of the run, given the step; None without one.
    """

    def __init__(
        self,
        workdir: epath.Path,
        *,
        num_steps: int,
        step: int,
        history: list[dict[str, float]],
        floors: Mapping[str, float] | None = None,
        start_tracker: Callable[[int], Tracker] | None = None,
    ) -> None:
        self._workdir = workdir
        self._metrics_file = workdir / METRICS
        self._first_step = step + 1
        self._floors = {f"floor_{name}": value for name, value in (floors or {}).items()}
        self._lines = [_line(record) for record in history]
        write_atomically(self._metrics_file, "".join(self._lines))
        self._events: set[epath.Path] = set()
        self._tracker: Tracker | None = None
        if start_tracker is not None:
            with self._tracking():
                self._tracker = start_tracker(step)
        self._bar = tqdm(
            total=num_steps, initial=step, unit="step", disable=not sys.stderr.isatty()
        )

    @functools.cached_property
    def _tensorboard(self) -> EventFile:
        return EventFile(self._workdir, self._first_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        with contextlib.ExitStack() as stack:
            if error is not None:
                # The error that ended the run is the one to report, not a later one of a writer.
                stack.enter_context(contextlib.suppress(Exception))
            stack.callback(self._close_tracker, finished=error is None)
            if "_tensorboard" in self.__dict__:  # something was written
                with self._writing_events():
                    self._tensorboard.close()

    def _close_tracker(self, *, finished: bool) -> None:
        if self._tracker:
            with self._tracking():
                self._tracker.close(finished=finished)

    def interval(self, step: int, scalars: dict[str, float]) -> None:
        """Reports the steps since the last report to the progress bar, TensorBoard, and tracker."""
        self._bar.set_postfix(loss=f"{scalars['interval_loss']:.4f}", refresh=False)
        self._bar.update(step - self._bar.n)
        self._write(step, scalars)

    def epoch(self, record: dict[str, float]) -> None:
        """Reports one epoch to `metrics.jsonl`, TensorBoard, the tracker, and the log."""
        # Object storage cannot append to a file, so write the complete file.
        self._lines.append(_line(record))
        write_atomically(self._metrics_file, "".join(self._lines))
        step = int(record["step"])
        scalars = {name: value for name, value in record.items() if name != "step"} | self._floors
        self._write(step, scalars)
        with self._writing_events():
            self._tensorboard.flush()
        self._check_events()
        if self._tracker:
            with self._tracking():
                self._tracker.flush()
        with self._bar.external_write_mode(file=sys.stderr):
            logging.info("[%d] %s", step, _shown(scalars))

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Writes the pictures of an epoch as PNG files, to TensorBoard, and to the tracker.

        Args:
          step: number of updates made.
          pictures: uint8 [height, width, channels] by name, with 1 or 3 channels.
        """
        for name, picture in pictures.items():
            encoded = png(picture)
            file = self._workdir / PICTURES / f"{name}_{step:08d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, encoded)
            with self._writing_events():
                self._tensorboard.write_picture(step, name, picture.shape, encoded)
        if self._tracker:
            with self._tracking():
                self._tracker.write_images(step, pictures)

    def _write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars to TensorBoard and the tracker, by their tags."""
        tagged = {tag(name): value for name, value in scalars.items() if name not in NOT_SHOWN}
        with self._writing_events():
            self._tensorboard.write(step, tagged)
        if self._tracker:
            with self._tracking():
                self._tracker.write_scalars(step, tagged)

    def _check_events(self) -> None:
        """Raises if the TensorBoard file was removed, because writing to it would not fail."""
        events = set(self._workdir.glob("events.out.tfevents.*"))
        lost = sorted(self._events - events)
        if lost:
            raise UserError(
                f"the TensorBoard file {lost[0]} was removed during the run; the same command "
                f"resumes from the last checkpoint with a new file"
            )
        self._events = events

    @contextlib.contextmanager
    def _writing_events(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # object storage raises exceptions of many types
            reason = " ".join(str(error).split())
            raise UserError(
                f"TensorBoard events cannot be written to {self._workdir} ({reason}); the same "
                f"command resumes from the last checkpoint"
            ) from error

    @contextlib.contextmanager
    def _tracking(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # each package has its own
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise UserError(
                f"the tracker of {self._workdir} failed ({reason}); the same command resumes from "
                "the last checkpoint"
            ) from error


def tag(name: str) -> str:
    """Returns the tag in TensorBoard and trackers of a name in `metrics.jsonl`.

    >>> tag("train_loss"), tag("test_ema_loss"), tag("interval_loss"), tag("learning_rate")
    ('train/loss', 'eval/ema_loss', 'interval/loss', 'train/learning_rate')
    """
    for prefix, group in GROUPS.items():
        if name.startswith(prefix):
            return group + name.removeprefix(prefix)
    return OTHER_TAGS.get(name, name)


def _line(record: Mapping[str, float]) -> str:
    kept = {name: value for name, value in finite(record).items() if name != "seconds"}
    return json.dumps(kept, allow_nan=False) + "\n"


def _shown(scalars: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in sorted(scalars.items())
    )


def finite(record: Mapping[str, float]) -> dict[str, float | None]:
    """Returns a record with None in place of each value that is not finite.

    >>> finite({"step": 3, "test_loss": math.nan})
    {'step': 3, 'test_loss': None}
    """
    return {name: value if math.isfinite(value) else None for name, value in record.items()}
