"""Several processes make one run. The slow tests start real processes, which talk over gloo."""

import contextlib
import json
import signal
import socket
import time

import pytest

from experiments.errors import UserError
from experiments.runtime import processes
from tests.experiments.models import two_convolutions
from tests.experiments.runtime.lives import (
    STEPS_PER_EPOCH,
    Life,
    num_epochs,
    result,
    saved_steps,
    train,
)

EPOCHS = "--config.epochs=6"


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (
            ("localhost:1234",),
            "--num_processes, --process_id missing: pass all of --coordinator_address, ",
        ),
        ((None, 2, 1), "--coordinator_address missing"),
        (("localhost", 2, 0), "--coordinator_address='localhost' must be HOST:PORT"),
        (("localhost:x", 2, 0), "--coordinator_address='localhost:x' must be HOST:PORT"),
        (("localhost:1234", 2, 2), "--process_id=2 must be at least 0 and less than .*=2"),
        (("localhost:1234", 2, -1), "--process_id=-1 must be at least 0"),
        (("localhost:1234", 0, 0), "--process_id=0 must .* less than --num_processes=0"),
        (("localhost:99999", 1, 0), "--coordinator_address='localhost:99999' must be HOST:PORT"),
        ((None, None, None, 0), "--coordinator_timeout=0 must be above 0 seconds"),
    ],
)
def test_invalid_cluster_is_refused(cluster, message):
    with (
        pytest.raises(UserError, match=message),
        processes.joined(processes.Cluster(*cluster), give_up=pytest.fail),
    ):
        pytest.fail("joined")


def test_port_in_use_is_refused():
    with socket.create_server(("", 0)) as taken:
        cluster = processes.Cluster(f"localhost:{taken.getsockname()[1]}", 1, 0)
        with (
            pytest.raises(UserError, match="Address already in use"),
            processes.joined(cluster, give_up=pytest.fail),
        ):
            pytest.fail("joined")


def test_single_process_does_not_wait(monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    with processes.joined(processes.Cluster(), give_up=pytest.fail):
        assert processes.is_first()
        assert processes.together(lambda: 5) == 5
        processes.wait_for_all("nobody")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "node1"}, False),
        ({"SLURM_NTASKS": "8"}, False),  # in the batch script, outside srun
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NODELIST": "node[1-2]"}, True),
    ],
)
def test_slurm_job_step_is_detected(monkeypatch, variables, expected):
    for name in ("SLURM_NTASKS", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert processes._in_cluster() == expected


def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def two(workdir, *options, other=()):
    """Starts two processes with two devices each; the flags `other` go to the second only."""
    cluster = (f"--coordinator_address=localhost:{free_port()}", "--num_processes=2")
    with (
        Life(workdir, *options, *cluster, "--process_id=0", devices=2) as first,
        Life(workdir, *options, *cluster, "--process_id=1", *other, devices=2) as second,
    ):
        yield first, second


def ends(*lives):
    """Returns the exit code and the last line of each process."""
    return [(life.wait(), life.last_line()) for life in lives]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        (),
        # A network whose batch norm sees the images of both processes.
        (
            f"--config.model.name={two_convolutions.NAME}",
            "--config.model.width_multiplier=0.25",
            "--config.model.attention.name=beside",
            "--config.batch_size=64",
            "--config.epochs=2",
            # At the peak of the quickstart, the first epochs turn a difference of 1e-6 into 1e-2.
            "--config.schedule.peak_value=0.01",
            "--config.schedule.end_value=0.0001",
        ),
    ],
    ids=["nn2", "two_convolutions"],
)
def test_two_processes_train_like_one(tmp_path, options):
    code, errors = train(tmp_path / "one", EPOCHS, *options)
    assert code == 0, errors
    with two(tmp_path / "two", EPOCHS, *options) as lives:
        assert [life.wait() for life in lives] == [0, 0], [life.errors() for life in lives]
        assert not any("Traceback" in life.errors() for life in lives)
    one, both = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "two")
    )
    assert (both["device_count"], both["process_count"]) == (4, 2)
    assert both["steps"] == one["steps"]
    assert both["test_accuracy"] == one["test_accuracy"]
    assert both["test_loss"] == pytest.approx(one["test_loss"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_signal_to_one_process_stops_both_at_the_same_step(tmp_path, strategy):
    options = (EPOCHS, f"--config.parallel.strategy={strategy}")
    with two(tmp_path / "undisturbed", *options) as lives:
        assert [life.wait() for life in lives] == [0, 0]
    workdir = tmp_path / "run"
    stops = []
    for receiver, number in ((1, signal.SIGTERM), (0, signal.SIGINT)):
        with two(workdir, *options) as lives:
            lives[0].wait_for_epoch()
            time.sleep(0.1)
            lives[receiver].send(number)
            codes_and_sentences = ends(*lives)
        stop = saved_steps(workdir)[-1]
        stops.append(stop)
        sentence = (
            f"stopped by {signal.Signals(number).name} at step {stop}, which is saved; the same "
            "command resumes from there"
        )
        assert codes_and_sentences == [(128 + number, sentence)] * 2
    assert stops == sorted(set(stops))
    assert any(stop % STEPS_PER_EPOCH for stop in stops)
    with two(workdir, *options) as lives:
        assert [life.wait() for life in lives] == [0, 0]
    assert result(workdir) == result(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            ["--config.seed=5"],
            "error: the config of process 1 differs from that of process 0; start every process "
            "with the same --config and the same overrides",
        ),
        (
            ["--config.data.name=mnist", "--config.data.data_dir=/nowhere"],
            "error: process 1: data set 'mnist' is not prepared in /nowhere",
        ),
    ],
)
def test_error_of_one_process_ends_both(tmp_path, other, message):
    workdir = tmp_path / "run"
    with two(workdir, EPOCHS, other=other) as lives:
        for code, sentence in ends(*lives):
            assert code == 2
            assert sentence.startswith(message)
        assert not any("Traceback" in life.errors() for life in lives)
    assert not workdir.exists()


@pytest.mark.slow
def test_workdir_that_is_in_use_or_not_shared_ends_both(tmp_path):
    with Life(tmp_path / "run", "--config.epochs=500") as holder:
        holder.wait_for((tmp_path / "run" / "metrics.jsonl").exists)
        with two(tmp_path / "run", "--config.epochs=500") as lives:
            for code, sentence in ends(*lives):
                assert code == 2
                assert sentence.startswith("error: process 0: workdir ")
                assert "is in use by another process" in sentence
    with two(tmp_path / "here", EPOCHS, other=[f"--workdir={tmp_path / 'there'}"]) as lives:
        for code, sentence in ends(*lives):
            assert code == 2
            assert f"process 1: workdir {tmp_path / 'there'} is not the directory" in sentence


@pytest.mark.slow
@pytest.mark.parametrize("process_id", [0, 1])
def test_process_gives_up_if_the_others_do_not_answer(tmp_path, process_id):
    address = f"localhost:{free_port()}"
    with Life(
        tmp_path,
        f"--coordinator_address={address}",
        "--num_processes=2",
        f"--process_id={process_id}",
        "--coordinator_timeout=3",
    ) as life:
        started = time.monotonic()
        assert life.wait(60) == 2
        assert time.monotonic() - started < 30
        assert life.last_line().startswith(
            f"error: no answer from all processes through {address} within 3 s: check that "
        )
        assert "Traceback" not in life.errors()


@pytest.mark.slow
def test_checkpoint_resumes_on_other_devices_and_with_another_strategy(tmp_path):
    """Trains on one device, then on four with pmap, then in two processes."""
    code, errors = train(tmp_path / "one_device", EPOCHS)
    assert code == 0, errors
    workdir = tmp_path / "run"
    for epochs, options, devices in (
        (1, (), 1),
        (3, ("--config.parallel.strategy=pmap",), 4),
    ):
        with Life(workdir, EPOCHS, *options, devices=devices) as life:
            life.wait_for(lambda n=epochs: num_epochs(workdir) >= n)
            life.send(signal.SIGTERM)
            assert life.wait() == 143
    with two(workdir, EPOCHS) as lives:
        assert [life.wait() for life in lives] == [0, 0], [life.errors() for life in lives]
    ours, one_device = (
        [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
        for directory in (workdir, tmp_path / "one_device")
    )
    assert [record["step"] for record in ours] == [record["step"] for record in one_device]
    for record, expected in zip(ours, one_device, strict=True):
        assert record == pytest.approx(expected, rel=1e-3)
