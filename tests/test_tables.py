"""The cells of a report against numbers worked out by hand."""

import io
import math

import pandas as pd
import pytest

from experiments import tables

# Student's t at 97.5% with 1 and 2 degrees of freedom.
T1, T2 = 12.7062047, 4.30265273


def trials_of(cells, **fields):
    """A row a trial, as results.per_trial: (model, setting) -> last accuracies; None diverged."""
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
            for (model, setting), accuracies in cells.items()
            for seed, last in enumerate(accuracies)
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
def test_a_cell_is_mean_and_interval(accuracies, text):
    trials = trials_of({("nn2", "sig"): [*accuracies, 0.5]})[:-1]
    assert tables.average_cell(trials) == text


CELLS = {
    ("vgg9", "sig+"): [0.995],
    ("nn2", "cosine"): [0.9, None],
    ("nn2", "sig+"): [None, None],
    ("nn2", "0.1"): [0.85, 0.8],
    ("nn2", "beta"): [0.7],
}


def test_a_row_is_a_model_and_columns_are_in_the_order_of_the_paper():
    columns = ["model", "0.1", "sig+", "beta", "cosine"]
    average = tables.average(trials_of(CELLS))
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
    maximum = tables.maximum(trials_of(CELLS))
    assert list(maximum.columns) == columns
    assert maximum.values.tolist() == [
        ["nn2", "85.10", "-", "70.10", "90.10"],
        ["vgg9", "-", "99.60", "-", "-"],
    ]
    counts = tables.counts(trials_of(CELLS))
    assert list(counts.columns) == columns
    assert counts.values.tolist() == [
        ["nn2", "2", "2, 2 diverged", "1", "2, 1 diverged"],
        ["vgg9", "-", "1", "-", "-"],
    ]


def test_what_was_swept_stands_below_its_model():
    swept = trials_of({("nn2", "sig"): [0.9], ("vgg9", "sig"): [0.8]}, **{"a.b": 0.5, "a.c": 3.0})
    swept.loc[swept.model == "vgg9", "a.c"] = math.nan
    other = trials_of({("nn2", "trap"): [0.7], ("nn3", "trap"): [0.6]})
    assert tables.average(pd.concat([swept, other])).values.tolist() == [
        ["nn2", "90.00 (1 trial)", "70.00 (1 trial)"],
        ["nn2, a.b", "0.5", "-"],
        ["nn2, a.c", "3", "-"],
        ["nn3", "-", "60.00 (1 trial)"],
        ["vgg9", "80.00 (1 trial)", "-"],
        ["vgg9, a.b", "0.5", "-"],
    ]


def test_differences_are_of_common_seeds():
    trials = trials_of(
        {
            ("nn2", "cosine"): [0.90, 0.91, 0.94, None],
            # Differences of 1, 2 and 3 points: t = 2 sqrt(3), and p = 1 - t / sqrt(2 + t^2).
            ("nn2", "sig"): [0.91, 0.93, 0.97, 0.99],
            # Differences of -1 and 0 points: t = 1, of which p is 1/2.
            ("nn2", "trap"): [0.89, 0.91, None, None],
            ("nn2", "0.1"): [0.85, 0.86, 0.89],
            ("nn2", "rep"): [0.95],
            ("nn2", "adam"): [None],
            ("vgg9", "sig"): [0.5, 0.6],
        }
    )
    t = 2 * math.sqrt(3)
    p = 1 - t / math.sqrt(2 + t * t)
    assert tables.differences(trials, "cosine").values.tolist() == [
        ["nn2", "0.1", "3", "-5.00 ± 0.00", "no test", "-"],
        ["nn2", "sig", "3", f"+2.00 ± {T2 / math.sqrt(3):.2f}", f"{p:.2g}", f"{2 * p:.2g}"],
        ["nn2", "adam", "0", "-", "no test", "-"],
        ["nn2", "rep", "1", "+5.00", "no test", "-"],
        ["nn2", "trap", "2", f"-0.50 ± {T1 / 2:.2f}", "0.5", "0.5"],
        ["vgg9", "sig", "0", "-", "no test", "-"],
    ]


def test_tuning_says_what_was_tried_and_chosen():
    tried = [
        trials_of({("nn2", "sig"): accuracies}, **{"a.b": value}).assign(phase="tune")
        for value, accuracies in {0.1: [0.8, 0.9], 0.01: [0.7, None], 0.5: [None, None]}.items()
    ]
    final = trials_of({("nn2", "sig"): [0.4], ("nn2", "trap"): [0.3]}, **{"a.b": 0.1})
    table = tables.tuning(pd.concat([*tried, final]))
    assert list(table.columns) == [
        *("model", "method", "a.b", "validation accuracy", "rank", "chosen")
    ]
    assert table.values.tolist() == [
        ["nn2", "sig", "0.01", "70.00 (1 trial), 1 of 2 diverged", "2", "-"],
        ["nn2", "sig", "0.1", f"85.00 ± {T1 * 5:.2f}", "1", "yes"],
        ["nn2", "sig", "0.5", "diverged (2 of 2)", "3", "-"],
    ]


def test_markdown_is_the_same_table_as_csv():
    table = tables.average(trials_of({**CELLS, ("nn2", "a|b"): [0.5]}))
    lines = tables.markdown(table).replace("\\|", "¦").splitlines()
    parsed = [[cell.strip().replace("¦", "|") for cell in line[1:-1].split("|")] for line in lines]
    header, rule, *cells = parsed
    assert set(rule) == {"---"}
    csv = pd.read_csv(io.StringIO(table.to_csv(index=False)), dtype=str, keep_default_na=False)
    assert header == list(csv.columns)
    assert cells == csv.values.tolist()
