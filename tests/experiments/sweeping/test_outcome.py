"""What a sweep says: the points that tuning chooses, and the fields of its settings."""

import pytest

from configs.sweeps import digits
from experiments.build.sweeps import read_sweep
from experiments.sweeping import outcome, plan


def tuned(accuracies):
    """Returns the chosen peaks of a sweep, from the accuracies of its tuning trials."""
    config = digits.get_config()
    config.settings = ({"name": "cosine", "schedule.name": "cosine"},)
    config.tune.seeds = (100,)
    sweep = read_sweep(config)
    trials = plan.tuning_trials(sweep)
    chosen = outcome.tune(sweep, trials, rows_of(trials, accuracies))
    return chosen["cosine"]["schedule.peak_value"]


def rows_of(trials, accuracies):
    """Returns the rows of tuning trials of one epoch."""
    return [
        {
            **{"phase": "tune", "setting": trial.setting, "seed": 100, "data": "digits"},
            **{"model": "nn2", "test_accuracy": accuracy, "diverged": accuracy is None},
            **trial.values,
        }
        for trial, accuracy in zip(trials, accuracies, strict=True)
    ]


@pytest.mark.parametrize(
    ("accuracies", "peak"),
    [
        ([0.8, 0.9, None], 0.1),
        # Guessing among ten digits, or always answering the same, is a failure like divergence.
        ([None, 0.11, 0.15], 0.5),
        ([0.09, None, 0.2], 0.5),
    ],
)
def test_tuning_scores_failed_trials_as_failures(accuracies, peak, capsys):
    assert tuned(accuracies) == peak
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("accuracies", [[None] * 3, [0.05, 0.1, None], [None, 0.13, 0.14]])
def test_tuning_warns_if_every_trial_of_a_setting_failed(accuracies, capsys):
    assert tuned(accuracies) == 0.02
    assert capsys.readouterr().err == (
        "warning: every tuning trial of setting 'cosine' failed, so its point of the grid is an "
        "arbitrary choice\n"
    )


def grown_by(accuracies, *, settings=("cosine",)):
    """Returns the peaks by which a grid grows, from the accuracies of each setting's trials."""
    config = digits.get_config()
    config.settings = tuple({"name": name, "schedule.name": name} for name in settings)
    config.grid = ({"field": "schedule.peak_value", "values": (0.1, 0.2, 0.4)},)
    config.tune.seeds = (100,)
    config.tune.max_extensions = 1
    sweep = read_sweep(config)
    trials = plan.tuning_trials(sweep)
    added = outcome.grow(sweep, sweep, trials, rows_of(trials, accuracies))
    return [point["schedule.peak_value"] for point in added]


@pytest.mark.parametrize(
    ("accuracies", "added"),
    [
        ([0.7, 0.8, 0.75], []),
        ([0.7, 0.8, 0.9], [0.8]),
        ([0.9, 0.8, None], [0.05]),
        ([0.8, 0.9, 0.9], []),  # the first of equals counts
        ([None, 0.05, 0.1], []),  # every trial failed, so no mean is the best
    ],
)
def test_grid_grows_at_the_edge_that_has_the_best_mean(accuracies, added):
    assert grown_by(accuracies) == added


def test_grid_grows_at_both_edges_if_settings_differ():
    accuracies = [0.9, 0.8, 0.7, 0.7, 0.8, 0.9]
    assert grown_by(accuracies, settings=("cosine", "constant")) == [0.05, 0.8]


def test_summary_has_the_fields_of_each_setting_with_their_references():
    """The end value is a hundredth of the peak, which config.json does not say."""
    sweep = read_sweep(digits.get_config())
    chosen = {name: {"schedule.peak_value": 0.5} for name in sweep.settings}
    trials = {trial.setting: trial for trial in plan.final_trials(sweep, chosen)}
    assert outcome._changed_fields(sweep, trials["cosine"]) == {
        "schedule.name": "cosine",
        "schedule.peak_value": 0.5,
        "schedule.end_value": 0.005,
    }
