"""Schedule figures show the values that training uses, and mark every restart."""

from functools import partial

import numpy as np
import pytest

import loganneal_jax
from configs import base
from experiments.build.schedules import Run
from experiments.errors import UserError
from experiments.results import schedule_curves
from loganneal_jax import named

# The others need an option that the config does not set.
DRAWN = sorted(named.SCHEDULES.keys() - {"inverse_time", "range_test", "step"})


def section(**fields):
    made = base.get_config().schedule
    made.update(fields)
    return made


@pytest.mark.parametrize("name", DRAWN)
def test_line_is_the_table_of_the_schedule(name):
    run = Run(steps_per_epoch=10, num_steps=80)
    fields = section(restart_interval_epochs=2.0, warmup_epochs=0.5)
    values = schedule_curves.values_of(fields, name, run)
    assert values.shape == (80,)
    figure = schedule_curves.draw({"a": values, "b": values / 2}, run.steps_per_epoch)
    for axis, drawn in zip(figure.axes, (values, values / 2), strict=True):
        curve = axis.lines[0]
        np.testing.assert_array_equal(curve.get_ydata(), drawn)
        np.testing.assert_allclose(curve.get_xdata(), np.arange(80) / 10)
        assert axis.get_xlim() == (0, 8)


def test_values_are_those_of_the_library():
    fields = {"peak_value": 0.05, "warmup_epochs": 0.5, "restart_interval_epochs": 2.0}
    drawn = schedule_curves.values_of(section(**fields), "cyclical_cosine", Run(10, 80))
    ours = loganneal_jax.cyclical_cosine_schedule(
        0.05, 0.001, init_decay_steps=100, restart_interval=20, warmup_steps=5
    )
    np.testing.assert_array_equal(drawn, loganneal_jax.tabulate(ours, 80))


CYCLES = {
    "init_decay_steps": 30,
    "restart_interval": 20,
    "restart_multiplier": 1.5,
    "warmup_steps": 10,
}


@pytest.mark.parametrize(
    "make",
    [
        loganneal_jax.cyclical_cosine_schedule,
        partial(loganneal_jax.cyclical_log_annealing_schedule, variant="paper"),
        partial(loganneal_jax.cyclical_log_annealing_schedule, variant="normalized"),
    ],
    ids=["cosine", "log", "normalized log"],
)
def test_restarts_are_found_and_marked(make):
    values = np.asarray(loganneal_jax.tabulate(make(0.1, 0.001, **CYCLES), 204))
    # The first 10 and 30 steps precede cycles of 20, 30, 45, and 68. The last step restarts.
    np.testing.assert_array_equal(schedule_curves.restarts_of(values), [40, 60, 90, 135, 203])
    figure = schedule_curves.draw({"": values}, 10)
    marks = figure.axes[0].lines[1]
    np.testing.assert_allclose(marks.get_xdata(), [4, 6, 9, 13.5, 20.3])
    np.testing.assert_array_equal(marks.get_ydata(), values[[40, 60, 90, 135, 203]])


@pytest.mark.parametrize(
    "name", ["constant", "one_cycle", "sig+", "str+", "trap", "triangular", "triangular2"]
)
def test_schedule_without_restarts_has_none_marked(name):
    fields = section(warmup_epochs=1.0, half_cycle_epochs=2.5)
    assert (
        schedule_curves.restarts_of(schedule_curves.values_of(fields, name, Run(10, 200))).size == 0
    )


def test_run_of_a_single_step_can_be_drawn():
    values = schedule_curves.values_of(section(), "constant", schedule_curves.run_of(1.0, 1))
    figure = schedule_curves.draw({"constant": values}, 1)
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), np.float32([0.1]))


def test_value_beyond_float32_is_rejected():
    with pytest.raises(UserError, match=r"peak_value=1e\+39 is out of range"):
        schedule_curves.values_of(section(peak_value=1e39), "cosine", Run(1, 5))


def test_unknown_schedule_names_the_choices():
    with pytest.raises(UserError, match=r"^schedule.name='x' is unknown; choose from .*, trap, "):
        schedule_curves.values_of(section(), "x", Run(1, 1))


def test_schedule_of_another_module_can_be_drawn():
    drawn = schedule_curves.values_of(section(), f"{__name__}:falling", Run(1, 3))
    np.testing.assert_array_equal(drawn, np.float32([0.1, 0.05, 0.0]))


def falling(config, run):
    return lambda count: config.peak_value * (1 - count / (run.num_steps - 1))
