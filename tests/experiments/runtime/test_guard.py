"""How a run detects a spike of its loss, and what a rollback changes."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import naveen2024
from experiments.errors import UserError
from experiments.program.alarm import NO_LIMIT, SILENT, Alarm, LossLimit
from experiments.runtime import guard
from tests.experiments.runtime.small import small_experiment

LEARNING_RATES = np.array([0.1, 0.2, 0.3, 0.4], np.float32)


def check(step=SILENT, loss=0.0, finite=True, limit=NO_LIMIT):
    alarm = Alarm(np.int32(step), np.float32(loss), np.bool(finite))
    guard.check(alarm, stop=4, loss=1.25, learning_rates=LEARNING_RATES, limit=limit)


def test_silent_alarm_raises_nothing():
    check()


@pytest.mark.parametrize(
    ("alarm", "sentence", "step", "loss"),
    [
        (
            {"step": 3, "loss": np.inf, "finite": False},
            "training diverged: the loss is inf at step 3, where the learning rate is 0.3",
            3,
            np.inf,
        ),
        (
            {"step": 3, "loss": np.nan, "finite": False},
            "training diverged: the loss is nan at step 3, where the learning rate is 0.3",
            3,
            np.nan,
        ),
        (
            {"step": 2, "loss": 5.0, "limit": LossLimit(4.5)},
            "the loss of a batch is 5 at step 2, where the learning rate is 0.2, above "
            "guard.loss_threshold=4.5",
            2,
            5.0,
        ),
        (
            {"finite": False},
            "training diverged: a parameter is no longer finite at step 4, where the learning "
            "rate is 0.4",
            4,
            1.25,
        ),
    ],
    ids=["infinite", "nan", "threshold", "parameter"],
)
def test_spike_names_step_loss_and_learning_rate(alarm, sentence, step, loss):
    with pytest.raises(guard.Spike) as spike:
        check(**alarm)
    assert str(spike.value) == sentence
    assert spike.value.step == step
    np.testing.assert_equal(spike.value.loss, loss)
    assert spike.value.learning_rate == LEARNING_RATES[step - 1]


def experiment_with(fields=None):
    """Builds an experiment with 5 steps per epoch, whose first restart follows step 60."""
    return small_experiment(
        **{
            "epochs": 40.0,
            "guard.max_rollbacks": 2,
            "schedule.warmup_epochs": 2.0,
            "schedule.init_decay_epochs": 10.0,
            **(fields or {}),
        }
    )


def roll_back(experiment, step, rollbacks=(), newest=40):
    spike = guard.Spike("a spike", step=step, loss=np.inf, learning_rate=0.1)
    return guard.roll_back(spike, experiment, rollbacks, newest=newest)


@pytest.mark.parametrize(
    ("fields", "step", "changed"),
    [
        ({}, 55, {"schedule.peak_value": 0.05}),
        ({"guard.peak_factor": 0.1}, 61, {"schedule.peak_value": 0.01}),
        ({"schedule.restart_value": 8.0}, 60, {"schedule.peak_value": 0.05}),
        ({"schedule.restart_value": 8.0}, 61, {"schedule.restart_value": 4.0}),
        (
            {"guard.extra_warmup_epochs": 2.0},
            55,
            {"schedule.peak_value": 0.05, "schedule.warmup_epochs": 4.0},
        ),
    ],
)
def test_rollback_lowers_the_peak_before_the_spike(fields, step, changed, capsys):
    """Warmup and the first decay take 60 steps; the restarts follow."""
    rollback = roll_back(experiment_with(fields), step)
    assert rollback["changed"] == pytest.approx(changed)
    assert rollback["step"] == step
    assert rollback["from_step"] == 40
    assert rollback["loss"] is None
    warning = capsys.readouterr().err
    assert warning.startswith("warning: a spike; resuming from checkpoint 40 with schedule.")
    assert all(path in warning for path in changed)


PLAIN = {"schedule.restart_multiplier": 1.0, "schedule.variant": "paper"}
NO_RESTARTS = {"schedule.restart_interval_epochs": None}
FIXED = {
    **PLAIN,
    **NO_RESTARTS,
    "schedule.name": "tests.experiments.runtime.test_guard:fixed_schedule",
}


# A schedule that follows no field.
def fixed_schedule(config, run):
    return lambda count: jnp.full_like(count, 0.1, jnp.float32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            FIXED,
            r"^guard.peak_factor=0.5 has no effect, because schedule.name='tests.* follows neither",
        ),
        (
            {**FIXED, "guard.extra_warmup_epochs": 1.0},
            r"^guard.extra_warmup_epochs=1 has no effect, because schedule.name='tests.* has no wa",
        ),
        ({"guard.peak_factor": 0.001}, r"^the schedule after 1 rollback: .*peak_value"),
    ],
)
def test_remedy_that_cannot_act_is_refused_at_the_start(fields, message):
    fields = {"schedule.warmup_epochs": 0.0, **fields}
    unguarded = {name: value for name, value in fields.items() if not name.startswith("guard.")}
    guard.check_remedy(experiment_with({**unguarded, "guard.max_rollbacks": 0}))
    experiment = experiment_with(fields)
    with pytest.raises(UserError, match=message):
        guard.check_remedy(experiment)


@pytest.mark.parametrize("name", ["cosine", "constant", "cyclical_cosine", "trap", "sig", "sig+"])
def test_rollback_changes_a_field_that_acts(name):
    """With cosine, `restart_value` would change nothing, and the same spike would return."""
    restarts = (
        {"schedule.restart_interval_epochs": 5.0} if name == "cyclical_cosine" else NO_RESTARTS
    )
    fields = {"schedule.name": name, "schedule.warmup_epochs": 0.0, **PLAIN, **restarts}
    try:
        experiment = experiment_with({**fields, "schedule.restart_value": 8.0})
    except UserError:  # a config may also be refused for a field that its schedule does not have
        assert name != "cyclical_cosine"
        experiment = experiment_with(fields)
    guard.check_remedy(experiment)
    (path,) = roll_back(experiment, 70)["changed"]
    field = "restart_value" if name == "cyclical_cosine" else "peak_value"
    assert path == f"schedule.{field}"


def test_rollback_that_cannot_act_before_the_spike_ends_the_run():
    experiment = experiment_with({**FIXED, "schedule.warmup_epochs": 0.0})
    with pytest.raises(UserError, match=r"^a spike; resuming from checkpoint 40 would end the sam"):
        roll_back(experiment, 55)


def test_rollbacks_accumulate_up_to_the_maximum():
    original = experiment_with({"schedule.restart_value": 8.0})
    rollbacks = []
    for step, newest in ((70, None), (50, 40)):
        current = guard.adjusted(original, rollbacks)
        rollbacks.append(roll_back(current, step, rollbacks, newest))
    assert [rollback["from_step"] for rollback in rollbacks] == [0, 40]
    current = guard.adjusted(original, rollbacks)
    peaks = ("restart_value", "peak_value")
    assert [current.config["schedule"][name] for name in peaks] == [4.0, 0.05]
    assert [original.config["schedule"][name] for name in peaks] == [8.0, 0.1]
    with pytest.raises(UserError, match=r"a spike after 2 rollbacks; .* checkpoint 40 and end"):
        roll_back(current, 70, rollbacks)


def test_rollback_rebuilds_only_the_schedule_and_the_optimizer():
    original = experiment_with({"optimizer.momentum": 0.0, "optimizer.weight_decay": 0.0})
    adjusted = guard.adjusted(original, [roll_back(original, 55)])
    assert adjusted.task is original.task
    assert original.schedule(10) == pytest.approx(0.1)
    assert adjusted.schedule(10) == pytest.approx(0.05)
    optimizer = adjusted.optimizer
    state = optax.tree.set(optimizer.init(np.float32(0)), count=np.int32(10))
    update, _ = optimizer.update(np.float32(1), state, np.float32(0))
    assert update == pytest.approx(-0.05)


def test_schedule_that_a_rollback_makes_invalid_is_reported():
    experiment = experiment_with({"guard.peak_factor": 0.001})
    with pytest.raises(UserError, match=r"^the schedule after 1 rollback: .*peak_value"):
        guard.adjusted(experiment, [roll_back(experiment, 55)])


def test_spike_ends_the_run_without_rollbacks():
    experiment = experiment_with({"guard.max_rollbacks": 0})
    with pytest.raises(UserError, match=r"^a spike; .* would resume from scratch and end the same"):
        roll_back(experiment, 5, newest=None)


def limit_of(config):
    """Returns the loss limit of a config's section `guard` in a run with 5 steps per epoch."""
    fields = {f"guard.{name}": value for name, value in config.guard.items()}
    return small_experiment(**fields).guard.loss_limit


def test_limit_of_naveen2024_is_4_5_after_two_epochs_in_experiment_1():
    assert limit_of(naveen2024.get_config("1,resnet34,log")) == LossLimit(4.5, 2 * 5)
    assert limit_of(naveen2024.get_config("2,resnet50,log")).threshold is None
