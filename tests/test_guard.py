"""What is done about a spike, and how signals are taken."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from configs import naveen2024, quickstart
from experiments import alarm, build, guard
from experiments.errors import UserError

RATES = np.array([0.1, 0.2, 0.3, 0.4], np.float32)


def check(step=alarm.SILENT, loss=0.0, finite=True, limit=alarm.NO_LIMIT):
    seen = alarm.Alarm(np.int32(step), np.float32(loss), np.bool(finite))
    guard.check(seen, stop=4, loss=1.25, learning_rates=RATES, limit=limit)


def test_a_quiet_alarm_lets_the_run_go_on():
    check()


@pytest.mark.parametrize(
    ("seen", "sentence", "step"),
    [
        (
            {"step": 3, "loss": np.nan, "finite": False},
            "training diverged: the loss is nan at step 3, where the learning rate is 0.3",
            3,
        ),
        (
            {"step": 2, "loss": 5.0, "limit": alarm.LossLimit(4.5)},
            "the loss of a batch is 5 at step 2, where the learning rate is 0.2, above "
            "guard.loss_threshold=4.5",
            2,
        ),
        (
            {"finite": False},
            "training diverged: a parameter is no longer finite at step 4, where the learning "
            "rate is 0.4",
            4,
        ),
    ],
)
def test_a_spike_names_step_loss_and_learning_rate(seen, sentence, step):
    with pytest.raises(guard.Spike) as spike:
        check(**seen)
    assert str(spike.value) == sentence
    assert spike.value.step == step
    assert spike.value.learning_rate == RATES[step - 1]


def config(**fields):
    config = quickstart.get_config()
    config.guard.max_rollbacks = 2
    config.schedule.warmup_epochs = 1.0
    config.schedule.init_decay_epochs = 5.0
    config.update_from_flattened_dict(fields)
    return config


def spike(step):
    return guard.Spike("a spike", step=step, loss=np.inf, learning_rate=0.1)


def roll_back(config, step, rollbacks=(), newest=40):
    return guard.roll_back(spike(step), config, rollbacks, steps_per_epoch=10, newest=newest)


@pytest.mark.parametrize(
    ("fields", "step", "changed"),
    [
        ({}, 55, {"schedule.init_value": 0.05}),
        ({"guard.peak_factor": 0.1}, 61, {"schedule.init_value": 0.01}),
        ({"schedule.restart_value": 8.0}, 60, {"schedule.init_value": 0.05}),
        ({"schedule.restart_value": 8.0}, 61, {"schedule.restart_value": 4.0}),
        (
            {"guard.extra_warmup_epochs": 2.0},
            55,
            {"schedule.init_value": 0.05, "schedule.warmup_epochs": 3.0},
        ),
    ],
)
def test_the_peak_before_the_spike_is_lowered(fields, step, changed, capsys):
    """Of warmup and first decay, 60 steps, or of the restarts after them."""
    rollback = roll_back(config(**fields), step)
    assert rollback["changed"] == pytest.approx(changed)
    assert rollback["step"] == step
    assert rollback["from_step"] == 40
    assert rollback["loss"] is None
    warning = capsys.readouterr().err
    assert warning.startswith("warning: a spike; going on from checkpoint 40, the last good one")
    assert all(path in warning for path in changed)


def test_rollbacks_add_up_and_come_to_an_end():
    base = config(**{"schedule.restart_value": 8.0})
    rollbacks = []
    for step, newest in ((70, None), (50, 40)):
        now = guard.adjusted(base, rollbacks)
        rollbacks.append(roll_back(now, step, rollbacks, newest))
    assert [r["from_step"] for r in rollbacks] == [0, 40]
    now = guard.adjusted(base, rollbacks)
    assert (now.schedule.restart_value, now.schedule.init_value) == (4.0, 0.05)
    assert (base.schedule.restart_value, base.schedule.init_value) == (8.0, 0.1)
    build.build(now)
    with pytest.raises(UserError, match=r"a spike after 2 rollbacks; .* checkpoint 40, the last"):
        roll_back(now, 70, rollbacks)


def test_without_rollbacks_a_spike_ends_the_run():
    with pytest.raises(UserError, match=r"^a spike; .* go on from the start and come to the same"):
        roll_back(config(**{"guard.max_rollbacks": 0}), 5, newest=None)


def test_the_limit_of_naveen2024_is_4_5_after_two_epochs():
    config = naveen2024.get_config("1,resnet34,log")
    assert guard.loss_limit(config.guard, steps_per_epoch=390) == alarm.LossLimit(4.5, 780)
    config = naveen2024.get_config("2,resnet50,log")
    assert guard.loss_limit(config.guard, steps_per_epoch=390).threshold is None


def test_a_signal_is_noted_and_the_handlers_come_back(capfd):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for number in (signal.SIGINT, signal.SIGTERM):
        with guard.signals() as asked:
            assert asked() is None
            os.kill(os.getpid(), number)
            assert asked() == number
        assert "the same signal again stops at once" in capfd.readouterr().err
    assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_second_signal_ends_the_process_at_once(number):
    text = (
        "import time\nfrom experiments import guard\n"
        "with guard.signals():\n    print('ready', flush=True)\n    time.sleep(100)\n"
        "    time.sleep(100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", text],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stderr.readline().startswith("stopping after the steps under way")
        time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(20) == 128 + number
