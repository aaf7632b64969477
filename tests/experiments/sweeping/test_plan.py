"""The plan of a sweep: which trials it has, and which point of the grid each setting gets."""

import math

import pytest

from configs.sweeps import digits
from experiments.build.sweeps import read_sweep
from experiments.sweeping import plan


def at(value):
    return {"schedule.peak_value": value}


def test_tuning_trials_are_settings_times_points_times_seeds():
    sweep = read_sweep(digits.get_config())
    tuning = plan.tuning_trials(sweep)
    assert [(t.setting, t.values["schedule.peak_value"], t.experiment.seed) for t in tuning] == [
        (setting, peak, seed)
        for setting in sweep.settings
        for peak in (0.02, 0.1, 0.5)
        for seed in (100, 101)
    ]
    assert {t.phase for t in tuning} == {"tune"}
    for trial in tuning:
        peak = trial.values["schedule.peak_value"]
        config = trial.experiment.config
        assert config["schedule"]["peak_value"] == peak
        # A reference, which the schedule `constant` does not use.
        end = 0.001 if trial.setting == "constant" else 0.01 * peak
        assert config["schedule"]["end_value"] == pytest.approx(end)
        assert config["data"]["validation_examples"] == 200
        assert trial.experiment.task.num_train == 1437 - 200
    cosine = [t for t in tuning if t.setting == "cosine (restarts)"]
    assert {t.experiment.config["schedule"]["name"] for t in cosine} == {"cyclical_cosine"}


def test_final_trials_are_settings_at_their_points_times_seeds():
    sweep = read_sweep(digits.get_config())
    chosen = {setting: at(0.1 * (index + 1)) for index, setting in enumerate(sweep.settings)}
    final = plan.final_trials(sweep, chosen)
    assert [(t.setting, t.values, t.experiment.seed) for t in final] == [
        (setting, chosen[setting], seed) for setting in sweep.settings for seed in (0, 1, 2, 3, 4)
    ]
    assert {t.phase for t in final} == {"final"}
    for trial in final:
        peak = chosen[trial.setting]["schedule.peak_value"]
        assert trial.experiment.config["schedule"]["peak_value"] == peak
        assert trial.experiment.config["data"]["validation_examples"] == 0
        assert trial.experiment.task.num_train == 1437


def test_grid_points_are_all_combinations_in_order():
    config = digits.get_config()
    config.grid = (
        {"field": "schedule.peak_value", "values": (0.1, 0.2)},
        {"field": "optimizer.weight_decay", "values": (0.0, 0.5)},
    )
    assert plan.grid_points(read_sweep(config)) == [
        {**at(peak), "optimizer.weight_decay": decay} for peak in (0.1, 0.2) for decay in (0.0, 0.5)
    ]


def test_sweep_without_a_grid_has_one_empty_point_and_no_tuning():
    config = digits.get_config()
    config.grid = ()
    sweep = read_sweep(config)
    assert plan.grid_points(sweep) == [{}]
    assert plan.tuning_trials(sweep) == []
    assert len(plan.final_trials(sweep, {name: {} for name in sweep.settings})) == 5 * 5


@pytest.mark.parametrize(("direction", "sign"), [("max", 1), ("min", -1)])
def test_setting_gets_the_point_with_the_best_mean_and_no_trial_without_a_score(direction, sign):
    config = digits.get_config()
    config.settings = ({"name": "a"}, {"name": "b"}, {"name": "c"})
    scores = [
        *[("a", at(0.02), 0.8), ("a", at(0.02), 0.9), ("a", at(0.1), 0.7), ("a", at(0.1), 0.99)],
        *[("a", at(0.5), 1.0), ("a", at(0.5), math.nan)],
        *[("b", at(0.02), 0.5), ("b", at(0.1), 0.5), ("b", at(0.5), 0.4)],
        *[("c", at(0.02), math.nan), ("c", at(0.1), math.nan), ("c", at(0.5), 0.1)],
    ]
    signed = [(setting, point, sign * score) for setting, point, score in scores]
    best = plan.best_points(read_sweep(config), signed, direction)
    assert best == {"a": at(0.02), "b": at(0.02), "c": at(0.5)}


def test_setting_whose_trials_all_diverged_gets_the_first_point():
    config = digits.get_config()
    config.settings = ({"name": "a"},)
    scores = [("a", at(value), math.nan) for value in (0.02, 0.1, 0.5)]
    for direction in ("max", "min"):
        assert plan.best_points(read_sweep(config), scores, direction) == {"a": at(0.02)}
