"""The reports of a run: metrics.jsonl and TensorBoard."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from PIL import Image

from experiments.errors import UserError
from experiments.runtime import events as events_module
from experiments.runtime.telemetry import Telemetry


@pytest.fixture
def workdir(tmp_path):
    directory = epath.Path(tmp_path) / "runs" / "one"
    directory.mkdir(parents=True)
    return directory


def record(step):
    return {"step": step, "epoch": step / 10, "train_loss": 1 / step}


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_resumed_metrics_have_neither_gaps_nor_duplicates(workdir):
    with Telemetry(workdir, num_steps=40, step=0, history=[]) as telemetry:
        for step in (10, 20, 30):
            telemetry.epoch(record(step))
    assert lines(workdir) == [record(10), record(20), record(30)]
    # The newest checkpoint is at step 20, so step 30 is reported again.
    history = [record(10), record(20)]
    with Telemetry(workdir, num_steps=40, step=20, history=history) as telemetry:
        assert lines(workdir) == history
        telemetry.epoch(record(30))
        telemetry.epoch(record(40))
    assert lines(workdir) == [record(10), record(20), record(30), record(40)]


def test_metrics_contain_no_times(workdir):
    history = [{**record(10), "seconds": 0.25}]
    with Telemetry(workdir, num_steps=40, step=10, history=history) as telemetry:
        telemetry.epoch({**record(20), "seconds": 0.5})
    assert lines(workdir) == [record(10), record(20)]


def test_removed_events_file_is_reported(workdir):
    def lose_the_events():
        with Telemetry(workdir, num_steps=40, step=0, history=[]) as telemetry:
            telemetry.epoch(record(10))
            (events,) = workdir.glob("events.out.tfevents.*")
            events.unlink()
            telemetry.epoch(record(20))

    with pytest.raises(UserError, match=r"the TensorBoard file .*events.out.* was removed during"):
        lose_the_events()
    assert lines(workdir) == [record(10), record(20)]


def test_values_that_are_not_finite_are_null(workdir):
    history = [{**record(10), "train_loss": math.inf}]
    with Telemetry(workdir, num_steps=40, step=10, history=history) as telemetry:
        telemetry.epoch({**record(20), "train_loss": math.nan})
    assert [line["train_loss"] for line in lines(workdir)] == [None, None]
    assert "NaN" not in (workdir / "metrics.jsonl").read_text()


def test_tensorboard_has_every_step_once_after_kills_and_rollbacks(workdir):
    """Each part begins at its checkpoint, and goes beyond the checkpoint of the next part."""
    # The reader of TensorBoard itself.
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    for start, stop, value in ((0, 30, 1.0), (20, 50, 2.0), (10, 40, 3.0), (40, 60, 4.0)):
        with Telemetry(workdir, num_steps=60, step=start, history=[]) as telemetry:
            for step in range(start + 5, stop + 1, 5):
                telemetry.interval(step, {"interval_loss": value})
    assert len(list(workdir.glob("events.out.tfevents.*"))) == 4
    events = EventAccumulator(str(workdir), tensor_size_guidance={"scalars": 0}).Reload()
    found = {event.step: float(make_ndarray(event)) for event in events.Tensors("interval/loss")}
    assert [event.step for event in events.Tensors("interval/loss")] == list(range(5, 61, 5))
    assert found == {
        **dict.fromkeys((5, 10), 1.0),
        **dict.fromkeys(range(15, 41, 5), 3.0),
        **dict.fromkeys(range(45, 61, 5), 4.0),
    }


def make_ndarray(event):
    from tensorboard.util import tensor_util

    return tensor_util.make_ndarray(event.tensor_proto)


def test_tensorboard_contains_the_reported_scalars(workdir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    floors = {"train_loss": 0.05}
    with Telemetry(workdir, num_steps=20, step=0, history=[], floors=floors) as telemetry:
        telemetry.interval(5, {"interval_loss": 0.75})
        telemetry.epoch(record(10))
    events = EventAccumulator(str(workdir), size_guidance={"tensors": 0}).Reload()
    tags = events.Tags()["tensors"]
    assert set(tags) == {"interval/loss", "train/loss", "eval/floor_train_loss"}
    assert lines(workdir) == [record(10)]
    assert [event.step for event in events.Tensors("interval/loss")] == [5]


def test_pictures_are_files_and_in_tensorboard(workdir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    gray = np.arange(8, dtype=np.uint8).reshape(2, 4, 1)
    colors = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    with Telemetry(workdir, num_steps=20, step=0, history=[]) as telemetry:
        telemetry.pictures(7, {"samples": gray, "ema_samples": colors})
    stored = np.asarray(Image.open(workdir / "pictures" / "samples_00000007.png"))
    np.testing.assert_array_equal(stored, gray[..., 0])
    stored = np.asarray(Image.open(workdir / "pictures" / "ema_samples_00000007.png"))
    np.testing.assert_array_equal(stored, colors)
    events = EventAccumulator(str(workdir), size_guidance={"tensors": 0}).Reload()
    assert {"samples", "ema_samples"} <= set(events.Tags()["tensors"])
    (event,) = events.Tensors("samples")
    assert event.step == 7
    width, height, png = make_ndarray(event)
    assert (width, height) == (b"4", b"2")
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), gray[..., 0])


def test_scalars_can_be_read_while_the_run_goes_on(workdir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Telemetry(workdir, num_steps=20, step=0, history=[]) as telemetry:
        for step in (5, 10):
            telemetry.interval(step, {"interval_loss": 0.75})
            events = EventAccumulator(str(workdir), size_guidance={"tensors": 0}).Reload()
            assert events.Tensors("interval/loss")[-1].step == step


def test_events_on_a_bucket_are_written_as_a_complete_file_at_most_every_two_minutes(
    workdir, monkeypatch
):
    """Object storage cannot append. A local directory stands in for it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def steps():
        events = EventAccumulator(str(workdir), size_guidance={"tensors": 0}).Reload()
        return [event.step for event in events.Tensors("loss")]

    monkeypatch.setattr(events_module, "on_bucket", lambda path: True)
    seconds = 1000.0
    monkeypatch.setattr(events_module.time, "monotonic", lambda: seconds)
    file = events_module.EventFile(workdir, first_step=1)
    file.write(1, {"loss": 0.5})
    assert steps() == [1]
    file.write(2, {"loss": 0.5})
    assert steps() == [1]
    seconds += 121
    file.write(3, {"loss": 0.5})
    assert steps() == [1, 2, 3]
    file.write(4, {"loss": 0.5})
    file.close()
    assert steps() == [1, 2, 3, 4]


def test_reports_do_not_import_tensorflow(workdir):
    """The import takes seconds."""
    script = (
        "import sys, numpy\nfrom etils import epath\n"
        "from experiments.runtime.telemetry import Telemetry\n"
        "with Telemetry(epath.Path(sys.argv[1]), num_steps=4, step=0, history=[]) as telemetry:\n"
        "    telemetry.interval(4, {'interval_loss': 0.5})\n"
        "    telemetry.epoch({'step': 4, 'test_loss': 0.5})\n"
        "    telemetry.pictures(4, {'a': numpy.zeros((2, 2, 3), 'uint8')})\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    command = [sys.executable, "-c", script, str(workdir)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[3], timeout=120)
