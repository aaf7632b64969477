"""The files of a run, and whose workdir is whose."""

import json
import os

import pytest
from etils import epath

from configs import quickstart
from experiments import telemetry
from experiments.errors import UserError


@pytest.fixture
def workdir(tmp_path):
    return epath.Path(tmp_path) / "runs" / "one"


def record(step):
    return {"step": step, "epoch": step / 10, "train_loss": 1 / step}


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_workdir_is_claimed_for_one_config(workdir):
    config = quickstart.get_config()
    workdir.mkdir(parents=True)
    telemetry.claim(workdir, config)
    written = json.loads((workdir / "config.json").read_text())
    assert written == json.loads(config.to_json())
    telemetry.claim(workdir, config)  # the same run goes on
    config.data.data_dir = "elsewhere"
    config.parallel.strategy = "pmap"
    telemetry.claim(workdir, config)  # the same data in another place, the same run in another way
    written = json.loads((workdir / "config.json").read_text())
    assert written == json.loads(config.to_json())
    config.schedule.name = "constant"
    config.seed = 5
    message = (
        r"another config's run \(schedule.name='cyclical_log_annealing', not 'constant'; "
        r"seed=0, not 5\)"
    )
    with pytest.raises(UserError, match=message):
        telemetry.claim(workdir, config)
    assert json.loads((workdir / "config.json").read_text()) == written


@pytest.mark.parametrize("blocker", ["runs", "runs/one"])
def test_a_file_where_the_workdir_should_be_is_named(workdir, tmp_path, blocker):
    (tmp_path / blocker).parent.mkdir(exist_ok=True)
    (tmp_path / blocker).write_text("mine")
    lock = telemetry.locked(workdir)
    with pytest.raises(UserError, match=r"workdir .*runs/one cannot be used"):
        lock.__enter__()
    assert (tmp_path / blocker).read_text() == "mine"


def test_a_config_file_that_is_not_one_is_left_alone(workdir):
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text("{torn")
    with pytest.raises(UserError, match=r"config.json is not a run's config"):
        telemetry.claim(workdir, quickstart.get_config())
    assert (workdir / "config.json").read_text() == "{torn"


def test_resumed_metrics_have_no_gap_and_no_double_line(workdir):
    workdir.mkdir(parents=True)
    with telemetry.Telemetry(workdir, num_steps=40, step=0, history=[]) as reports:
        for step in (10, 20, 30):
            reports.epoch(record(step))
    assert lines(workdir) == [record(10), record(20), record(30)]
    # The checkpoint was of step 20, so step 30 comes again.
    history = [record(10), record(20)]
    with telemetry.Telemetry(workdir, num_steps=40, step=20, history=history) as reports:
        assert lines(workdir) == history
        reports.epoch(record(30))
        reports.epoch(record(40))
    assert lines(workdir) == [record(10), record(20), record(30), record(40)]


def test_metrics_have_no_clock_in_them(workdir):
    workdir.mkdir(parents=True)
    before = [{**record(10), "seconds": 0.25}]
    with telemetry.Telemetry(workdir, num_steps=40, step=10, history=before) as reports:
        reports.epoch({**record(20), "seconds": 0.5})
    assert lines(workdir) == [record(10), record(20)]


def test_a_workdir_is_one_processs_at_a_time(workdir):
    """A lock is of a file's opening, so a second one in this process is as good as another's."""
    with telemetry.locked(workdir):
        second = telemetry.locked(workdir)
        with pytest.raises(
            UserError, match=rf"runs/one is in use by another process \(.*, process {os.getpid()}\)"
        ):
            second.__enter__()
    with telemetry.locked(workdir):
        pass


def test_an_events_file_that_is_gone_is_named(workdir):
    workdir.mkdir(parents=True)

    def lose_the_events():
        with telemetry.Telemetry(workdir, num_steps=40, step=0, history=[]) as reports:
            reports.epoch(record(10))
            (events,) = workdir.glob("events.out.tfevents.*")
            events.unlink()
            reports.epoch(record(20))

    with pytest.raises(UserError, match=r"the TensorBoard file .*events.out.* was removed while"):
        lose_the_events()
    assert lines(workdir) == [record(10), record(20)]


def test_a_summary_says_that_the_run_is_finished(workdir):
    workdir.mkdir(parents=True)
    assert telemetry.finished(workdir) is None
    telemetry.write_summary(workdir, {"steps": 3})
    assert telemetry.finished(workdir) == {"steps": 3}
    assert [file.name for file in workdir.iterdir()] == ["summary.json"]


def test_tensorboard_holds_what_was_reported(workdir):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    workdir.mkdir(parents=True)
    with telemetry.Telemetry(workdir, num_steps=20, step=0, history=[]) as reports:
        reports.interval(5, {"interval_loss": 0.75})
        reports.epoch(record(10))
    events = EventAccumulator(str(workdir), size_guidance={"tensors": 0}).Reload()
    tags = events.Tags()["tensors"]
    assert {"interval_loss", "train_loss", "epoch"} <= set(tags)
    assert [event.step for event in events.Tensors("interval_loss")] == [5]
