"""A trial that ends no better than chance failed, and counts with its score."""

import math

import numpy as np
import pandas as pd
import pytest

from experiments.results.described import Metric
from experiments.results.failures import failed, per_trial
from tests.experiments.results.fake_results import REGRESSION, trial

ACCURACY = Metric("accuracy", "max", percent=True)
LOSS = Metric("loss", "min", percent=False)
SCORE = Metric("score", "max", percent=False)


@pytest.mark.parametrize(
    ("metric", "chance", "value", "expected"),
    [
        (ACCURACY, 0.1, math.nan, True),
        (ACCURACY, 0.1, math.inf, True),
        (ACCURACY, 0.1, 0.05, True),
        # A network that always answers 1 on MNIST.
        (ACCURACY, 0.1, 0.1135, True),
        # 5% of the way from 0.1 to 1 is 0.145.
        (ACCURACY, 0.1, 0.1449, True),
        (ACCURACY, 0.1, 0.1451, False),
        (ACCURACY, None, 0.0, False),
        (ACCURACY, None, math.nan, True),
        (LOSS, math.log(10), 4.6e11, True),
        (LOSS, math.log(10), math.log(10), True),
        (LOSS, math.log(10), 2.3, False),
        (LOSS, None, 4.6e11, False),
        (SCORE, 10.0, 10.0, True),
        (SCORE, 10.0, 10.5, False),
    ],
)
def test_failure_is_to_diverge_or_to_end_no_better_than_chance(metric, chance, value, expected):
    assert failed(value, metric, chance) == expected


def summarized(*trials, objective=ACCURACY, chance=None):
    rows = pd.DataFrame([row for rows in trials for row in rows]).replace("", math.nan)
    return per_trial(rows, objective, chance or {})


def test_failed_trials_score_the_chance_level_of_their_data_set():
    """The one that diverged was at 90% before, and the one at chance was at 80%."""
    trials = summarized(
        trial([0.9, None]),
        trial([0.8, 0.1135], seed=1),
        trial([0.5, 0.6], seed=2),
        trial([0.9, None], data="cifar100"),
        chance={"mnist": 0.1, "cifar100": 0.01},
    )
    by_seed = trials.sort_values(["data", "seed"])
    assert by_seed.failed.tolist() == [True, True, True, False]
    assert by_seed.diverged.tolist() == [True, True, False, False]
    assert by_seed["last"].tolist() == [0.01, 0.1, 0.1, 0.6]
    assert by_seed.best.tolist() == [0.01, 0.1, 0.1, 0.6]


def test_without_a_chance_level_failed_trials_score_the_worst_of_their_table():
    trials = summarized(
        trial([0.9, None]),
        trial([0.5, 0.6], seed=1),
        trial([0.4, 0.3], seed=2, model="vgg9"),
        trial([0.0, 0.1], phase="tune", seed=3),
        trial([0.9, None], phase="tune", seed=4),
    )
    assert trials.sort_values("seed")["last"].tolist() == [0.3, 0.6, 0.3, 0.1, 0.1]
    assert trials.sort_values("seed").best.tolist() == [0.3, 0.6, 0.4, 0.1, 0.1]


def test_worst_loss_is_the_highest():
    trials = summarized(
        *(
            trial(values, seed=i, task=REGRESSION)
            for i, values in enumerate([[2.0], [9.0], [None]])
        ),
        objective=LOSS,
    )
    assert trials["last"].tolist() == [2.0, 9.0, 9.0]


def test_trials_that_all_failed_without_a_chance_level_have_no_score():
    trials = summarized(trial([0.9, None]), trial([None, None], seed=1))
    assert trials.failed.tolist() == [True, True]
    assert np.isnan(trials[["last", "best"]].to_numpy()).all()
