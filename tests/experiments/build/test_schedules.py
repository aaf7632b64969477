"""Schedules built from a config: one field chooses among all of them, and epochs become steps."""

import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

import loganneal_jax
from configs import base, quickstart
from experiments.build.schedules import (
    SCHEDULES,
    Run,
    make_schedule,
    make_schedule_by_name,
    reaches_peak,
)
from experiments.errors import UserError
from loganneal_jax import named
from tests.experiments.build.test_generated_configs import PLAUSIBLE

STEPS_PER_EPOCH = 22  # 1,437 images in batches of 64
EIGHT_EPOCHS = Run(STEPS_PER_EPOCH, 8 * STEPS_PER_EPOCH)


def rates_of(schedule, run=EIGHT_EPOCHS):
    return np.asarray(loganneal_jax.tabulate(schedule, run.num_steps))


# Names with an option that has neither a default nor a field.
NEEDED = {
    "inverse_time": {"time_steps": 10},
    "range_test": {"min_value": 1e-4},
    "step": {"step_size": 40},
}


@pytest.mark.parametrize("name", named.SCHEDULES)
def test_name_alone_changes_the_schedule(name):
    """Every schedule works with the quickstart's other fields and differs from a constant."""
    config = quickstart.get_config().schedule
    config.warmup_epochs = 0.0 if name == "range_test" else 1.0
    rates = {}
    for other in ("constant", name):
        config.name = other
        config.options = ConfigDict(NEEDED.get(other, {}))
        rates[other] = rates_of(make_schedule(config, EIGHT_EPOCHS))
    assert np.isfinite(rates[name]).all()
    assert (name == "constant") == np.array_equal(rates[name], rates["constant"])


FIELDS = {
    path.removeprefix("schedule."): values
    for path, values in PLAUSIBLE.items()
    if path.startswith("schedule.") and path not in ("schedule.options", "schedule.total_epochs")
}


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from([*named.SCHEDULES, *named.ALIASES]),
    changes=st.lists(st.sampled_from(sorted(FIELDS)), max_size=4, unique=True).flatmap(
        lambda some: st.fixed_dictionaries({each: FIELDS[each] for each in some})
    ),
    num_steps=st.integers(1, 40),
)
def test_schedule_that_reaches_its_peak_is_not_zero(name, changes, num_steps):
    config = base.get_config().schedule
    config.update({"warmup_epochs": 0.5, **changes, "name": name})
    run = Run(steps_per_epoch=10, num_steps=num_steps)
    assume(reaches_peak(config, run))
    try:
        schedule = make_schedule(config, run)
    except UserError:
        return
    assert np.asarray(schedule(np.arange(num_steps, dtype=np.int32))).any()


def test_cycles_that_end_reach_their_peak():
    config = base.get_config().schedule
    config.update(
        name="cyclical_cosine",
        warmup_epochs=0.5,
        init_decay_epochs=1.0,
        restart_interval_epochs=1.0,
    )
    config.options.num_cycles = 2
    run = Run(steps_per_epoch=10, num_steps=20)
    assert reaches_peak(config, run)
    assert rates_of(make_schedule(config, run), run)[5] == np.float32(config.peak_value)


@pytest.mark.parametrize(
    ("changes", "num_steps"),
    [
        ({"peak_value": 0.0}, 100),
        ({"warmup_epochs": 1.0}, 11),
        ({"name": "linear", "options": {"power": 2.0}}, 100),
        ({"name": "tests.experiments.build.test_extension:own_schedule"}, 100),
        ({"boundaries": (0.01, 0.5)}, 100),
    ],
)
def test_only_learning_rates_tell_whether_others_are_zero(changes, num_steps):
    config = base.get_config().schedule
    config.update({"warmup_epochs": 0.0})
    run = Run(steps_per_epoch=10, num_steps=num_steps)
    assert reaches_peak(config, run)
    config.update(changes)
    assert not reaches_peak(config, run)


def test_epochs_become_steps():
    """The warmup is 1.5 epochs, the first decay 2 epochs; at 22 steps per epoch, 33 and 77."""
    config = base.get_config().schedule
    config.update(
        peak_value=0.1,
        restart_value=0.05,
        end_value=0.001,
        variant="normalized",
        warmup_epochs=1.5,
        init_decay_epochs=2.0,
        restart_interval_epochs=1.0,
    )
    run = Run(STEPS_PER_EPOCH, 99)
    rates = rates_of(make_schedule(config, run), run)
    assert rates.argmax() == 33
    np.testing.assert_allclose(rates[[0, 33, 76, 77, 98]], [0, 0.1, 0.001, 0.05, 0.001], rtol=1e-6)


def test_schedule_can_be_built_under_another_name():
    config = quickstart.get_config().schedule
    cosine = make_schedule_by_name(config, "cosine", EIGHT_EPOCHS)
    expected = optax.cosine_decay_schedule(0.1, EIGHT_EPOCHS.num_steps, 0.01)
    np.testing.assert_allclose(rates_of(cosine), rates_of(expected), rtol=1e-5)
    assert config.name == "cyclical_log_annealing"
    choices = ", ".join(named.SCHEDULES)
    message = rf"schedule\.name='cosin' is unknown; choose from {choices}, "
    with pytest.raises(UserError, match=message):
        make_schedule_by_name(config, "cosin", EIGHT_EPOCHS)


def test_rebuilding_under_another_name_keeps_references():
    config = quickstart.get_config().schedule
    config.end_value = 0.1 * config.get_oneway_ref("peak_value")
    make_schedule_by_name(config, "cosine", EIGHT_EPOCHS)
    config.peak_value = 0.5
    assert config.end_value == pytest.approx(0.05)


def test_values_are_checked_when_a_schedule_is_rebuilt():
    config = quickstart.get_config().schedule
    config.peak_value = -0.1
    with pytest.raises(UserError, match=r"peak_value=-0\.1 is out of range; it must be at least 0"):
        make_schedule(config, EIGHT_EPOCHS)


@pytest.mark.parametrize("error", [ValueError, TypeError])
def test_error_of_a_factory_names_the_schedule(monkeypatch, error):
    def refuse(config, run):
        raise error("no such rate")

    monkeypatch.setitem(SCHEDULES, "constant", refuse)
    config = quickstart.get_config().schedule
    config.name = "constant"
    with pytest.raises(UserError, match=r"^schedule constant: no such rate$"):
        make_schedule(config, EIGHT_EPOCHS)


def test_options_without_a_field_of_their_own_reach_the_schedule():
    config = quickstart.get_config().schedule
    config.name = "polynomial"
    config.options.power = 3.0
    expected = loganneal_jax.polynomial_decay_schedule(0.1, 0.001, 176, power=3.0)
    assert make_schedule(config, EIGHT_EPOCHS) == expected
    config.options.pwer = 3.0
    with pytest.raises(UserError, match=r"'pwer' is not an option of the schedule 'polynomial'; "):
        make_schedule(config, EIGHT_EPOCHS)


def test_schedule_without_a_required_option_is_refused():
    config = quickstart.get_config().schedule
    config.name = "step"
    with pytest.raises(UserError, match=r"schedule step: .* needs the option 'step_size'"):
        make_schedule(config, EIGHT_EPOCHS)
