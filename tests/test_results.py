"""Results of runs and sweeps are read to the bit, whatever their order, or refused."""

import json
import math
import random
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import results
from experiments.errors import UserError
from tests.fake_results import STEPS_PER_EPOCH, trial, write_run, write_summary, write_sweep


def rewrite(file, change):
    file.write_text(change(file.read_text()))


def refused(*directories):
    """The sentence that refuses some results."""
    with pytest.raises(UserError) as caught:
        results.read(directories)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_sweep_is_read_to_the_bit(tmp_path):
    accuracies = [0.1 + 0.2, 1 / 3, 0.9800000190734863]
    swept = {"schedule.init_value": 0.1, "setting": "0.1"}
    directory = write_sweep(
        tmp_path / "sweep",
        [
            trial([0.5, None, None], seed=1, **{**swept, "setting": "nan"}),
            trial(accuracies, seed=12, **swept),
        ],
    )
    rows, sources = results.read([directory])
    assert list(rows.columns) == [
        *results.TRIAL,
        "schedule.init_value",
        *results.CURVES,
        "diverged",
        "source",
    ]
    assert list(rows.setting) == ["0.1"] * 3 + ["nan"] * 3
    assert list(rows.seed) == [12] * 3 + [1] * 3
    assert list(rows.test_accuracy[:3]) == accuracies
    assert list(rows.test_loss[:3]) == [2.0, 1.0, 2 / 3]
    assert list(rows.step[:3]) == [STEPS_PER_EPOCH * epoch for epoch in (1, 2, 3)]
    assert (rows["schedule.init_value"] == 0.1).all()
    assert list(rows.diverged) == [False] * 4 + [True] * 2
    np.testing.assert_array_equal(rows.test_accuracy[3:], [0.5, math.nan, math.nan])
    assert sources.to_dict("records") == [
        {
            "source": str(directory),
            "kind": "sweep",
            "command": "python -m experiments.sweep x",
            "trials": 2,
            "seconds": 60.0,
            "device": "1 × made-up CPU",
            "versions": "python 3.11.7, jax 0.10.2",
        }
    ]


def test_a_run_is_named_by_its_schedule_and_optimizer(tmp_path):
    sgd = write_run(tmp_path / "a", [0.5, 0.6], schedule="cosine", seed=3)
    adam = write_run(tmp_path / "b", [0.7, 0.8], schedule="cosine", optimizer="adam", model="vgg9")
    rows, sources = results.read([sgd, adam])
    trials = rows[[*results.TRIAL, "test_accuracy"]].values.tolist()
    assert trials == [
        ["final", "mnist", "nn2", "cosine", 3, 0.5],
        ["final", "mnist", "nn2", "cosine", 3, 0.6],
        ["final", "mnist", "vgg9", "cosine (adam)", 0, 0.7],
        ["final", "mnist", "vgg9", "cosine (adam)", 0, 0.8],
    ]
    assert list(sources.kind) == ["run", "run"]
    assert list(sources.trials) == [1, 1]


def test_a_narrower_network_is_another_model(tmp_path):
    whole = write_run(tmp_path / "a", [0.5])
    half = write_run(tmp_path / "b", [0.5], width_multiplier=0.5)
    rows, _ = results.read([whole, half])
    assert list(rows.model) == ["nn2", "nn2 (width 0.5)"]


def test_a_run_with_a_loss_that_is_not_finite_diverged(tmp_path):
    directory = write_run(tmp_path / "a", [0.5, 0.6, 0.7])
    file = directory / "metrics.jsonl"
    rewrite(file, lambda text: text.replace('"train_loss": 1.0', '"train_loss": Infinity'))
    assert list(results.read([directory])[0].diverged) == [False, True, True]


def test_runs_and_sweeps_are_one_table(tmp_path):
    sweep = write_sweep(
        tmp_path / "sweep", [trial([0.5, 0.6], seed=0, **{"schedule.init_value": 0.1})]
    )
    run = write_run(tmp_path / "run", [0.7, 0.8], seed=1)
    rows, sources = results.read([sweep, run])
    assert list(rows.seed) == [0, 0, 1, 1]
    np.testing.assert_array_equal(rows["schedule.init_value"], [0.1, 0.1, math.nan, math.nan])
    assert list(rows.source) == [str(sweep)] * 2 + [str(run)] * 2
    assert list(sources.kind) == ["run", "sweep"]


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_of_directories_counts(order: random.Random):
    with tempfile.TemporaryDirectory() as temporary:
        directories = [
            write_sweep(
                Path(temporary) / f"sweep{i}",
                [
                    trial([0.1 * seed, 0.2, 0.3], seed=seed, setting=setting, **{"a.b": 0.5})
                    for setting in ("sig", "0.1")
                    for seed in range(3 * i, 3 * i + 3)
                ],
            )
            for i in range(2)
        ]
        expected = results.read(directories)
        for directory in directories:
            file = directory / "trials.csv"
            header, *lines = file.read_text().splitlines(keepends=True)
            order.shuffle(lines)
            file.write_text(header + "".join(lines))
        order.shuffle(directories)
        found = results.read(directories)
    for frame, other in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(frame, other, check_exact=True)


@pytest.mark.parametrize(("epochs", "last"), [(1, 1), (4, 1), (10, 1), (15, 2), (100, 10)])
def test_the_last_tenth_of_epochs(tmp_path, epochs, last):
    accuracies = [0.9 - 0.001 * epoch * epoch % 0.17 for epoch in range(epochs)]
    directory = write_sweep(tmp_path / "sweep", [trial(accuracies)])
    trials = results.per_trial(results.read([directory])[0])
    assert len(trials) == 1
    expected = math.fsum(accuracies[epochs - last :]) / last
    assert trials["last"][0] == pytest.approx(expected, rel=1e-12)
    assert trials["best"][0] == max(accuracies)


def test_a_trial_that_diverged_has_no_accuracy(tmp_path):
    directory = write_sweep(tmp_path / "sweep", [trial([0.9, None]), trial([0.5, 0.6], seed=1)])
    trials = results.per_trial(results.read([directory])[0])
    assert list(trials.diverged) == [True, False]
    np.testing.assert_array_equal(trials["last"], [math.nan, 0.6])
    np.testing.assert_array_equal(trials["best"], [math.nan, 0.6])


def test_what_is_no_result_or_unfinished_is_refused(tmp_path):
    assert refused(tmp_path / "nowhere").endswith("nowhere is no directory of a run or of a sweep")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_text("{}")
    assert "begun is unfinished: it has neither trials.csv, of a sweep, nor" in refused(
        tmp_path / "begun"
    )
    run = write_run(tmp_path / "run", [0.5])
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5])])
    for directory in (run, sweep):
        (directory / "summary.json").unlink()
        assert refused(directory) == f"{directory} is unfinished: summary.json is missing"


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_run_cut_off_is_refused(tmp_path, kept):
    file = write_run(tmp_path / "run", [0.5, 0.6, 0.7, 0.8]) / "metrics.jsonl"
    rewrite(file, lambda text: text[: int(kept * len(text))])
    assert refused(tmp_path / "run").startswith(f"{file} cannot be read, is cut off or ")


def test_a_run_that_lacks_epochs_is_refused(tmp_path):
    file = write_run(tmp_path / "run", [0.5, 0.6, 0.7]) / "metrics.jsonl"
    rewrite(file, lambda text: "".join(text.splitlines(keepends=True)[:-1]))
    assert refused(tmp_path / "run") == (
        f"{file} is cut off: it has 2 epochs and ends at step 14; its run has 3 and ends at step 21"
    )


def test_a_sweep_cut_off_anywhere_is_refused(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5, 0.6], seed=seed) for seed in range(2)])
    file = sweep / "trials.csv"
    whole = file.read_text()
    for length in range(len(whole)):
        file.write_text(whole[:length])
        assert refused(sweep).startswith(f"{file} "), whole[:length]
    file.write_text(whole)
    results.read([sweep])


def test_how_a_sweep_cut_off_between_lines_is_told(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5, 0.6], seed=seed) for seed in range(3)])
    file = sweep / "trials.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    assert refused(sweep) == (
        f"{file} is cut off or has lines twice: its trials of phase final have from 1 to 2 epochs"
    )
    file.write_text("".join(lines[:-2]))
    assert refused(sweep) == (f"{file} is cut off: it has 2 trials, and its summary.json says 3")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"phase": "tune"}, "has no rows of phase final of mnist"),
        ({"phase": "test"}, "has an unknown phase 'test'; it is one of final, tune"),
        ({"test_accuracy": ""}, "line 2 lacks a number, and is not of a trial that diverged"),
        ({"train_loss": "inf"}, "line 2 lacks a number"),
        ({"train_loss": "much"}, "cannot be read, is cut off or lacks a field: ValueError "),
        ({"seed": 0.5}, "cannot be read, is cut off or lacks a field: ValueError "),
        ({"diverged": "maybe"}, "is cut off: a line of it is not whole"),
    ],
)
def test_what_no_sweep_writes_is_refused(tmp_path, fields, message):
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5, 0.6], **fields)])
    assert message in refused(sweep)


def test_a_file_that_lacks_a_field_is_refused(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5])])
    write_summary(sweep, trials=1)
    assert refused(sweep).startswith(f"{sweep / 'summary.json'} cannot be read, is cut off or ")
    file = write_sweep(tmp_path / "other", [trial([0.5])]) / "trials.csv"
    rewrite(file, lambda text: text.replace("test_accuracy", "validation_accuracy"))
    assert "KeyError" in refused(tmp_path / "other")
    run = write_run(tmp_path / "run", [0.5])
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "data": {}}))
    assert refused(run).endswith(
        "config.json cannot be read, is cut off or lacks a field: KeyError 'name'"
    )


def test_a_trial_that_is_there_twice_is_refused(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5, 0.6])])
    run = write_run(tmp_path / "run", [0.7, 0.8])
    assert refused(sweep, sweep) == f"mnist, nn2, sig+, seed 0 is there twice, in {sweep}"
    assert refused(sweep, run) == (
        f"mnist, nn2, sig+, seed 0 is there twice, in {run} and in {sweep}"
    )


def test_tuning_takes_many_values_and_a_cell_takes_one(tmp_path):
    def tried(value, **fields):
        return trial([0.5, 0.6], **{"schedule.init_value": value, **fields})

    tuning = [tried(value, phase="tune", seed=9) for value in (0.1, 0.01)]
    sweep = write_sweep(tmp_path / "a", [*tuning, tried(0.1)])
    assert len(results.read([sweep])[0]) == 6
    other = write_sweep(tmp_path / "b", [tried(0.01, seed=1)])
    assert refused(sweep, other) == (
        "mnist, nn2, sig+ has trials of different schedule.init_value, which no cell can hold: "
        f"0.01 in {other}, 0.1 in {sweep}"
    )
    again = write_sweep(tmp_path / "c", [tuning[0], tried(0.1, seed=1)])
    assert refused(sweep, again) == (
        f"mnist, nn2, sig+, seed 9 is there twice, in {sweep} and in {again}"
    )


def test_different_numbers_of_epochs_are_no_table(tmp_path):
    short = write_sweep(tmp_path / "short", [trial([0.5, 0.6])])
    long = write_run(tmp_path / "long", [0.5, 0.6, 0.7], seed=1)
    assert refused(short, long) == (
        "the trials of mnist have different numbers of epochs, which no table can hold: "
        f"2 in {short}, 3 in {long}"
    )
    elsewhere = write_run(tmp_path / "elsewhere", [0.5, 0.6, 0.7], data="digits")
    assert len(results.read([short, elsewhere])[0]) == 5
