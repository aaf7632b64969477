"""The methods of the comparison: equal warmup, five cycles of equal length, and their ends."""

import os

import numpy as np
import pytest

import loganneal_jax
from configs import quickstart
from configs.sweeps import comparison
from experiments.build.sweeps import late_restart, read_sweep

STEPS = 200
WARMUP = 10  # steps, a twentieth of the run


@pytest.fixture(scope="module")
def rates():
    """Returns the learning rates of every method at a peak of 0.4, in a run of 200 steps."""
    run = quickstart.get_config()
    run.batch_size = 64  # 22 steps per epoch
    run.epochs = STEPS / 22
    config = comparison.compare(run, center=0.4, validation_examples=100)
    sweep = read_sweep(config)
    experiments = {
        name: sweep.experiment(name, {"schedule.peak_value": 0.4}, 0) for name in sweep.settings
    }
    assert {each.num_steps for each in experiments.values()} == {STEPS}
    return {
        name: np.asarray(loganneal_jax.tabulate(each.schedule, STEPS))
        for name, each in experiments.items()
    }


def test_every_method_has_the_same_warmup(rates):
    assert len(rates) == 8
    warmup = np.linspace(0.04, 0.4, WARMUP + 1)[:WARMUP]
    for name, of_method in rates.items():
        if name != "log (paper)":  # begins its decay above the peak, and warms up to that
            rtol = 0.01 if name == "sig" else 1e-5  # a sigmoid begins below its upper bound
            np.testing.assert_allclose(of_method[:WARMUP], warmup, rtol=rtol, err_msg=name)
            np.testing.assert_allclose(of_method[WARMUP], 0.4, rtol=rtol, err_msg=name)
    assert (np.diff(rates["log (paper)"][: WARMUP + 1]) > 0).all()


@pytest.mark.parametrize("name", ["log (paper)", "log (normalized)"])
def test_five_cycles_fill_the_rest_of_the_run(rates, name):
    rising = WARMUP + 1 + np.flatnonzero(np.diff(rates[name][WARMUP:]) > 0)
    np.testing.assert_array_equal(rising, WARMUP + 38 * np.arange(1, 5))


def test_methods_end_at_a_hundredth_of_the_peak_or_at_zero(rates):
    ends = {name: of_method[-1] / 0.4 for name, of_method in rates.items()}
    assert ends.pop("constant") == 1.0
    assert ends.pop("log (paper)") > 0.1  # its formula ends above the end value
    assert ends.pop("wsd") < 0.02
    assert ends.pop("linear") < 0.01
    for name, end in ends.items():
        assert 0.01 <= end < 0.02, name


@pytest.mark.parametrize("task", comparison.TASKS)
def test_every_task_has_five_peaks_and_no_restart_in_its_last_steps(task):
    if not task.startswith("teacher") and "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("TFDS_DATA_DIR names no prepared data sets")
    sweep = read_sweep(comparison.get_config(task))
    (axis,) = sweep.grid
    assert len(axis.values) == 5
    for setting in sweep.settings:
        for held_out in (0, sweep.validation_examples):
            center = {axis.field: axis.values[2]}
            trial = sweep.experiment(setting, center, 0, validation_examples=held_out)
            assert late_restart(trial) is None


def test_unknown_task_names_the_choices():
    with pytest.raises(ValueError, match=r"unknown task 'cifar'; choose one of .*, gan$"):
        comparison.get_config("cifar")
