"""The cells of a report match numbers computed by hand."""

import io
import math

import pandas as pd
import pytest

from experiments.results import tables
from experiments.results.read import Metric

# Student's t at 97.5% with 1 and 2 degrees of freedom.
T1, T2 = 12.7062047, 4.30265273
ACCURACY = Metric("accuracy", "max", percent=True)
LOSS = Metric("loss", "min", percent=False)


def trials_of(cells, **fields):
    """Returns one row per trial, as `read.per_trial` does.

    `cells` maps (model, setting) to the `last` of each seed, where None marks a diverged trial.
    """
    return pd.DataFrame(
        [
            {
                "phase": "final",
                "data": "mnist",
                "model": model,
                "setting": setting,
                "seed": seed,
                **fields,
                "diverged": last is None,
                "last": math.nan if last is None else last,
                "best": math.nan if last is None else last + 0.001,
            }
            for (model, setting), values in cells.items()
            for seed, last in enumerate(values)
        ]
    )


@pytest.mark.parametrize(
    ("accuracies", "text"),
    [
        # The standard deviation of 98, 98.5 and 99.4 is 0.70946.
        ([0.98, 0.985, 0.994], f"98.63 ± {T2 * 0.70946 / math.sqrt(3):.2f}"),
        ([0.98, 0.99], f"98.50 ± {T1 * 0.5:.2f}"),
        ([0.9855], "98.55 (1 trial)"),
        ([0.98, None, 0.99], "98.50 ± 6.35, 1 of 3 diverged"),
        ([None, 0.9855], "98.55 (1 trial), 1 of 2 diverged"),
        ([None, None], "diverged (2 of 2)"),
        ([], "-"),
    ],
)
def test_cell_shows_mean_and_interval(accuracies, text):
    trials = trials_of({("nn2", "sig"): [*accuracies, 0.5]})[:-1]
    assert tables.average_cell(trials, ACCURACY) == text


@pytest.mark.parametrize(
    ("losses", "text"),
    [
        # The standard deviation of 0.1, 0.2, and 0.3 is 0.1.
        ([0.1, 0.2, 0.3], f"0.2 ± {T2 * 0.1 / math.sqrt(3):.4g}"),
        ([0.123456], "0.1235 (1 trial)"),
        ([1234.5678, None], "1235 (1 trial), 1 of 2 diverged"),
        ([0.000123456], "0.0001235 (1 trial)"),
    ],
)
def test_metric_that_is_not_in_percent_has_four_digits(losses, text):
    assert tables.average_cell(trials_of({("nn2", "sig"): losses}), LOSS) == text


CELLS = {
    ("vgg9", "sig+"): [0.995],
    ("nn2", "cosine"): [0.9, None],
    ("nn2", "sig+"): [None, None],
    ("nn2", "0.1"): [0.85, 0.8],
    ("nn2", "beta"): [0.7],
}


def test_rows_are_models_and_columns_follow_the_paper():
    columns = ["model", "0.1", "sig+", "beta", "cosine"]
    average = tables.average(trials_of(CELLS), ACCURACY)
    assert list(average.columns) == columns
    assert average.values.tolist() == [
        [
            "nn2",
            "82.50 ± 31.77",
            "diverged (2 of 2)",
            "70.00 (1 trial)",
            "90.00 (1 trial), 1 of 2 diverged",
        ],
        ["vgg9", "-", "99.50 (1 trial)", "-", "-"],
    ]
    best = tables.best(trials_of(CELLS), ACCURACY)
    assert list(best.columns) == columns
    assert best.values.tolist() == [
        ["nn2", "85.10", "-", "70.10", "90.10"],
        ["vgg9", "-", "99.60", "-", "-"],
    ]
    counts = tables.counts(trials_of(CELLS))
    assert list(counts.columns) == columns
    assert counts.values.tolist() == [
        ["nn2", "2", "2, 2 diverged", "1", "2, 1 diverged"],
        ["vgg9", "-", "1", "-", "-"],
    ]


def test_best_of_a_minimized_metric_is_the_lowest():
    cells = {("nn2", "cosine"): [0.9, 0.7, None], ("nn2", "sig"): [None]}
    table = tables.best(trials_of(cells), LOSS)
    # `trials_of` gives each trial a `best` that is 0.001 above its `last`.
    assert table.to_dict("records") == [{"model": "nn2", "sig": "-", "cosine": "0.701"}]


def test_swept_values_are_below_their_model():
    swept = trials_of({("nn2", "sig"): [0.9], ("vgg9", "sig"): [0.8]}, **{"a.b": 0.5, "a.c": 3.0})
    swept.loc[swept.model == "vgg9", "a.c"] = math.nan
    other = trials_of({("nn2", "trap"): [0.7], ("nn3", "trap"): [0.6]})
    assert tables.average(pd.concat([swept, other]), ACCURACY).values.tolist() == [
        ["nn2", "90.00 (1 trial)", "70.00 (1 trial)"],
        ["nn2, a.b", "0.5", "-"],
        ["nn2, a.c", "3", "-"],
        ["nn3", "-", "60.00 (1 trial)"],
        ["vgg9", "80.00 (1 trial)", "-"],
        ["vgg9, a.b", "0.5", "-"],
    ]


def test_differences_use_common_seeds():
    trials = trials_of(
        {
            ("nn2", "cosine"): [0.90, 0.91, 0.94, None],
            # Differences of 1, 2, and 3 points: t = 2 sqrt(3), and p = 1 - t / sqrt(2 + t^2).
            ("nn2", "sig"): [0.91, 0.93, 0.97, 0.99],
            # Differences of -1 and 0 points: t = 1, so p = 1/2.
            ("nn2", "trap"): [0.89, 0.91, None, None],
            ("nn2", "0.1"): [0.85, 0.86, 0.89],
            ("nn2", "rep"): [0.95],
            ("nn2", "adam"): [None],
            ("vgg9", "sig"): [0.5, 0.6],
        }
    )
    t = 2 * math.sqrt(3)
    p = 1 - t / math.sqrt(2 + t * t)
    assert tables.differences(trials, ACCURACY, "cosine").values.tolist() == [
        ["nn2", "0.1", "3", "-5.00 ± 0.00", "no test", "-"],
        ["nn2", "sig", "3", f"+2.00 ± {T2 / math.sqrt(3):.2f}", f"{p:.2g}", f"{2 * p:.2g}"],
        ["nn2", "adam", "0", "-", "no test", "-"],
        ["nn2", "rep", "1", "+5.00", "no test", "-"],
        ["nn2", "trap", "2", f"-0.50 ± {T1 / 2:.2f}", "0.5", "0.5"],
        ["vgg9", "sig", "0", "-", "no test", "-"],
    ]


def test_differences_of_a_loss_keep_sign_and_unit():
    trials = trials_of({("nn2", "cosine"): [0.5, 0.6, 0.7], ("nn2", "sig"): [0.4, 0.4, 0.4]})
    # Differences of -0.1, -0.2, and -0.3: t = -2 sqrt(3).
    p = 1 - 2 * math.sqrt(3) / math.sqrt(14)
    assert tables.differences(trials, LOSS, "cosine").values.tolist() == [
        ["nn2", "sig", "3", f"-0.2 ± {T2 * 0.1 / math.sqrt(3):.4g}", f"{p:.2g}", f"{p:.2g}"]
    ]


def test_tuning_ranks_points_and_marks_the_chosen_one():
    tried = [
        trials_of({("nn2", "sig"): accuracies}, **{"a.b": value}).assign(phase="tune")
        for value, accuracies in {0.1: [0.8, 0.9], 0.01: [0.7, None], 0.5: [None, None]}.items()
    ]
    final = trials_of({("nn2", "sig"): [0.4], ("nn2", "trap"): [0.3]}, **{"a.b": 0.1})
    table = tables.tuning(pd.concat([*tried, final]), ACCURACY)
    assert list(table.columns) == [
        *("model", "method", "a.b", "validation accuracy", "rank", "chosen")
    ]
    assert table.values.tolist() == [
        ["nn2", "sig", "0.01", "70.00 (1 trial), 1 of 2 diverged", "2", "-"],
        ["nn2", "sig", "0.1", f"85.00 ± {T1 * 5:.2f}", "1", "yes"],
        ["nn2", "sig", "0.5", "diverged (2 of 2)", "3", "-"],
    ]


def test_tuning_ranks_the_lowest_loss_first():
    points = {0.1: [0.8, 0.6], 0.01: [0.5, None], 0.5: [0.3, 0.4], 1.0: [0.9, 0.9]}
    tried = [
        trials_of({("nn2", "sig"): losses}, **{"a.b": value}).assign(phase="tune")
        for value, losses in points.items()
    ]
    final = trials_of({("nn2", "sig"): [0.35]}, **{"a.b": 0.5})
    table = tables.tuning(pd.concat([*tried, final]), LOSS)
    columns = ["a.b", "validation loss", "rank", "chosen"]
    assert table[columns].values.tolist() == [
        ["0.01", "0.5 (1 trial), 1 of 2 diverged", "4", "-"],
        ["0.1", f"0.7 ± {T1 * 0.1:.4g}", "2", "-"],
        ["0.5", f"0.35 ± {T1 * 0.05:.4g}", "1", "yes"],
        ["1", "0.9 ± 0", "3", "-"],
    ]


def test_markdown_holds_the_same_text_as_csv():
    table = tables.average(trials_of({**CELLS, ("nn2", "a|b"): [0.5]}), ACCURACY)
    lines = tables.markdown(table).replace("\\|", "¦").splitlines()
    parsed = [[cell.strip().replace("¦", "|") for cell in line[1:-1].split("|")] for line in lines]
    header, rule, *cells = parsed
    assert set("".join(rule)) == {"-"}
    csv = pd.read_csv(io.StringIO(table.to_csv(index=False)), dtype=str, keep_default_na=False)
    assert header == list(csv.columns)
    assert cells == csv.values.tolist()
