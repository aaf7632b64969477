"""Averages of the weights from a config: when cycles end, and what is refused."""

import numpy as np
import pytest

import loganneal_jax
from experiments.build.experiment import with_schedule
from experiments.errors import UserError
from experiments.program.averaging import Averaging
from experiments.results.rows import AVERAGES
from tests.experiments.build.edits import assert_one_sentence
from tests.experiments.runtime.small import small_experiment

CYCLES = {
    "epochs": 8.0,
    "schedule.init_decay_epochs": 1.0,
    "schedule.restart_interval_epochs": 1.0,
    "averaging.cycle_snapshots": True,
}


def test_cycles_end_before_the_rate_jumps():
    experiment = small_experiment(**CYCLES)
    rates = np.asarray(loganneal_jax.tabulate(experiment.schedule, experiment.num_steps + 1))
    assert experiment.averaging.cycle_ends == tuple(np.flatnonzero(np.diff(rates) > 0) + 1)
    assert len(experiment.averaging.cycle_ends) == 4


def test_a_rollback_that_moves_the_cycles_moves_their_ends():
    experiment = small_experiment(**CYCLES)
    longer = with_schedule(experiment, {"warmup_epochs": 0.4})
    first, moved = (each.averaging.cycle_ends[0] for each in (experiment, longer))
    assert (first, moved) == (5, 7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"averaging.ema_decay": 1.0}, "averaging.ema_decay=1.0 is out of range; it must be above"),
        ({"averaging.swa_start_epoch": 2}, "is after the last full epoch of the run, 1; lower it"),
        (
            {"averaging.cycle_snapshots": True},
            "averaging.cycle_snapshots=True has no effect: .* does not rise again after it",
        ),
    ],
)
def test_average_that_never_begins_is_refused(fields, message):
    with pytest.raises(UserError, match=message) as error:
        small_experiment(**fields)
    assert_one_sentence(error.value)


def task_with_a_metric_of_that_name(config, axis_name):
    from experiments.build.tasks import TASKS

    task = TASKS["classification"](config, axis_name)
    return task._replace(metrics={**task.metrics, "ema_loss": task.metrics["loss"]})


def test_metric_with_the_name_of_another_one_is_refused():
    own = {"task.name": f"{__name__}:task_with_a_metric_of_that_name"}
    small_experiment(**own)
    with pytest.raises(UserError, match="the task has a metric 'ema_loss', which is also the name"):
        small_experiment(**own, **{"averaging.ema_decay": 0.9})


def test_reports_know_the_name_of_every_average():
    assert tuple(Averaging(0.9, 1, (1,)).names) == AVERAGES
