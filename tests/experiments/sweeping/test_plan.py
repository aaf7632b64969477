"""The plan of a sweep: which trials it has, and which point of the grid each setting gets."""

import fractions
import json
import math
import statistics

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

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
    signed = [plan.Score(setting, point, sign * score) for setting, point, score in scores]
    best = plan.best_points(read_sweep(config), signed, direction)
    assert best == {"a": at(0.02), "b": at(0.02), "c": at(0.5)}


def test_setting_whose_trials_all_diverged_gets_the_first_point():
    config = digits.get_config()
    config.settings = ({"name": "a"},)
    scores = [plan.Score("a", at(value), math.nan) for value in (0.02, 0.1, 0.5)]
    for direction in ("max", "min"):
        assert plan.best_points(read_sweep(config), scores, direction) == {"a": at(0.02)}


def middle(scores, failed=None, direction="max", values=None):
    scores = np.array(scores, float)
    values = values or [2**number for number in range(len(scores))]
    flags = np.zeros(scores.shape, bool) if failed is None else np.array(failed)
    return plan.middle_value(values, scores, flags, direction)


def test_middle_point_within_one_standard_error_of_the_best_is_chosen():
    # The variance within each point is 0.005, so the standard error is 0.05.
    means = {1: 0.8, 2: 0.86, 4: 0.9, 8: 0.84, 16: 0.87}
    scores = [[mean - 0.05, mean + 0.05] for mean in means.values()]
    assert middle(scores) == 4
    assert middle([[1 - each for each in pair] for pair in scores], direction="min") == 4
    # Of two middle ones, the smaller, wherever it is in the grid.
    assert middle(scores[1:3], values=[2, 4]) == 2
    assert middle(scores[1:3], values=[4, 2]) == 2


def test_equal_seeds_choose_the_best_point():
    assert middle([[0.5, 0.5], [0.7, 0.7], [0.699, 0.699]]) == 2


def test_failed_trials_are_not_in_the_pool_unless_every_point_has_one():
    """The standard error is 0.01 without the third point, and 0.23 with it."""
    scores = [[0.69, 0.71], [0.59, 0.61], [0.1, 0.9]]
    failed = [[False, False], [False, False], [True, False]]
    error = plan.standard_error(np.array(scores), np.array(failed))
    assert error == pytest.approx(0.01)
    assert middle(scores, failed) == 1
    every = np.array([[True, False]] * 3)
    error = plan.standard_error(np.array(scores), every)
    assert error == pytest.approx(math.sqrt((2 * 0.0002 + 0.32) / 3 / 2))
    assert middle(scores, every) == 2


def test_point_without_a_mean_is_neither_chosen_nor_in_the_pool():
    scores = [[0.5, math.nan], [0.6, 0.8], [0.71, 0.73], [math.nan, math.nan]]
    failed = np.isnan(scores)
    error = plan.standard_error(np.array(scores), failed)
    assert error == pytest.approx(math.sqrt((0.02 + 0.0002) / 2 / 2))
    assert middle(scores, failed) == 2
    assert middle(np.full((3, 2), math.nan), np.full((3, 2), True)) == 1


scores_of_points = st.integers(1, 7).flatmap(
    lambda points: st.lists(
        st.lists(st.integers(-50, 50), min_size=3, max_size=3), min_size=points, max_size=points
    )
)


@given(scores_of_points, st.sampled_from(["max", "min"]))
def test_choice_is_near_the_best_and_has_as_many_near_points_on_each_side(scores, direction):
    values = [2.0**number for number in range(len(scores))]
    found = middle(scores, direction=direction, values=values)
    groups = [[fractions.Fraction(each) for each in seeds] for seeds in scores]
    means = [statistics.mean(seeds) for seeds in groups]
    squared_error = statistics.mean(statistics.variance(seeds) for seeds in groups) / 3
    best = max(means) if direction == "max" else min(means)
    # Exactly at the limit, rounding decides.
    assume(all((mean - best) ** 2 != squared_error or mean == best for mean in means))
    near = [v for v, mean in zip(values, means, strict=True) if (mean - best) ** 2 <= squared_error]
    assert found in near
    below, above = (sum(sign * value > sign * found for value in near) for sign in (-1, 1))
    assert above - below in (0, 1)


def growing(values=(0.1, 0.2, 0.4), max_extensions=2, field="schedule.peak_value"):
    config = digits.get_config()
    config.settings = ({"name": "cosine", "schedule.name": "cosine"},)
    config.grid = ({"field": field, "values": values},)
    config.tune.max_extensions = max_extensions
    return read_sweep(config)


@given(
    st.floats(1e-4, 10),
    st.floats(1.3, 10),
    st.integers(2, 6),
    st.integers(0, 4),
    st.lists(st.integers(-9, 15), min_size=1, max_size=3),
)
def test_grid_grows_towards_the_optima_and_stays_geometric(
    start, ratio, number, max_extensions, optima
):
    """Each setting's best point is the one nearest to its optimum, which may be outside."""
    first = tuple(start * ratio**place for place in range(number))
    values, rounds = first, 0
    while True:
        best = {
            min(
                values, key=lambda value, at=at: abs(math.log(value / start) / math.log(ratio) - at)
            )
            for at in optima
        }
        added = plan.added_values(values, first, best, max_extensions)
        if not added:
            break
        values, rounds = tuple(sorted([*values, *added])), rounds + 1
    # One point beyond the outermost optimum shows that it is not at the edge.
    low = min(max(0, 1 - min(optima)), max_extensions)
    high = min(max(0, max(optima) - number + 2), max_extensions)
    assert (values.index(first[0]), len(values) - 1 - values.index(first[-1])) == (low, high)
    assert rounds == max(low, high)
    ratios = np.array(values[1:]) / np.array(values[:-1])
    np.testing.assert_allclose(ratios, ratio, rtol=1e-6)


def test_no_point_is_added_whose_trials_would_be_refused():
    small = growing((2e5, 4e5, 8e5))
    assert plan.added_points(small, small, [at(2e5), at(8e5)]) == [at(1e5)]
    momentum = growing((0.2, 0.4, 0.8), field="optimizer.momentum")
    assert plan.added_points(momentum, momentum, [{"optimizer.momentum": 0.8}]) == []


def test_points_are_added_in_ascending_order_and_only_if_asked_for():
    sweep = growing()
    added = plan.added_points(sweep, sweep, [at(0.4), at(0.1)])
    assert added == [at(0.05), at(0.8)]
    grown = plan.with_points(sweep, added)
    assert plan.grid_points(grown) == [at(0.05), at(0.1), at(0.2), at(0.4), at(0.8)]
    assert plan.added_points(sweep, grown, [at(0.05), at(0.2)]) == [at(0.025)]
    never = growing(max_extensions=0)
    assert plan.added_points(never, never, [at(0.4)]) == []


def test_stage_survives_the_way_to_a_worker():
    sweep = growing()
    for stage in (
        plan.Stage("tune"),
        plan.Stage("tune-extended-1", [at(0.8)]),
        plan.Stage("final", chosen={"cosine": at(0.2)}),
    ):
        sent = plan.Stage(*json.loads(json.dumps(stage)))
        ours, theirs = (
            [(trial.phase, trial.values, trial.experiment.config) for trial in trials]
            for trials in (plan.trials_of(sweep, stage), plan.trials_of(sweep, sent))
        )
        assert ours == theirs
        assert len(ours) == {"tune": 6, "tune-extended-1": 2, "final": 5}[stage.name]
