"""A run that cannot be lost: real processes killed, real files damaged, real disks filled.

Every run here is compared with one that was left alone: the hash of its parameters and the bytes of
its metrics.jsonl must be the same.
"""

import contextlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from etils import epath

from configs import quickstart
from experiments import run
from tests.lives import (
    STEPS_PER_EPOCH,
    Life,
    being_saved,
    live,
    result,
    saved_steps,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EPOCHS = "--config.epochs=60"


def uninterrupted(directory, *options, devices=1):
    code, errors = live(directory / "whole", *options, devices=devices)
    assert code == 0, errors
    return result(directory / "whole")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run of 60 epochs comes to when nothing happens to it."""
    return uninterrupted(tmp_path_factory.mktemp("whole"), EPOCHS)


def kill_inside_a_save(life):
    """Kills as soon as a save of this life is under way."""
    saved = saved_steps(life.workdir)
    life.wait_for(lambda: saved_steps(life.workdir) != saved or not being_saved(life.workdir))
    life.wait_for(lambda: being_saved(life.workdir))
    life.send(signal.SIGKILL)


def kill_after(life, seconds):
    """Kills so many seconds after the first epoch of this life, or its start-up."""
    lines = _lines(life.workdir)
    life.wait_for(lambda: _lines(life.workdir) > lines)
    time.sleep(seconds)
    life.send(signal.SIGKILL)


def _lines(workdir):
    file = workdir / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


@pytest.mark.parametrize(("kills", "devices"), [(24, 1), (6, 4)])
def test_killed_at_any_moment_a_run_comes_to_the_same_end(tmp_path, kills, devices):
    """A third of the kills inside a save, a third at start-up, a third in between.

    Ten epochs for each kill, so that the run is not over before the last of them.
    """
    epochs = f"--config.epochs={10 * kills}"
    whole = uninterrupted(tmp_path, epochs, devices=devices)
    moments = random.Random(kills)
    workdir = tmp_path / "run"
    inside_a_save = 0
    for index in range(kills):
        with Life(workdir, epochs, devices=devices) as life:
            if index % 3 == 0:
                kill_inside_a_save(life)
            elif index % 3 == 1:
                kill_after(life, moments.uniform(0, 0.6))
            else:
                life.wait_for((workdir / "lock").exists)
                time.sleep(moments.uniform(0, 2))
                life.send(signal.SIGKILL)
            assert life.wait() == -signal.SIGKILL
        inside_a_save += being_saved(workdir)
        assert not (workdir / "summary.json").exists()
    code, errors = live(workdir, epochs, devices=devices)
    assert code == 0, errors
    assert result(workdir) == whole
    assert json.loads((workdir / "summary.json").read_text())["device_count"] == devices
    assert inside_a_save >= kills // 4
    print(f"{kills} kills, {inside_a_save} of them inside a save")


def test_asked_to_stop_a_run_saves_in_the_middle_of_an_epoch_and_goes_on(tmp_path, whole):
    moments = random.Random(0)
    workdir = tmp_path / "run"
    stops, slowest = [], 0.0
    for number in (signal.SIGTERM, signal.SIGINT) * 4:
        with Life(workdir, EPOCHS) as life:
            lines = _lines(workdir)
            life.wait_for(lambda before=lines: _lines(workdir) > before)
            time.sleep(moments.uniform(0, 0.2))
            started = time.monotonic()
            life.send(number)
            assert life.wait() == 128 + number
            slowest = max(slowest, time.monotonic() - started)
            stops.append(saved_steps(workdir)[-1])
            assert life.last_line() == (
                f"stopped by {signal.Signals(number).name} at step {stops[-1]}, which is saved; "
                f"the same command goes on from there"
            )
            assert "Traceback" not in life.errors()
    assert stops == sorted(set(stops))
    assert any(stop % STEPS_PER_EPOCH for stop in stops)
    assert slowest < 30
    code, errors = live(workdir, EPOCHS)
    assert code == 0, errors
    assert result(workdir) == whole
    print(f"stopped at {stops}; at most {slowest:.1f} s from the signal to the exit")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_a_signal_at_start_up_leaves_no_traceback(tmp_path, number):
    moments = random.Random(int(number))
    codes = set()
    for index in range(5):
        workdir = tmp_path / str(index)
        with Life(workdir, EPOCHS) as life:
            life.wait_for((workdir / "lock").exists)
            time.sleep(moments.uniform(0, 3))
            life.send(number)
            codes.add(life.wait())
            assert "Traceback" not in life.errors()
    # Before the handler is there, SIGTERM is the system's.
    assert codes <= {128 + number, -signal.SIGTERM}


DAMAGE = {
    "deleted": lambda file: file.unlink(),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "flipped": lambda file: file.write_bytes(_flipped(file.read_bytes())),
}


def _flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0x10]) + content[middle + 1 :]


@pytest.mark.parametrize("how", DAMAGE)
def test_after_any_damage_the_run_comes_to_the_same_end(tmp_path, how, capsys):
    """Every file of the newest checkpoint in turn; the run goes on in this process."""
    config = quickstart.get_config()
    config.update(epochs=3.0, batch_size=256, log_every_steps=5)
    config.data.image_size = 8
    config.model.update(name="nn2", width_multiplier=0.02)
    config.model.attention.name = "none"
    config.lock()
    run.run(config, epath.Path(tmp_path / "whole"))
    whole = result(tmp_path / "whole")
    newest = tmp_path / "whole" / "checkpoints" / "15"
    names = [str(f.relative_to(newest)) for f in sorted(newest.rglob("*")) if f.is_file()]
    assert len(names) > 10
    for index, name in enumerate(names):
        workdir = tmp_path / str(index)
        shutil.copytree(tmp_path / "whole", workdir)
        (workdir / "summary.json").unlink()
        DAMAGE[how](workdir / "checkpoints" / "15" / name)
        capsys.readouterr()
        run.run(config, epath.Path(workdir))
        warnings = [e for e in capsys.readouterr().err.splitlines() if e.startswith("warning: ")]
        assert len(warnings) == 1
        assert name in warnings[0]
        assert (workdir / "damaged_checkpoints" / "15").is_dir()
        assert result(workdir) == whole
        shutil.rmtree(workdir)


def test_with_no_checkpoint_whole_the_run_stops_and_moves_nothing(tmp_path):
    workdir = tmp_path / "run"
    with Life(workdir, EPOCHS) as life:
        life.wait_for(lambda: len(saved_steps(workdir)) == 2)
        life.send(signal.SIGTERM)
        life.wait()
    for step in saved_steps(workdir):
        DAMAGE["flipped"](workdir / "checkpoints" / str(step) / "extra" / "metadata")
    before = {f: f.read_bytes() for f in (workdir / "checkpoints").rglob("*") if f.is_file()}
    code, errors = live(workdir, EPOCHS)
    assert code == 2
    assert errors.splitlines()[-1].startswith("error: none of the checkpoints in ")
    assert "Traceback" not in errors
    after = {f: f.read_bytes() for f in (workdir / "checkpoints").rglob("*") if f.is_file()}
    assert after == before


@contextlib.contextmanager
def mounted(*command, at):
    """A mount for the time of a test; skipped where the user may not mount."""
    at.mkdir(exist_ok=True)
    process = subprocess.run(["mount", *command, at], capture_output=True, text=True, check=False)
    if process.returncode:
        pytest.skip(f"mounting is not permitted here: {process.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def fill(file):
    """Writes until there is no room left."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


def assert_ended_in_one_sentence(life, *parts):
    assert life.wait() == 2, life.errors()
    last = life.last_line()
    assert last.startswith("error: ")
    assert any(part in last for part in parts), last
    assert "Traceback" not in life.errors()


def test_a_full_disk_loses_nothing(tmp_path, whole):
    disk = tmp_path / "disk"
    with mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", at=disk):
        workdir = disk / "run"
        with Life(workdir, EPOCHS) as life:
            life.wait_for(lambda: len(saved_steps(workdir)) == 2)
            fill(disk / "ballast")
            assert_ended_in_one_sentence(life, "No space left on device")
        assert saved_steps(workdir)
        # Still without room: the same sentence, and the same checkpoints.
        saved = saved_steps(workdir)
        with Life(workdir, EPOCHS) as life:
            assert_ended_in_one_sentence(life, "No space left on device")
        assert saved_steps(workdir) == saved
        (disk / "ballast").unlink()
        code, errors = live(workdir, EPOCHS)
        assert code == 0, errors
        assert "warning: " not in errors
        assert result(workdir) == whole


def test_a_workdir_that_becomes_read_only_loses_nothing(tmp_path, whole):
    """The directory is mounted over itself: what is opened from then on cannot be written."""
    workdir, read_only = tmp_path / "run", tmp_path / "read_only"
    workdir.mkdir()
    with mounted("--bind", workdir, at=read_only), Life(workdir, EPOCHS) as life:
        subprocess.run(["mount", "-o", "remount,bind,ro", read_only], check=True)
        life.wait_for(lambda: len(saved_steps(workdir)) == 2)
        with mounted("--bind", read_only, at=workdir):
            assert_ended_in_one_sentence(life, "Read-only file system")
    code, errors = live(workdir, EPOCHS)
    assert code == 0, errors
    assert result(workdir) == whole


def test_a_lost_events_file_loses_nothing_else(tmp_path, whole):
    workdir = tmp_path / "run"
    with Life(workdir, EPOCHS) as life:
        life.wait_for(lambda: len(saved_steps(workdir)) == 2)
        for events in workdir.glob("events.out.tfevents.*"):
            events.unlink()
        assert_ended_in_one_sentence(life, "the TensorBoard file ")
    code, errors = live(workdir, EPOCHS)
    assert code == 0, errors
    assert result(workdir) == whole


def test_a_second_process_on_the_workdir_is_refused(tmp_path, whole):
    workdir = tmp_path / "run"
    with Life(workdir, EPOCHS) as first:
        first.wait_for(lambda: saved_steps(workdir))
        with Life(workdir, EPOCHS) as second:
            assert_ended_in_one_sentence(second, f"workdir {workdir} is in use by another process")
        assert first.wait() == 0
    assert result(workdir) == whole


# The restart after 5 epochs, step 445, has a peak of a million: the loss of step 446 is still that
# of the parameters before, the loss of step 447 is not.
PLANTED = (
    "--config.epochs=10",
    "--config.schedule.restart_value=1e6",
    "--config.guard.loss_threshold=4.5",
    "--config.guard.peak_factor=0.01",
)


def test_a_planted_divergence_is_halted_at_its_step(tmp_path):
    with Life(tmp_path / "run", *PLANTED) as life:
        assert_ended_in_one_sentence(life, "at step 447, where the learning rate is ")
        assert "above guard.loss_threshold=4.5; " in life.last_line()
        assert "would go on from checkpoint 445, the last good one" in life.last_line()
    assert saved_steps(tmp_path / "run") == [4 * STEPS_PER_EPOCH, 5 * STEPS_PER_EPOCH]


def test_rollbacks_lead_to_a_finite_end_also_when_killed_in_between(tmp_path):
    options = (*PLANTED, "--config.guard.max_rollbacks=10")
    whole = uninterrupted(tmp_path, *options)
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    peaks = [rollback["changed"]["schedule.restart_value"] for rollback in summary["rollbacks"]]
    assert peaks == pytest.approx([1e4, 1e2, 1, 0.01][: len(peaks)])
    assert len(peaks) >= 3
    assert summary["rollbacks"][0]["step"] == 447
    assert {rollback["from_step"] for rollback in summary["rollbacks"]} == {445}
    assert summary["test_loss"] < 2
    with Life(tmp_path / "run", *options) as life:
        life.wait_for(lambda: life.errors().count("warning: ") == 2)
        life.send(signal.SIGKILL)
        life.wait()
    code, errors = live(tmp_path / "run", *options)
    assert code == 0, errors
    assert result(tmp_path / "run") == whole
    again = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert again["rollbacks"] == summary["rollbacks"]


def test_what_is_written_after_a_save_has_failed_says_nothing():
    """Orbax's event loop is closed by then: whether a write is that late is a matter of moments."""
    script = """
import asyncio, tensorstore
from experiments import cli
promise, future = tensorstore.Promise.new()
async def write():
    asyncio.ensure_future(future)
    await asyncio.sleep(0)
def main():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(write())
    loop.close()
    promise.set_result(None)
    raise OSError(30, "Read-only file system")
cli.run(main)
"""
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert process.returncode == 2
    assert process.stderr == "error: Read-only file system\n"
