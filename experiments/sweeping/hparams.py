"""Files that show a finished sweep on TensorBoard's HParams page, written without TensorFlow."""

import io
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from experiments.runtime.telemetry import tag
from experiments.sweeping.store import Rows

FOLDER = "tensorboard"
FILE = "events.out.tfevents.sweep"
NAMES = ("phase", "data", "model", "setting")  # hyperparameters that are texts
Row = Mapping[str, Any]


def write(directory: epath.Path, rows: Rows, fields: Sequence[str], seconds: float) -> None:
    """Writes the curves and the hyperparameters of each trial.

    The trials that differ only in their seed are one group, of which the page shows the mean.

    Args:
      directory: directory of the sweep.
      rows: one row per trial and epoch.
      fields: fields of the grid.
      seconds: time that the sweep took, which ends now.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (*(row[name] for name in NAMES), *(row.get(field) for field in fields), row["seed"])
        groups.setdefault(key, []).append(row)
    now = time.time()
    folder = directory / FOLDER
    _write(folder, [(0, _experiment(rows, fields))], now)
    for number, trial in enumerate(groups.values()):
        phase, *_, setting = (trial[0][name] for name in NAMES)
        stem = re.sub(r"[^\w.+-]+", "-", f"{phase} {setting}").strip("-")
        name = f"{stem}-{number:04}-seed{trial[0]['seed']}"
        _write(folder / name, _trial(trial, fields, now - seconds, now), now)


def _experiment(rows: Rows, fields: Sequence[str]) -> Summary:
    """Describes all hyperparameters and metrics."""
    infos = [
        api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_STRING)
        for name in NAMES
        if len({row[name] for row in rows}) > 1
    ]
    infos += [api_pb2.HParamInfo(name=field, type=api_pb2.DATA_TYPE_FLOAT64) for field in fields]
    metrics = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag(name)))
        for name in sorted(rows[0], key=lambda name: not name.startswith("test_"))
        if name.startswith(("train_", "test_"))
    ]
    experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
    return _summary(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=experiment))


def _trial(
    trial: Sequence[Row], fields: Sequence[str], started: float, ended: float
) -> Iterable[tuple[int, Summary]]:
    """Yields the start, the scalars, and the end of one trial, each with its step."""
    first = trial[0]
    values = {field: first[field] for field in fields if first.get(field) is not None}
    names = [str(first[name]) for name in NAMES]
    group = "/".join([*names, *(f"{field}={value:g}" for field, value in values.items())])
    start = SessionStartInfo(group_name=group, start_time_secs=started)
    for name in NAMES:
        start.hparams[name].string_value = str(first[name])
    for field, value in values.items():
        start.hparams[field].number_value = value
    yield 0, _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))
    for row in trial:
        for name, value in row.items():
            is_scalar = name.startswith(("train_", "test_")) or name == "learning_rate"
            if is_scalar and value is not None and math.isfinite(value):
                yield int(row["step"]), scalar_pb(tag(name), np.float32(value))
    status = api_pb2.STATUS_FAILURE if trial[-1]["diverged"] else api_pb2.STATUS_SUCCESS
    end = SessionEndInfo(status=status, end_time_secs=ended)
    yield 0, _summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _summary(name: str, content: HParamsPluginData) -> Summary:
    summary = Summary()
    described = metadata.create_summary_metadata(content)
    summary.value.add(tag=name, tensor=metadata.NULL_TENSOR, metadata=described)
    return summary


def _write(folder: epath.Path, summaries: Iterable[tuple[int, Summary]], now: float) -> None:
    """Writes one complete file; the same command writes it anew if it is killed before the end."""
    content = io.BytesIO()
    records = RecordWriter(content)
    records.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    for step, summary in summaries:
        records.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(content.getvalue())
