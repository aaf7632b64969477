"""Values that no run writes are refused, and every name and value that one writes can be shown."""

import json
import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.errors import UserError
from experiments.results import read, report
from tests.experiments.results.fake_results import (
    CLASSIFICATION,
    REGRESSION,
    trial,
    write_run,
    write_sweep,
)

# Letters with a meaning in Markdown, CSV, matplotlib, file systems, or terminals.
NAMES = st.text("aB0 ./\\|$_^{}%*`<#\"',;:\n\r\té\u202e\u0000\U0001f4a5", min_size=1, max_size=6)
ODD_NAMES = st.one_of(
    NAMES, st.sampled_from(["model", "seed", "setting", "phase", "nan", "0.1", "-", "..", "cosine"])
)
FINITE = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e308, -1e308, 3.4e38, -3.4e38, 1e-320, 0.0, -5.0, 4.6e11]),
)
FRACTIONS = st.one_of(st.floats(0, 1), st.sampled_from([-5.0, 1e300, 1.0000001, 0.1135]))
ODD_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text("aé\n", max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text("a.b", max_size=2), inner, max_size=2)
    ),
    max_leaves=4,
)
FAST = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(make):
    """Returns what a function makes, or None if it refuses in one sentence."""
    try:
        return make()
    except UserError as error:
        refusal = str(error)
    assert "\n" not in refusal
    return None


def reported(*directories):
    """Returns the files of a report, or None if the results are refused in one sentence."""
    files = outcome(lambda: report.make(read.read(directories)))
    if files is None:
        return None
    text = files["report.md"].decode()
    for line in text.splitlines():
        # Every cell of a table stands on one line, between the right number of bars.
        if line.startswith("|"):
            assert line.endswith("|")
    assert sum(name.endswith(".csv") for name in files) == text.count("([CSV](")
    return files


@FAST
@given(
    # Two cells can collide, and each model has figures of its own, which take time.
    st.lists(st.tuples(ODD_NAMES, ODD_NAMES, ODD_NAMES), min_size=1, max_size=2, unique=True),
)
def test_every_name_can_be_shown(cells):
    with tempfile.TemporaryDirectory() as temporary:
        trials = [
            trial([0.5], data=data, model=model, setting=setting) for data, model, setting in cells
        ]
        files = reported(write_sweep(Path(temporary) / "sweep", trials))
    if files is None:
        # Python may write a carriage return to a CSV file without quotes, so that it ends the line.
        assert any("\r" in name for cell in cells for name in cell)
        return
    data_sets = {data for data, _, _ in cells}
    assert sum(name.endswith("_average.csv") for name in files) == len(data_sets)
    assert len({name.casefold() for name in files}) == len(files)


@FAST
@given(st.lists(st.lists(FINITE, min_size=2, max_size=2), min_size=1, max_size=4))
def test_every_loss_can_be_shown_or_is_refused(losses):
    beyond = any(abs(value) > 3.4028235e38 for values in losses for value in values)
    with tempfile.TemporaryDirectory() as temporary:
        trials = [
            trial(values, seed=seed, setting=setting, task=REGRESSION)
            for seed, values in enumerate(losses)
            for setting in ("cosine", "sig")
        ]
        files = reported(write_sweep(Path(temporary) / "sweep", trials, task=REGRESSION))
    assert (files is None) == beyond


@FAST
@given(st.lists(FRACTIONS, min_size=1, max_size=4))
def test_accuracy_is_a_fraction_or_is_refused(accuracies):
    with tempfile.TemporaryDirectory() as temporary:
        files = reported(write_run(Path(temporary) / "run", accuracies))
    assert (files is None) == any(not 0 <= value <= 1.000001 for value in accuracies)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["run", "sweep"]), st.data())
def test_odd_field_of_a_summary_is_refused_or_has_no_effect(kind, data):
    with tempfile.TemporaryDirectory() as temporary:
        where = Path(temporary) / kind
        if kind == "run":
            write_run(where, [0.5])
        else:
            write_sweep(where, [trial([0.5])])
        file = where / data.draw(st.sampled_from(["summary.json", "config.json"]))
        content = json.loads(file.read_text())
        field = data.draw(st.sampled_from([*sorted(content), "chance", "environment_changes"]))
        content[field] = data.draw(ODD_JSON)
        file.write_text(json.dumps(content))
        results = outcome(lambda: read.read([where]))
    assert results is None or results.rows.test_accuracy.tolist() == [0.5]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("step", (7, 7), "step of line 2 of a trial is 7.0, but must be above the one before it; "),
        ("step", (-7, 7), "step of line 1 of a trial is -7.0, but must be above the one before"),
        ("step", (0, 7), "step of line 1 of a trial is 0.0, but must be above the one before it"),
        ("step", (6.5, 7), "step is 6.5, but must be an integer; restore the file, or run its"),
        ("epoch", (2.0, 1.0), "epoch of line 2 of a trial is 1.0, but must be above the one"),
        ("test_accuracy", (0.5, -5), "test_accuracy is -5.0, but must be a fraction from 0 to 1"),
        ("test_ema_accuracy", (0.5, -5), "test_ema_accuracy is -5.0, but must be a fraction from"),
        ("train_accuracy", (1e300, 1), "train_accuracy is 1e+300, but must be a fraction from 0"),
        ("train_loss", (1e308, 1), "train_loss is 1e+308, but must be a value of float32; "),
        ("learning_rate", (1e39, 1), "learning_rate is 1e+39, but must be a value of float32; "),
    ],
)
def test_impossible_value_is_refused(tmp_path, column, values, message):
    rows = trial([0.5, 0.6])
    for row, value in zip(rows, values, strict=True):
        row[column] = value
    sweep = write_sweep(tmp_path / "sweep", [rows])
    run = write_run(tmp_path / "run", [0.5, 0.6], steps=int(max(rows[0]["step"], rows[1]["step"])))
    curves = [
        {
            name: row[name]
            for name in row
            if name in ("epoch", "step", "learning_rate") or "_" in name
        }
        for row in rows
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curves))
    for file in (sweep / "trials.csv", run / "metrics.jsonl"):
        with pytest.raises(UserError) as caught:
            read.read([file.parent])
        # A sweep's rows are sorted by step before they are checked.
        assert str(caught.value).startswith(f"{file}: {message}")


def test_data_sets_never_overwrite_each_others_files(tmp_path):
    names = ["a b", "a/b", "A_b", "mnist validation", "mnist"]
    runs = [write_run(tmp_path / str(i), [0.5], data=name) for i, name in enumerate(names)]
    held_out = {"data": {"validation_examples": 10}}
    runs.append(write_run(tmp_path / "held", [0.5], data="mnist", config=held_out))
    files = report.make(read.read(runs))
    assert sorted(name for name in files if name.endswith("_average.csv")) == sorted(
        f"{stem}_average.csv"
        for stem in ("A_b", "a_b-2", "a_b-3", "mnist", "mnist_validation", "mnist_validation-2")
    )


def test_metric_may_have_a_dot_in_its_name(tmp_path):
    metrics = {**CLASSIFICATION["metrics"], "top.5": {"direction": "max", "percent": True}}
    task = {**CLASSIFICATION, "metrics": metrics}
    sweep = write_sweep(tmp_path / "sweep", [trial([0.5], task=task)], task=task)
    config = json.loads((sweep / "config.json").read_text())
    (sweep / "config.json").write_text(json.dumps({**config, "grid": []}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read.read([sweep]).rows["test_top.5"].tolist() == [0.5]


def test_training_may_lack_metrics_other_than_its_loss(tmp_path):
    """A distance between sets of images is computed in evaluation alone."""
    run = write_run(tmp_path / "run", [0.5, 0.6])
    file = run / "metrics.jsonl"
    whole = file.read_text()
    file.write_text(whole.replace('"train_accuracy"', '"train_other"'))
    rows = read.read([run]).rows
    assert "train_accuracy" not in rows
    assert not rows.diverged.any()
    assert list(rows.test_accuracy) == [0.5, 0.6]
    file.write_text(whole.replace('"train_loss"', '"train_other"'))
    with pytest.raises(UserError, match=r"lacks a field: KeyError .*train_loss"):
        read.read([run])
