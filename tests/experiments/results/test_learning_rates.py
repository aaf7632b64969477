"""Figures show the learning rate of every step, so that spikes at restarts are visible."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

import loganneal_jax
from configs import base
from experiments.build.schedules import Run, make_schedule
from experiments.results import learning_rates, methods, report
from tests.experiments.results.fake_results import write_run

STEPS_PER_EPOCH = 7
SPIKES = {
    "name": "cyclical_log_annealing",
    "variant": "paper",
    "init_decay_epochs": 2.0,
    "restart_interval_epochs": 2.0,
}


def section(**fields):
    made = base.get_config().schedule
    made.update(fields)
    return made


def trials_of(values, epochs):
    """Returns rows whose learning rates are those at the ends of epochs."""
    steps = STEPS_PER_EPOCH * np.arange(1, epochs + 1)
    return pd.DataFrame(
        {"epoch": steps / STEPS_PER_EPOCH, "step": steps, "learning_rate": values[steps - 1]}
    )


def config_of(schedule):
    return methods.flatten({"schedule": schedule.to_dict()})


def table(schedule, epochs):
    run = Run(STEPS_PER_EPOCH, STEPS_PER_EPOCH * epochs)
    return np.asarray(loganneal_jax.tabulate(make_schedule(schedule, run), run.num_steps))


def test_rates_are_those_of_every_step():
    schedule = section(**SPIKES)
    values = table(schedule, 6)
    epochs, rates, every_step = learning_rates.of_method(trials_of(values, 6), config_of(schedule))
    assert every_step
    np.testing.assert_array_equal(rates, values)
    np.testing.assert_allclose(epochs, np.arange(42) / 7, rtol=1e-12)
    # The spike is invisible at the ends of epochs.
    assert rates.max() > 1.4 * values[6::7].max()


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "cosine"},
        {"peak_value": 0.2},
        {"name": "unknown"},
        {"peak_value": "high"},
        {"name": "no_such_module:schedule"},
    ],
)
def test_schedule_that_disagrees_with_the_stored_rates_is_not_drawn(changed):
    schedule = section(**SPIKES)
    trials = trials_of(table(schedule, 6), 6)
    config = config_of(schedule) | {f"schedule.{name}": value for name, value in changed.items()}
    for known in (config, None, {}):
        epochs, rates, every_step = learning_rates.of_method(trials, known)
        assert not every_step
        np.testing.assert_array_equal(epochs, np.arange(1, 7))
        np.testing.assert_array_equal(rates, trials.learning_rate)


@settings(max_examples=50, deadline=None)
@given(
    st_numpy.arrays(np.float32, st.integers(1, 5000), elements=st.floats(0, 1, width=32)),
)
def test_envelope_keeps_the_extremes_of_every_column(values):
    steps, kept = learning_rates.envelope(values)
    assert len(steps) <= 2 * learning_rates.COLUMNS
    assert (np.diff(steps) > 0).all()
    np.testing.assert_array_equal(kept, values[steps])
    assert (kept.min(), kept.max()) == (values.min(), values.max())


def test_spike_of_one_step_among_a_million_is_kept():
    values = np.zeros(10**6, np.float32)
    values[123_456] = 1
    steps, kept = learning_rates.envelope(values)
    assert steps[kept == 1].tolist() == [123_456]


def test_caption_names_the_methods_whose_rates_are_known_at_epoch_ends_only(tmp_path):
    schedule = section(name="constant", peak_value=0.1)
    constant = {"schedule": schedule.to_dict(), "optimizer": {"name": "sgd"}}
    run = write_run(tmp_path / "a", [0.5, 0.6], schedule="sig+")
    # The made-up rates of `write_run` are not constant.
    other = write_run(tmp_path / "b", [0.5, 0.6], config=constant)
    right = write_run(tmp_path / "c", [0.5], data="digits", config=constant)
    report.write([run, other, right], tmp_path / "out")
    digits, mnist = (tmp_path / "out" / "report.md").read_text().split("## mnist\n")
    assert "Below: the learning rate of every step.\n" in digits
    assert "have that of the end of each epoch: sig+, constant.\n" in mnist
