"""Runs survive killed processes, damaged files, and full disks.

Each run must end with the parameters and the `metrics.jsonl` of an undisturbed run, bit for bit.
"""

import contextlib
import json
import random
import shutil
import signal
import subprocess
import time

import pytest
from etils import epath

from experiments.runtime import checkpoint, loop
from tests.experiments.runtime.lives import (
    OTHER_TASKS,
    STEPS_PER_EPOCH,
    Life,
    is_saving,
    result,
    saved_steps,
    train,
)
from tests.experiments.runtime.small import small_experiment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EPOCHS = "--config.epochs=60"


def finish(workdir, *options, devices=1, task=None):
    """Runs the command until it succeeds, and returns the result."""
    code, errors = train(workdir, *options, devices=devices, task=task)
    assert code == 0, errors
    return result(workdir)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Returns the result of a run of 60 epochs that nothing disturbs."""
    return finish(tmp_path_factory.mktemp("undisturbed"), EPOCHS)


def kill_during_a_save(life):
    """Kills the process as soon as one of its saves is in progress."""
    saved = saved_steps(life.workdir)
    life.wait_for(lambda: saved_steps(life.workdir) != saved or not is_saving(life.workdir))
    life.wait_for(lambda: is_saving(life.workdir))
    life.send(signal.SIGKILL)


def kill_after_an_epoch(life, seconds):
    """Kills the process some seconds after it reports its first epoch."""
    life.wait_for_epoch()
    time.sleep(seconds)
    life.send(signal.SIGKILL)


def kill_at_start_up(life, seconds):
    """Kills the process some seconds after it, or an earlier process, created the lock."""
    life.wait_for((life.workdir / "lock").exists)
    time.sleep(seconds)
    life.send(signal.SIGKILL)


@pytest.mark.parametrize(("kills", "devices"), [(24, 1), (6, 4)])
def test_killed_run_resumes_to_the_same_result(tmp_path, kills, devices):
    """A third of the kills hit a save, a third the start-up, and a third a random moment.

    There are ten epochs per kill, so that the run does not finish before the last kill. The metrics
    of the averages show that they resume too.
    """
    options = (
        f"--config.epochs={10 * kills}",
        "--config.averaging.ema_decay=0.99",
        "--config.averaging.swa_start_epoch=2",
        "--config.averaging.cycle_snapshots=True",
    )
    undisturbed = finish(tmp_path / "undisturbed", *options, devices=devices)
    moments = random.Random(kills)
    workdir = tmp_path / "run"
    during_a_save = 0
    for index in range(kills):
        with Life(workdir, *options, devices=devices) as life:
            if index % 3 == 0:
                kill_during_a_save(life)
            elif index % 3 == 1:
                kill_after_an_epoch(life, moments.uniform(0, 0.6))
            else:
                kill_at_start_up(life, moments.uniform(0, 2))
            assert life.wait() == -signal.SIGKILL
        during_a_save += is_saving(workdir)
        assert not (workdir / "summary.json").exists()
    assert finish(workdir, *options, devices=devices) == undisturbed
    assert json.loads((workdir / "summary.json").read_text())["device_count"] == devices
    assert during_a_save >= kills // 4
    print(f"{kills} kills, {during_a_save} of them during a save")


@pytest.mark.parametrize("task", OTHER_TASKS)
def test_killed_run_of_every_task_resumes_to_the_same_result(tmp_path, task):
    """One kill hits a save, and one a random moment in an epoch."""
    undisturbed = finish(tmp_path / "undisturbed", "--config.epochs=4.5", task=task)
    workdir = tmp_path / "run"
    for kill in (kill_during_a_save, lambda life: kill_after_an_epoch(life, 0.2)):
        with Life(workdir, "--config.epochs=4.5", task=task) as life:
            kill(life)
            assert life.wait() == -signal.SIGKILL
        assert not (workdir / "summary.json").exists()
    assert finish(workdir, "--config.epochs=4.5", task=task) == undisturbed
    pictures, expected = (
        {file.name: file.read_bytes() for file in directory.glob("pictures/*")}
        for directory in (workdir, tmp_path / "undisturbed")
    )
    assert pictures == expected
    assert len(pictures) == (10 if task == "gan" else 0)  # last and averaged weights


def test_stopped_run_saves_within_an_epoch_and_resumes(tmp_path, undisturbed):
    moments = random.Random(0)
    workdir = tmp_path / "run"
    stops, slowest = [], 0.0
    for number in (signal.SIGTERM, signal.SIGINT) * 4:
        with Life(workdir, EPOCHS) as life:
            life.wait_for_epoch()
            time.sleep(moments.uniform(0, 0.2))
            started = time.monotonic()
            life.send(number)
            assert life.wait() == 128 + number
            slowest = max(slowest, time.monotonic() - started)
            stops.append(saved_steps(workdir)[-1])
            assert life.last_line() == (
                f"stopped by {signal.Signals(number).name} at step {stops[-1]}, which is saved; "
                f"the same command resumes from there"
            )
            assert "Traceback" not in life.errors()
    assert stops == sorted(set(stops))
    assert any(stop % STEPS_PER_EPOCH for stop in stops)
    assert slowest < 30
    assert finish(workdir, EPOCHS) == undisturbed
    print(f"stopped at {stops}; at most {slowest:.1f} s from the signal to the exit")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_signal_at_start_up_prints_no_traceback(tmp_path, number):
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
    # Before the run catches signals, SIGTERM ends the process.
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
def test_run_with_a_damaged_checkpoint_comes_to_the_same_result(tmp_path, how, capsys):
    """Damages each file of the newest checkpoint in turn; the run resumes in this process."""
    experiment = small_experiment(epochs=3.0, log_every_steps=5)
    loop.run(experiment, epath.Path(tmp_path / "undisturbed"))
    undisturbed = result(tmp_path / "undisturbed")
    newest = tmp_path / "undisturbed" / "checkpoints" / "15"
    names = {str(file.relative_to(newest)) for file in newest.rglob("*") if file.is_file()}
    # Orbax writes these after the seal, and they hold nothing that is restored.
    unsealed = {checkpoint.METADATA, "commit_success.txt"}
    assert unsealed < names
    assert len(names) > 12
    for index, name in enumerate(sorted(names)):
        workdir = tmp_path / str(index)
        shutil.copytree(tmp_path / "undisturbed", workdir)
        (workdir / "summary.json").unlink()
        DAMAGE[how](workdir / "checkpoints" / "15" / name)
        capsys.readouterr()
        loop.run(experiment, epath.Path(workdir))
        errors = capsys.readouterr().err.splitlines()
        warnings = [line for line in errors if line.startswith("warning: ")]
        if name in unsealed:
            assert warnings == []
            assert not (workdir / "damaged_checkpoints").exists()
        else:
            assert len(warnings) == 1
            assert name in warnings[0]
            assert (workdir / "damaged_checkpoints" / "15").is_dir()
        assert result(workdir) == undisturbed
        shutil.rmtree(workdir)


def test_run_moves_nothing_if_all_checkpoints_are_damaged(tmp_path):
    workdir = tmp_path / "run"
    with Life(workdir, EPOCHS) as life:
        life.wait_for(lambda: len(saved_steps(workdir)) == 2)
        life.send(signal.SIGTERM)
        life.wait()
    for step in saved_steps(workdir):
        DAMAGE["flipped"](workdir / "checkpoints" / str(step) / "extra" / "metadata")
    before = {f: f.read_bytes() for f in (workdir / "checkpoints").rglob("*") if f.is_file()}
    code, errors = train(workdir, EPOCHS)
    assert code == 2
    assert errors.splitlines()[-1].startswith("error: all checkpoints in ")
    assert "are damaged (" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    after = {f: f.read_bytes() for f in (workdir / "checkpoints").rglob("*") if f.is_file()}
    assert after == before


@contextlib.contextmanager
def mounted(*command, at):
    """Mounts until the context ends; skips the test if the user may not mount."""
    at.mkdir(exist_ok=True)
    process = subprocess.run(["mount", *command, at], capture_output=True, text=True, check=False)
    if process.returncode:
        pytest.skip(f"mounting is not permitted here: {process.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def fill(file):
    """Writes until the disk is full."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))


def assert_ends_with_one_sentence(life, part):
    assert life.wait() == 2, life.errors()
    last = life.last_line()
    assert last.startswith("error: ")
    assert part in last
    assert "Traceback" not in life.errors()


def test_full_disk_loses_nothing(tmp_path, undisturbed):
    disk = tmp_path / "disk"
    with mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", at=disk):
        workdir = disk / "run"
        with Life(workdir, EPOCHS) as life:
            life.wait_for(lambda: len(saved_steps(workdir)) == 2)
            fill(disk / "ballast")
            assert_ends_with_one_sentence(life, "No space left on device")
        assert saved_steps(workdir)
        # The disk is still full, so the same error follows and no checkpoint changes.
        saved = saved_steps(workdir)
        with Life(workdir, EPOCHS) as life:
            assert_ends_with_one_sentence(life, "No space left on device")
        assert saved_steps(workdir) == saved
        (disk / "ballast").unlink()
        code, errors = train(workdir, EPOCHS)
        assert code == 0, errors
        assert "warning: " not in errors
        assert result(workdir) == undisturbed


def test_workdir_that_becomes_read_only_loses_nothing(tmp_path, undisturbed):
    """A read-only mount hides the directory, so files that are opened later cannot be written."""
    workdir, read_only = tmp_path / "run", tmp_path / "read_only"
    workdir.mkdir()
    with mounted("--bind", workdir, at=read_only), Life(workdir, EPOCHS) as life:
        subprocess.run(["mount", "-o", "remount,bind,ro", read_only], check=True)
        life.wait_for(lambda: len(saved_steps(workdir)) == 2)
        with mounted("--bind", read_only, at=workdir):
            assert_ends_with_one_sentence(life, "Read-only file system")
    assert finish(workdir, EPOCHS) == undisturbed


def test_removed_events_file_loses_nothing_else(tmp_path, undisturbed):
    workdir = tmp_path / "run"
    with Life(workdir, EPOCHS) as life:
        life.wait_for(lambda: len(saved_steps(workdir)) == 2)
        for events in workdir.glob("events.out.tfevents.*"):
            events.unlink()
        assert_ends_with_one_sentence(life, "the TensorBoard file ")
    assert finish(workdir, EPOCHS) == undisturbed


def test_second_process_on_the_workdir_is_refused(tmp_path, undisturbed):
    workdir = tmp_path / "run"
    with Life(workdir, EPOCHS) as first:
        first.wait_for(lambda: saved_steps(workdir))
        with Life(workdir, EPOCHS) as second:
            assert_ends_with_one_sentence(second, f"workdir {workdir} is in use by another process")
        assert first.wait() == 0
    assert result(workdir) == undisturbed


# The restart after 5 epochs, step 445, has a peak of a million. The loss of step 446 is that of the
# parameters before it, so step 447 is the first whose loss is too high.
SPIKE = (
    "--config.epochs=10",
    "--config.schedule.restart_value=1e6",
    "--config.guard.loss_threshold=4.5",
)


def test_spike_stops_the_run_at_its_step(tmp_path):
    with Life(tmp_path / "run", *SPIKE) as life:
        assert_ends_with_one_sentence(life, "at step 447, where the learning rate is ")
        assert "above guard.loss_threshold=4.5; " in life.last_line()
        assert "would resume from checkpoint 445 and end the same way" in life.last_line()
    assert saved_steps(tmp_path / "run") == [4 * STEPS_PER_EPOCH, 5 * STEPS_PER_EPOCH]


def test_rollbacks_reach_a_finite_loss_even_if_the_run_is_killed(tmp_path):
    options = (*SPIKE, "--config.guard.max_rollbacks=10", "--config.guard.peak_factor=0.01")
    undisturbed = finish(tmp_path / "undisturbed", *options)
    summary = json.loads((tmp_path / "undisturbed" / "summary.json").read_text())
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
    assert finish(tmp_path / "run", *options) == undisturbed
    again = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert again["rollbacks"] == summary["rollbacks"]


def test_killed_extension_resumes_to_the_same_result(tmp_path):
    """One kill hits a save, and one a random moment in an epoch."""
    undisturbed = finish(
        tmp_path / "undisturbed", "--config.epochs=40", "--config.schedule.total_epochs=10"
    )
    workdir = tmp_path / "run"
    finish(workdir, "--config.epochs=10")
    extend = ("--config.epochs=10", "--extend_to_epochs=40")
    for kill in (kill_during_a_save, lambda life: kill_after_an_epoch(life, 0.1)):
        with Life(workdir, *extend) as life:
            kill(life)
            assert life.wait() == -signal.SIGKILL
        assert not (workdir / "summary.json").exists()
    assert finish(workdir, *extend) == undisturbed
