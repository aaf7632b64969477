"""An extended run keeps the learning rates of its first part, and says what follows."""

import re

import numpy as np
import pytest

import loganneal_jax
from experiments.build import extension
from experiments.build.experiment import build
from experiments.errors import UserError
from loganneal_jax import named
from tests.commands import ROOT
from tests.experiments.build.test_effects import PLAIN, config_of

OPTIONS = {
    "inverse_sqrt": {"timescale": 22},
    "inverse_time": {"time_steps": 44},
    "range_test": {"min_value": 1e-4},
    "step": {"step_size": 22},
}
CYCLES = {
    "cosine_restarts": {"schedule.restart_interval_epochs": 2.0},
    "cyclical_cosine": {
        **{"schedule.init_decay_epochs": 2.0, "schedule.restart_interval_epochs": 2.0},
    },
    "cyclical_log_annealing": {
        **{"schedule.init_decay_epochs": 2.0, "schedule.restart_interval_epochs": 2.0},
    },
    "log_step_size": {"schedule.restart_interval_epochs": 2.0},
}


def config_with(name, **fields):
    config = config_of({**PLAIN, "schedule.name": name, **CYCLES.get(name, {}), **fields})
    for option, value in OPTIONS.get(name, {}).items():
        config.schedule.options[option] = value
    return config


def kind_of(name):
    """Returns what the schedule does after the end of a run of four epochs."""
    experiment = build(extension.extended(config_with(name), 7.0))
    if name == "linear_to_zero":
        with pytest.raises(UserError, match=r"is 0, so nothing more would be learned; begin a n"):
            extension.describe(experiment)
        return "refused"
    sentence = extension.describe(experiment)
    assert sentence.startswith(f"extending the run from 4 to 7 epochs: schedule {name!r} ")
    return re.search("holds its end value|continues in cycles|continues to decay", sentence)[0]


@pytest.mark.slow  # compiles every schedule
def test_page_says_what_every_schedule_does():
    page = (ROOT / "docs" / "predicting.md").read_text()
    rows = re.findall(r"^\| (.+) \| .*\*\*(.+)\*\*.* \|$", page, re.MULTILINE)
    documented = {name: kind for names, kind in rows for name in re.findall(r"`(\w+)`", names)}
    assert documented == {name: kind_of(name) for name in named.SCHEDULES}, "run make schedules"


@pytest.mark.parametrize("name", ["cosine"])
def test_steps_that_were_made_keep_their_rates(name):
    short = config_with(name)
    long = extension.extended(short, 7.0)
    twice = extension.extended(long, 9.0)
    rates = [
        np.asarray(loganneal_jax.tabulate(each.schedule, each.num_steps))
        for each in map(build, (short, long, twice))
    ]
    assert [len(each) for each in rates] == [88, 154, 198]
    for longer in rates[1:]:
        np.testing.assert_array_equal(longer[:88], rates[0])
    assert (short.epochs, short.schedule.total_epochs) == (4.0, None)
    assert (twice.epochs, twice.schedule.total_epochs) == (9.0, 4.0)


@pytest.mark.parametrize("epochs", [4.0, 2.0, 0.0, float("nan")])
def test_run_that_would_not_be_longer_is_refused(epochs):
    with pytest.raises(UserError, match=r"is not more than the 4 epochs of the run; pass a large"):
        extension.extended(config_with("cosine"), epochs)


def test_run_that_ends_within_an_epoch_is_refused():
    config = extension.extended(config_with("cosine", epochs=4.5), 7.0)
    with pytest.raises(UserError, match=r"the run has 4.5 epochs, and only a run of full epochs"):
        extension.describe(build(config))
