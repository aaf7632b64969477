"""Runs and sweeps are read exactly, in any order, or rejected with one sentence."""

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

from experiments.errors import UserError
from experiments.results import failures, read
from experiments.results.rows import TRIAL
from tests.experiments.results.fake_results import (
    CLASSIFICATION,
    REGRESSION,
    STEPS_PER_EPOCH,
    trial,
    write_run,
    write_summary,
    write_sweep,
)

METRIC = {"direction": "max", "percent": True}
RISING = {"direction": "max", "percent": False}


def rewrite(file, change):
    file.write_text(change(file.read_text()))


def rejected(*directories):
    """Returns the sentence that rejects some results."""
    with pytest.raises(UserError) as caught:
        read.read(directories)
    message = str(caught.value)
    assert "\n" not in message
    return message


def per_trial(directory):
    results = read.read([directory])
    return failures.per_trial(results.rows, results.objective, {})


def test_sweep_is_read_exactly(tmp_path):
    accuracies = [0.1 + 0.2, 1 / 3, 0.9800000190734863]
    swept = {"schedule.peak_value": 0.1, "setting": "0.1"}
    directory = write_sweep(
        tmp_path / "sweep",
        [
            trial([0.5, None, None], seed=1, **{**swept, "setting": "nan"}),
            trial(accuracies, seed=12, **swept),
        ],
    )
    rows, sources, metrics, objective, *_ = read.read([directory])
    assert list(rows.columns) == [
        *TRIAL,
        "split",
        "schedule.peak_value",
        *("epoch", "step", "learning_rate"),
        *("train_accuracy", "train_loss", "test_accuracy", "test_loss"),
        "diverged",
        "source",
    ]
    assert metrics == {"accuracy": ("accuracy", "max", True), "loss": ("loss", "min", False)}
    assert objective == ("accuracy", "max", True)
    assert list(rows.setting) == ["0.1"] * 3 + ["nan"] * 3
    assert list(rows.seed) == [12] * 3 + [1] * 3
    assert list(rows.test_accuracy[:3]) == accuracies
    assert list(rows.test_loss[:3]) == [2.0, 1.0, 2 / 3]
    assert list(rows.step[:3]) == [STEPS_PER_EPOCH * epoch for epoch in (1, 2, 3)]
    assert (rows["schedule.peak_value"] == 0.1).all()
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


def test_run_is_named_after_its_schedule_and_optimizer(tmp_path):
    sgd = write_run(tmp_path / "a", [0.5, 0.6], schedule="cosine", seed=3)
    adam = write_run(tmp_path / "b", [0.7, 0.8], schedule="cosine", optimizer="adam", model="vgg9")
    rows, sources, *_ = read.read([sgd, adam])
    trials = rows[[*TRIAL, "test_accuracy"]].values.tolist()
    assert trials == [
        ["final", "mnist", "nn2", "cosine", 3, 0.5],
        ["final", "mnist", "nn2", "cosine", 3, 0.6],
        ["final", "mnist", "vgg9", "cosine (adam)", 0, 0.7],
        ["final", "mnist", "vgg9", "cosine (adam)", 0, 0.8],
    ]
    assert list(sources.kind) == ["run", "run"]
    assert list(sources.trials) == [1, 1]


def test_run_takes_the_names_of_data_and_model_from_its_summary(tmp_path):
    first = write_run(tmp_path / "a", [0.5])
    second = write_run(tmp_path / "b", [0.5], model="nn2 (width 0.5)", data="digits")
    rows = read.read([first, second]).rows
    assert rows[["data", "model"]].values.tolist() == [
        ["digits", "nn2 (width 0.5)"],
        ["mnist", "nn2"],
    ]


def test_task_may_have_any_metrics(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", [trial([2.5, 1.5], task=REGRESSION)], task=REGRESSION)
    run = write_run(tmp_path / "run", [3.0, 0.25], seed=1, task=REGRESSION)
    rows, _, metrics, objective, *_ = read.read([sweep, run])
    assert list(metrics) == ["loss"]
    assert objective == ("loss", "min", False)
    assert "test_accuracy" not in rows.columns
    assert list(rows.test_loss) == [2.5, 1.5, 3.0, 0.25]


@pytest.mark.parametrize(
    "other",
    [
        REGRESSION,
        {**CLASSIFICATION, "task": "detection"},
        {**CLASSIFICATION, "objective": "loss"},
        {**CLASSIFICATION, "metrics": {**CLASSIFICATION["metrics"], "top5": METRIC}},
        {**CLASSIFICATION, "metrics": {**CLASSIFICATION["metrics"], "loss": RISING}},
    ],
)
def test_results_of_different_tasks_are_rejected(tmp_path, other):
    run = write_run(tmp_path / "a", [0.5])
    second = write_run(tmp_path / "b", [0.5], seed=1, task=other)
    message = rejected(second, run)
    assert message.startswith(
        f"a report covers one task, but {run} has task classification, metrics accuracy (max, "
        f"percent), loss (min), objective accuracy, and {second} has task {other['task']}, metrics "
    )


def test_summary_of_an_impossible_task_is_rejected(tmp_path):
    up = {**CLASSIFICATION, "metrics": {"accuracy": {"direction": "up", "percent": True}}}
    assert rejected(write_run(tmp_path / "a", [0.5], task=up)).endswith(
        "summary.json is unreadable, truncated, or lacks a field: ValueError direction 'up', not "
        "one of max, min"
    )
    unknown = write_run(tmp_path / "b", [0.5])
    file = unknown / "summary.json"
    rewrite(file, lambda text: text.replace('"objective": "accuracy"', '"objective": "bleu"'))
    assert rejected(unknown) == (
        f"{file} is unreadable, truncated, or lacks a field: KeyError 'bleu'"
    )


def test_run_with_an_infinite_loss_diverged(tmp_path):
    directory = write_run(tmp_path / "a", [0.5, 0.6, 0.7])
    file = directory / "metrics.jsonl"
    rewrite(file, lambda text: text.replace('"train_loss": 1.0', '"train_loss": Infinity'))
    assert list(read.read([directory]).rows.diverged) == [False, True, True]


def test_runs_and_sweeps_share_one_table(tmp_path):
    sweep = write_sweep(
        tmp_path / "sweep", [trial([0.5, 0.6], seed=0, **{"schedule.peak_value": 0.1})]
    )
    run = write_run(tmp_path / "run", [0.7, 0.8], seed=1)
    rows, sources, *_ = read.read([sweep, run])
    assert list(rows.seed) == [0, 0, 1, 1]
    np.testing.assert_array_equal(rows["schedule.peak_value"], [0.1, 0.1, math.nan, math.nan])
    assert list(rows.source) == [str(sweep)] * 2 + [str(run)] * 2
    assert list(sources.kind) == ["run", "sweep"]


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_rows_and_directories_does_not_matter(order: random.Random):
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
        expected = read.read(directories)[:2]
        for directory in directories:
            file = directory / "trials.csv"
            header, *lines = file.read_text().splitlines(keepends=True)
            order.shuffle(lines)
            file.write_text(header + "".join(lines))
        order.shuffle(directories)
        found = read.read(directories)[:2]
    for frame, other in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(frame, other, check_exact=True)


@pytest.mark.parametrize(("epochs", "last"), [(1, 1), (4, 1), (10, 1), (15, 2), (100, 10)])
def test_trial_is_summarized_by_its_last_tenth_of_epochs(tmp_path, epochs, last):
    accuracies = [0.9 - 0.001 * epoch * epoch % 0.17 for epoch in range(epochs)]
    directory = write_sweep(tmp_path / "sweep", [trial(accuracies)])
    trials = per_trial(directory)
    assert len(trials) == 1
    expected = math.fsum(accuracies[epochs - last :]) / last
    assert trials["last"][0] == pytest.approx(expected, rel=1e-12)
    assert trials["best"][0] == max(accuracies)


def test_best_of_a_minimized_objective_is_the_lowest(tmp_path):
    trials = [trial([0.9, 0.2, 0.4], task=REGRESSION), trial([None] * 3, seed=1, task=REGRESSION)]
    summary = per_trial(write_sweep(tmp_path / "sweep", trials, task=REGRESSION))
    np.testing.assert_array_equal(summary["last"], [0.4, 0.4])
    np.testing.assert_array_equal(summary["best"], [0.2, 0.4])


def test_missing_and_unfinished_results_are_rejected(tmp_path):
    lacking = "it has neither trials.csv (sweep) nor metrics.jsonl (run)"
    assert rejected(tmp_path / "nowhere").endswith(
        f"nowhere is not the directory of a run or a sweep: {lacking}"
    )
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_text("{}")
    assert rejected(tmp_path / "begun").endswith(
        f"begun is unfinished: {lacking}; run its command again"
    )
    run = write_run(tmp_path / "run", [0.5])
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5])])
    for directory in (run, sweep):
        (directory / "summary.json").unlink()
        assert rejected(directory) == (
            f"{directory} is unfinished: it has no summary.json; run its command again"
        )


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated_run_is_rejected(tmp_path, kept):
    file = write_run(tmp_path / "run", [0.5, 0.6, 0.7, 0.8]) / "metrics.jsonl"
    rewrite(file, lambda text: text[: int(kept * len(text))])
    assert rejected(tmp_path / "run").startswith(f"{file} is unreadable, truncated, or ")


def test_run_that_lacks_epochs_is_rejected(tmp_path):
    file = write_run(tmp_path / "run", [0.5, 0.6, 0.7]) / "metrics.jsonl"
    rewrite(file, lambda text: "".join(text.splitlines(keepends=True)[:-1]))
    assert rejected(tmp_path / "run") == (
        f"{file} is truncated: it has 2 epochs and ends at step 14, but summary.json says 3 epochs "
        "and 21 steps"
    )


def test_sweep_truncated_anywhere_is_rejected(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5, 0.6], seed=seed) for seed in range(2)])
    file = sweep / "trials.csv"
    complete = file.read_text()
    for length in range(len(complete)):
        file.write_text(complete[:length])
        assert rejected(sweep).startswith(f"{file} "), complete[:length]
    file.write_text(complete)
    read.read([sweep])


def test_sweep_truncated_between_lines_is_reported(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5, 0.6], seed=seed) for seed in range(3)])
    file = sweep / "trials.csv"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:-1]))
    assert rejected(sweep) == (
        f"{file} is truncated or repeats lines: its trials of phase final have 1 to 2 epochs"
    )
    file.write_text("".join(lines[:-2]))
    assert rejected(sweep) == f"{file} is truncated: it has 2 trials, but summary.json says 3"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"phase": "tune"}, "has no trials of phase final for mnist, nn2, sig+"),
        ({"phase": "test"}, "has the unknown phase 'test'; choose from final, tune"),
        ({"test_accuracy": ""}, "line 2, lacks a number, but its trial did not diverge"),
        ({"train_loss": "inf"}, "line 2, lacks a number"),
        ({"train_loss": "much"}, "is unreadable, truncated, or lacks a field: ValueError "),
        ({"test_accuracy": -5.0}, "test_accuracy is -5.0, but must be a fraction from 0 to 1; "),
        ({"seed": 0.5}, "is unreadable, truncated, or lacks a field: ValueError "),
        ({"diverged": "maybe"}, "is truncated: it has an incomplete line"),
    ],
)
def test_malformed_sweep_is_rejected(tmp_path, fields, message):
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5, 0.6], **fields)])
    assert message in rejected(sweep)


def test_file_that_lacks_a_field_is_rejected(tmp_path):
    broken = "is unreadable, truncated, or lacks a field:"
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5])])
    write_summary(sweep, trials=1, **CLASSIFICATION)
    assert rejected(sweep) == f"{sweep / 'summary.json'} {broken} KeyError 'command'"
    write_summary(sweep, trials=1, command="python -m experiments.sweep x")
    assert rejected(sweep) == f"{sweep / 'summary.json'} {broken} KeyError 'task'"
    file = write_sweep(tmp_path / "other", [trial([0.5])]) / "trials.csv"
    rewrite(file, lambda text: text.replace("test_accuracy", "validation_accuracy"))
    assert "KeyError" in rejected(tmp_path / "other")
    run = write_run(tmp_path / "run", [0.5])
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "schedule": {}}))
    assert rejected(run) == f"{run / 'config.json'} {broken} KeyError 'schedule.name'"


# The fields of a run's config that `write_run` sets.
RUN = {
    "data": {"name": "unused"},
    "model": {"name": "unused"},
    "optimizer": {"name": "sgd"},
    "schedule": {"name": "sig+"},
}


def test_trial_that_appears_twice_is_rejected(tmp_path):
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5, 0.6])], base={"seed": 7, **RUN})
    run = write_run(tmp_path / "run", [0.7, 0.8])
    assert rejected(sweep, sweep) == f"{sweep} is given twice; pass each directory once"
    assert rejected(sweep, run) == (
        f"mnist, nn2, sig+, seed 0 appears twice, in {run} and in {sweep}"
    )


def test_trials_of_different_length_cannot_share_a_table(tmp_path):
    short = write_sweep(tmp_path / "short", [trial([0.5, 0.6])])
    long = write_run(tmp_path / "long", [0.5, 0.6, 0.7], seed=1)
    assert rejected(short, long) == (
        "trials of mnist have different numbers of epochs and cannot share a table: "
        f"2 in {short}, 3 in {long}"
    )
    elsewhere = write_run(tmp_path / "elsewhere", [0.5, 0.6, 0.7], data="digits")
    assert len(read.read([short, elsewhere]).rows) == 5
