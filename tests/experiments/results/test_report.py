"""A report holds the same numbers in Markdown and CSV, and depends only on its results."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.build import sweeps
from experiments.errors import UserError
from experiments.results import described, failures, learning_rates, read, report, tables
from tests.experiments.results.fake_results import (
    REGRESSION,
    curve,
    trial,
    write_run,
    write_sweep,
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A sweep and a run on one data set, and a run on another."""
    where = tmp_path_factory.mktemp("inputs")
    generator = np.random.default_rng(0)
    trials = [
        trial(
            curve(0.9 + rate, 10, generator),
            setting=setting,
            seed=seed,
            phase=phase,
            **{"schedule.peak_value": rate},
        )
        for setting in ("cosine", "sig+")
        for phase, rates, seeds in (("tune", (0.01, 0.02), (9,)), ("final", (0.02,), range(3)))
        for rate in rates
        for seed in seeds
    ]
    return {
        "sweep": write_sweep(where / "sweep", trials),
        "run": write_run(where / "run", curve(0.8, 10, generator), schedule="trap"),
        "digits": write_run(where / "digits", [0.5, 0.75], data="digits/x"),
    }


def contents(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def read_table(file):
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def test_order_of_directories_does_not_matter(inputs, tmp_path):
    directories = list(inputs.values())
    report.write(directories, tmp_path / "a")
    report.write(directories[::-1], tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_long_search_shows_its_best_points(tmp_path):
    trials = [
        trial([accuracy / 100] * 10, phase=phase, seed=seed, **{"schedule.peak_value": rate})
        for phase, seed, points in (
            ("tune", 9, [(30 + number, 0.01 * number) for number in range(1, 13)]),
            ("final", 0, [(50, 0.12)]),
        )
        for accuracy, rate in points
    ]
    report.write([write_sweep(tmp_path / "sweep", trials)], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "This table shows the 10 best points of each method, out of 12 rows." in text
    rows = read_table(tmp_path / "out" / "mnist_tuning.csv").to_numpy().tolist()
    shown = [row for row in rows if f"| {' | '.join(row)} |\n" in text]
    assert len(rows) == 12
    assert shown == rows[2:]


@pytest.mark.parametrize(
    ("selections", "chosen"),
    [
        ([None], "the first of the best in the order of the grid"),
        (["best"], "the first of the best in the order of the grid"),
        (
            ["one_standard_error"],
            "the middle one of all points whose mean is within one standard error of the best",
        ),
        (
            ["one_standard_error", None],
            "the first of the best in the order of the grid or the middle one of all points whose "
            "mean is within one standard error of the best",
        ),
    ],
)
def test_report_says_how_tuning_chose(tmp_path, selections, chosen):
    directories = []
    for number, selection in enumerate(selections):
        trials = [
            trial([0.5], phase=phase, setting=f"s{number}", **{"schedule.peak_value": 0.1})
            for phase in ("tune", "final")
        ]
        stored = {} if selection is None else {"selection": selection}
        directories.append(write_sweep(tmp_path / f"sweep{number}", trials, **stored))
    report.write(directories, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert f"The final trials use the chosen point, {chosen}. No other table" in text


def test_every_selection_has_its_sentence():
    assert tuple(described.SELECTIONS) == sweeps.SELECTIONS


def test_data_sets_are_not_mixed(inputs, tmp_path):
    report.write(list(inputs.values()), tmp_path)
    digits = read_table(tmp_path / "digits_x_average.csv")
    assert digits.values.tolist() == [["nn2", "75.00 (1 trial)"]]
    assert list(digits.columns) == ["model", "sig+"]
    mnist = read_table(tmp_path / "mnist_trials.csv")
    assert mnist.to_dict("records") == [
        {"model": "nn2", "trap": "0/1", "cosine": "0/3", "sig+": "0/3"}
    ]
    # A single method has no differences, and a single run has neither tuning nor swept fields.
    assert not (tmp_path / "digits_x_differences.csv").exists()
    assert not (tmp_path / "digits_x_tuning.csv").exists()
    assert (tmp_path / "report.md").read_text().count("values of the swept fields") == 1


def test_loss_can_be_the_objective(tmp_path):
    def tried(losses, **fields):
        return trial(losses, task=REGRESSION, data="sines", **fields)

    finals = {"cosine": [(0.5, 0.375), (0.75, 0.625)], "sig+": [(0.25, 0.75), (0.5, 0.375)]}
    trials = [
        tried([0.5, loss], phase="tune", seed=9, setting=setting, **{"schedule.peak_value": rate})
        for setting in finals
        for rate, loss in ((0.1, 0.3), (0.2, 0.1), (0.3, 0.2))
    ] + [
        tried(losses, seed=seed, setting=setting, **{"schedule.peak_value": 0.2})
        for setting, of_seeds in finals.items()
        for seed, losses in enumerate(of_seeds)
    ]
    out = tmp_path / "out"
    sweep = write_sweep(tmp_path / "sweep", trials, task=REGRESSION)
    assert report.write([sweep], out) == 8
    assert set(contents(out)) == {
        "report.md",
        *(f"sines_{kind}.csv" for kind in ("average", "best", "trials", "differences", "tuning")),
        *("sines_ranking.png", "sines_nn2_test_loss.png", "sines_nn2_train_loss.png"),
    }
    assert read_table(out / "sines_average.csv").values.tolist() == [
        ["nn2", "0.5625 (0.375 to 0.75, 2 trials)", "0.5 (0.375 to 0.625, 2 trials)"],
        ["nn2, schedule.peak_value", "0.2", "0.2"],
    ]
    assert read_table(out / "sines_best.csv").values.tolist() == [["nn2", "0.25", "0.375"]]
    # The differences are 0.375 and -0.25.
    (row,) = read_table(out / "sines_differences.csv").to_dict("records")
    assert (row["method"], row["difference"]) == (
        "sig+",
        "+0.0625 (-0.25 to +0.375, 2 trials)",
    )
    tuning = read_table(out / "sines_tuning.csv")
    columns = ["method", "schedule.peak_value", "validation loss", "rank", "chosen"]
    assert tuning[columns].values.tolist()[3:] == [
        ["cosine", "0.1", "0.3 (1 trial)", "3", "-"],
        ["cosine", "0.2", "0.1 (1 trial)", "1", "yes"],
        ["cosine", "0.3", "0.2 (1 trial)", "2", "-"],
    ]
    text = (out / "report.md").read_text()
    assert "**Mean test loss of the last tenth of epochs**, with its interval" in text
    assert "Lower is better." in text
    assert "the lowest value over all epochs" in text
    assert "A negative difference is better than cosine." in text
    assert not re.search("accuracy|percent", text)


def write_pair(tmp_path, **second):
    """Writes two runs with different schedules, and one more difference or none."""
    return [
        write_run(tmp_path / "a", [0.5, 0.75], schedule="cosine", config={"batch_size": 64}),
        write_run(
            tmp_path / "b",
            [0.5, 0.5],
            schedule="log_annealing",
            **{"config": {"batch_size": 64}, **second},
        ),
    ]


def test_single_runs_are_compared_by_the_fields_that_differ(tmp_path):
    runs = write_pair(tmp_path, config={"batch_size": 128, "new": 1}, seed=1)
    out = tmp_path / "out"
    assert report.write(runs, out) == 7
    text = (out / "report.md").read_text()
    start = text.index("## Differences between the configs")
    assert start < text.index("## Sources")
    lines = text[start:].splitlines()
    rows = [line for line in lines if line.startswith("|") and "--" not in line][:5]
    a, b = "cosine (batch_size=64, new=None)", "log_annealing (batch_size=128, new=1)"
    assert [[cell.strip() for cell in row.strip("|").split("|")] for row in rows] == [
        ["field", str(runs[0]), str(runs[1])],
        ["method", a, b],
        ["batch_size", "64", "128"],
        ["new", "None", "1"],
        ["schedule.name", "cosine", "log_annealing"],
    ]
    assert "| seed | 0 | 1 |" in text
    average = read_table(out / "mnist_average.csv")
    assert average.to_dict("records") == [
        {"model": "nn2", a: "75.00 (1 trial)", b: "50.00 (1 trial)"}
    ]
    assert "±" not in (out / "mnist_differences.csv").read_text()
    assert (out / "mnist_nn2_test_accuracy.png").exists()


def test_labels_name_single_runs_in_their_order(tmp_path):
    runs = write_pair(tmp_path)
    report.write(runs[::-1], tmp_path / "out", labels=["mine", "theirs"])
    (row,) = read_table(tmp_path / "out" / "mnist_average.csv").to_dict("records")
    assert row == {"model": "nn2", "mine": "50.00 (1 trial)", "theirs": "75.00 (1 trial)"}
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| method | mine | theirs |" in text


def test_single_runs_may_differ_in_length(tmp_path):
    runs = [
        write_run(tmp_path / "a", [0.5, 0.75], config={"epochs": 2}),
        write_run(tmp_path / "b", [0.5, 0.75, 0.875], config={"epochs": 3}),
    ]
    report.write(runs, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Epochs per trial: 2 or 3." in text
    (row,) = read_table(tmp_path / "out" / "mnist_average.csv").to_dict("records")
    assert row == {
        "model": "nn2",
        "sig+ (epochs=2)": "75.00 (1 trial)",
        "sig+ (epochs=3)": "87.50 (1 trial)",
    }
    with pytest.raises(UserError, match="different numbers of epochs"):
        report.write(
            [runs[0], write_run(tmp_path / "c", [0.5], seed=1, config={"epochs": 2})],
            tmp_path / "o",
        )


@pytest.mark.parametrize(
    ("labels", "kind", "message"),
    [
        (["a"], "run", "--labels=a has 1 names, but there are 2 results; pass one name for each"),
        (["a", ""], "run", "--labels=a, has 2 names, but there are 2 results; pass one name for"),
        (["a", "b"], "sweep", "--labels is for single runs, but .* is a sweep, whose settings"),
    ],
)
def test_labels_that_fit_no_runs_are_refused(inputs, tmp_path, labels, kind, message):
    with pytest.raises(UserError, match=message):
        report.write([inputs["digits"], inputs[kind]], tmp_path / "out", labels=labels)


def test_unknown_baseline_names_the_choices(inputs, tmp_path):
    with pytest.raises(UserError) as caught:
        report.write([inputs["sweep"], inputs["run"]], tmp_path / "out", baseline="cosin")
    assert str(caught.value) == (
        "--baseline=cosin is not a method of mnist; choose from trap, sig+, cosine"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_unwritable_directory_is_reported(inputs, tmp_path, out):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^--out=.*file.* cannot be written: [A-Z][a-z ]+$"):
        report.write([inputs["digits"]], tmp_path / out)


PUBLISHED = Path(__file__).parents[3] / "docs" / "results"


@pytest.mark.parametrize(
    ("directory", "sweeps"),
    [
        ("mnist", ["mnist_nn2", "mnist_lenet4"]),
        ("fair_mnist", ["fair_mnist_nn2"]),
        ("log_search", ["log_search"]),
    ],
)
def test_published_tables_are_those_of_the_stored_data(directory, sweeps):
    results = read.read([PUBLISHED / "data" / sweep for sweep in sweeps])
    trials = failures.per_trial(results.rows, results.objective, results.chance["accuracy"])
    baseline = tables.default_baseline(trials.setting)
    made = report._tables("test", trials, results.objective, baseline)
    assert len(made) == (4 if directory == "mnist" else 5)
    for kind, _, table in made:
        file = PUBLISHED / directory / f"mnist_{kind}.csv"
        assert table.to_csv(index=False) == file.read_text(), kind


def test_published_figures_show_every_step():
    """The stored configs agree with today's schedules at the end of every epoch."""
    results = read.read([PUBLISHED / "data" / "log_search"])
    final = results.rows[results.rows.phase == "final"]
    for (model, method), trials in final.groupby(["model", "setting"]):
        config = results.configs["mnist", "test", model, method]
        assert learning_rates.of_method(trials, config).every_step


def test_validation_results_have_their_own_section(tmp_path):
    held_out = {"data": {"validation_examples": 200}}
    runs = [
        write_run(tmp_path / "a", [0.5], schedule="cosine"),
        write_run(tmp_path / "b", [0.75], schedule="cosine", seed=1, config=held_out),
        write_run(tmp_path / "c", [0.25], schedule="sig", seed=1, config=held_out),
    ]
    report.write(runs, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    tested, validated = text.split("## mnist, validation\n")
    assert "**These are not test results**" in validated
    assert "50.00 (1 trial)" in tested
    assert "validation accuracy" not in tested
    for expected in (
        "**Mean validation accuracy",
        "75.00 (1 trial)",
        "**Validation accuracy, nn2**",
    ):
        assert expected in validated
    assert not re.search("test accuracy|test split", validated)
    table = read_table(tmp_path / "out" / "mnist_validation_average.csv")
    assert table.values.tolist() == [["nn2", "25.00 (1 trial)", "75.00 (1 trial)"]]


def test_failures_are_counted_and_explained(tmp_path):
    def tried(values, **fields):
        return trial(values, **{"schedule.peak_value": 0.1, **fields})

    trials = [
        *(tried([0.5, 0.9], setting="cosine", seed=seed) for seed in range(5)),
        *(tried([0.5, 0.95], setting="sig", seed=seed) for seed in range(2)),
        *(tried([0.5, None], setting="sig", seed=seed) for seed in range(2, 5)),
        tried([0.5, None], setting="sig", seed=9, phase="tune"),
        tried([0.5, 0.9], setting="cosine", seed=9, phase="tune"),
    ]
    chance = {"mnist": {"accuracy": 0.1}}
    for number, (fields, score, remark) in enumerate(
        [
            ({"chance": chance}, 10, "with the chance level (10.00 on mnist)."),
            ({}, 90, "Failed trials score the worst value: 90.00 in the final trials and 90.00 in"),
        ]
    ):
        out = tmp_path / f"out{number}"
        report.write([write_sweep(tmp_path / f"sweep{number}", trials, **fields)], out)
        text = (out / "report.md").read_text()
        assert remark in text
        assert (
            "**Every trial failed at every point**, so the choice is arbitrary: sig (nn2)." in text
        )
        (row,) = read_table(out / "mnist_differences.csv").values.tolist()
        difference = (2 * 95 + 3 * score) / 5 - 90
        assert row[:5] == ["nn2", "sig", "5", "3/5", "0/5"]
        assert row[5].startswith(f"{difference:+.2f} ± ")
        assert "| nn2 | 3/5, 3 diverged | 0/5 |" in text
