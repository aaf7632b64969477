"""The cells of a report match numbers computed by hand."""

import io
import math

import pandas as pd
import pytest

from experiments.results import tables
from experiments.results.described import Metric

T2 = 4.30265273  # Student's t at 97.5% with 2 degrees of freedom
ACCURACY = Metric("accuracy", "max", percent=True)
LOSS = Metric("loss", "min", percent=False)


def trials_of(cells, **fields):
    """Returns one row per trial, as `failures.per_trial` does.

    `cells` maps (model, setting) to the `last` of each seed, where None marks a diverged trial,
    which scores 0.1.
    """
    return pd.DataFrame(
        [
            {
                "phase": "final",
                "data": "mnist",
                "model": model,
                "setting": setting,
                "seed": seed,
                "source": "sweep",
                **fields,
                "diverged": last is None,
                "failed": last is None,
                "last": 0.1 if last is None else last,
                "best": 0.1 if last is None else last + 0.001,
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
        ([0.98, 0.99], "98.50 (98.00 to 99.00, 2 trials)"),
        ([0.9855], "98.55 (1 trial)"),
        # The standard deviation of 98, 10 and 99 is 51.0980.
        ([0.98, None, 0.99], f"69.00 ± {T2 * 51.0980 / math.sqrt(3):.2f}, 1/3 failed"),
        ([None, 0.9855], "54.28 (10.00 to 98.55, 2 trials), 1/2 failed"),
        ([None, None, None], "10.00 ± 0.00, 3/3 failed"),
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
        ([1234.5678, None], "617.3 (0.1 to 1235, 2 trials), 1/2 failed"),
        ([-0.5, 0.25], "-0.125 (-0.5 to 0.25, 2 trials)"),
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
            "82.50 (80.00 to 85.00, 2 trials)",
            "10.00 (10.00 to 10.00, 2 trials), 2/2 failed",
            "70.00 (1 trial)",
            "50.00 (10.00 to 90.00, 2 trials), 1/2 failed",
        ],
        ["vgg9", "-", "99.50 (1 trial)", "-", "-"],
    ]
    best = tables.best(trials_of(CELLS), ACCURACY)
    assert list(best.columns) == columns
    assert best.values.tolist() == [
        ["nn2", "85.10", "10.00, 2/2 failed", "70.10", "90.10, 1/2 failed"],
        ["vgg9", "-", "99.60", "-", "-"],
    ]
    rates = tables.failure_rates(trials_of(CELLS))
    assert list(rates.columns) == columns
    assert rates.values.tolist() == [
        ["nn2", "0/2", "2/2, 2 diverged", "0/1", "1/2, 1 diverged"],
        ["vgg9", "-", "0/1", "-", "-"],
    ]


def test_best_of_a_minimized_metric_is_the_lowest():
    cells = {("nn2", "cosine"): [0.9, 0.7, None], ("nn2", "sig"): [None]}
    trials = trials_of(cells)
    trials.loc[trials.failed, ["last", "best"]] = [2.3, 2.3]
    table = tables.best(trials, LOSS)
    # `trials_of` gives each trial a `best` that is 0.001 above its `last`.
    assert table.to_dict("records") == [
        {"model": "nn2", "sig": "2.3, 1/1 failed", "cosine": "0.701, 1/3 failed"}
    ]


def test_cell_without_any_score_shows_its_failures():
    trials = trials_of({("nn2", "sig"): [None, None], ("nn2", "trap"): [None]})
    trials[["last", "best"]] = math.nan
    assert tables.average_cell(trials[:2], LOSS) == "2/2 failed"
    assert tables.best(trials, LOSS).values.tolist() == [["nn2", "2/2 failed", "1/1 failed"]]
    (row,) = tables.differences(trials, LOSS, "sig").values.tolist()
    assert row == ["nn2", "trap", "0", "0/0", "0/0", "-", "no test", "-"]


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
            ("nn2", "cosine"): [0.90, 0.91, 0.94],
            # Differences of 1, 2, and 3 points: t = 2 sqrt(3), and p = 1 - t / sqrt(2 + t^2).
            ("nn2", "sig"): [0.91, 0.93, 0.97, 0.99],
            # Differences of -1, 0, and 1 points: t = 0, so p = 1.
            ("nn2", "trap"): [0.89, 0.91, 0.95],
            ("nn2", "0.1"): [0.85, 0.86, 0.89],
            ("nn2", "rep"): [0.95],
            ("vgg9", "sig"): [0.5, 0.6],
        }
    )
    t = 2 * math.sqrt(3)
    p = 1 - t / math.sqrt(2 + t * t)
    interval = f"{T2 / math.sqrt(3):.2f}"
    none = ("0/3", "0/3")
    assert tables.differences(trials, ACCURACY, "cosine").values.tolist() == [
        ["nn2", "0.1", "3", *none, "-5.00 ± 0.00", "no test", "-"],
        ["nn2", "sig", "3", *none, f"+2.00 ± {interval}", f"{p:.2g}", f"{2 * p:.2g}"],
        ["nn2", "rep", "1", "0/1", "0/1", "+5.00 (1 trial)", "no test", "-"],
        ["nn2", "trap", "3", *none, f"+0.00 ± {interval}", "1", "1"],
        ["vgg9", "sig", "0", "0/0", "0/0", "-", "no test", "-"],
    ]


def test_failed_trials_count_in_differences():
    """A method that fails on three of five seeds is not as good as the two that did not."""
    cells = {("nn2", "cosine"): [0.9] * 4 + [None], ("nn2", "sig"): [0.91, 0.91, None, None, None]}
    (row,) = tables.differences(trials_of(cells), ACCURACY, "cosine").to_dict("records")
    assert (row["seeds"], row["failed"], row["baseline failed"]) == ("5", "3/5", "1/5")
    # Differences of 1, 1, -80, -80, and 0 points.
    assert row["difference"].startswith("-31.60 ± ")


def test_two_seeds_have_a_range_and_no_test():
    trials = trials_of({("nn2", "cosine"): [0.90, 0.91], ("nn2", "sig"): [0.91, 0.9]})
    assert tables.differences(trials, ACCURACY, "cosine").values.tolist() == [
        [
            *("nn2", "sig", "2", "0/2", "0/2", "+0.00 (-1.00 to +1.00, 2 trials)"),
            *("no test", "-"),
        ]
    ]


def test_differences_of_a_loss_keep_sign_and_unit():
    trials = trials_of({("nn2", "cosine"): [0.5, 0.6, 0.7], ("nn2", "sig"): [0.4, 0.4, 0.4]})
    # Differences of -0.1, -0.2, and -0.3: t = -2 sqrt(3).
    p = 1 - 2 * math.sqrt(3) / math.sqrt(14)
    assert tables.differences(trials, LOSS, "cosine").values.tolist() == [
        [
            *("nn2", "sig", "3", "0/3", "0/3", f"-0.2 ± {T2 * 0.1 / math.sqrt(3):.4g}"),
            *(f"{p:.2g}", f"{p:.2g}"),
        ]
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
        ["nn2", "sig", "0.01", "40.00 (10.00 to 70.00, 2 trials), 1/2 failed", "2", "-"],
        ["nn2", "sig", "0.1", "85.00 (80.00 to 90.00, 2 trials)", "1", "yes"],
        ["nn2", "sig", "0.5", "10.00 (10.00 to 10.00, 2 trials), 2/2 failed", "3", "-"],
    ]


def test_equal_points_share_a_rank_and_sweeps_are_ranked_apart():
    tried = [
        trials_of({("nn2", "sig"): [accuracy]}, **{"a.b": value, "source": source}).assign(
            phase="tune"
        )
        for source, points in (("x", {0.1: 0.8, 0.2: 0.9, 0.3: 0.9, 0.4: 0.8}), ("y", {0.1: 0.5}))
        for value, accuracy in points.items()
    ]
    final = trials_of({("nn2", "sig"): [0.4]}, **{"a.b": 0.2})
    table = tables.tuning(pd.concat([*tried, final]), ACCURACY)
    assert table[["sweep", "a.b", "rank", "chosen"]].values.tolist() == [
        ["x", "0.1", "3", "-"],
        ["x", "0.2", "1", "yes"],
        ["x", "0.3", "1", "-"],
        ["x", "0.4", "3", "-"],
        ["y", "0.1", "1", "-"],
    ]


def test_tuning_ranks_the_lowest_loss_first():
    points = {0.1: [0.8, 0.6], 0.01: [0.5, 2.3], 0.5: [0.3, 0.4], 1.0: [0.9, 0.9]}
    tried = [
        trials_of({("nn2", "sig"): losses}, **{"a.b": value}).assign(phase="tune")
        for value, losses in points.items()
    ]
    final = trials_of({("nn2", "sig"): [0.35]}, **{"a.b": 0.5})
    table = tables.tuning(pd.concat([*tried, final]), LOSS)
    columns = ["a.b", "validation loss", "rank", "chosen"]
    assert table[columns].values.tolist() == [
        ["0.01", "1.4 (0.5 to 2.3, 2 trials)", "4", "-"],
        ["0.1", "0.7 (0.6 to 0.8, 2 trials)", "2", "-"],
        ["0.5", "0.35 (0.3 to 0.4, 2 trials)", "1", "yes"],
        ["1", "0.9 (0.9 to 0.9, 2 trials)", "3", "-"],
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


def test_method_and_model_may_have_any_name():
    """A method called model, and a model called like the line of a swept field."""
    cells = {("nn2", "model"): [0.9], ("nn2, a.b", "model"): [0.8], ("nn2", "seed"): [0.7]}
    trials = trials_of(cells, **{"a.b": 0.5})
    table = tables.average(trials, ACCURACY)
    assert list(table.columns) == ["model", "model", "seed"]
    assert table.values.tolist() == [
        ["nn2", "90.00 (1 trial)", "70.00 (1 trial)"],
        ["nn2, a.b", "0.5", "0.5"],
        ["nn2, a.b", "80.00 (1 trial)", "-"],
        ["nn2, a.b, a.b", "0.5", "-"],
    ]
    assert tables.markdown(table).startswith("| model | model | seed |\n")
    assert tables.differences(trials, ACCURACY, "model").method.tolist() == ["seed"]


def test_bars_and_line_breaks_do_not_break_a_markdown_table():
    table = pd.DataFrame({"a|b": ["c\\|d", "e\nf"]})
    assert tables.markdown(table).splitlines()[0::2] == ["| a\\|b |", "| c\\\\\\|d |"]
    assert "| e f |" in tables.markdown(table)
