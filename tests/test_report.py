"""The command as a user runs it, and the files it leaves."""

import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from experiments import report
from experiments.errors import UserError
from tests.fake_results import curve, trial, write_run, write_sweep

ROOT = Path(__file__).parents[1]


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "experiments.report", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A sweep with tuning, and two runs, one on another data set."""
    where = tmp_path_factory.mktemp("inputs")
    generator = np.random.default_rng(0)
    trials = [
        trial(
            curve(0.9 + rate, 10, generator),
            setting=setting,
            seed=seed,
            phase=phase,
            **{"schedule.init_value": rate},
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


def test_the_command_writes_a_report(inputs, tmp_path):
    out = tmp_path / "new" / "report"
    sweep, run = str(inputs["sweep"]), str(inputs["run"])
    finished = command(sweep, f"--out={out}", run, "--baseline=sig+")
    found = (finished.returncode, finished.stdout, finished.stderr)
    assert found == (0, f"wrote {out}/report.md with 7 tables and figures\n", "")
    text = (out / "report.md").read_text()
    for name in ("average", "maximum", "trials", "differences", "tuning"):
        table = pd.read_csv(out / f"mnist_{name}.csv", dtype=str, keep_default_na=False)
        for row in (table.columns, *table.values):
            assert f"| {' | '.join(row)} |\n" in text
    for name in ("test_accuracy", "train_loss"):
        assert f"](mnist_{name}.png)" in text
        assert matplotlib.image.imread(out / f"mnist_{name}.png").std() > 0.05
    links = set(re.findall(r"\]\((.+?)\)", text))
    assert links == {*contents(out)} - {"report.md"}
    assert (
        f"| {sweep} | sweep | 10 | 60 | 1 × made-up CPU | python -m experiments.sweep x |" in text
    )
    assert f"| {run} | run | 1 | 60 | 1 × made-up CPU | - |" in text
    assert "11 trials in 120 seconds." in text
    assert "Versions of all: python 3.11.7, jax 0.10.2." in text
    assert "Trials of 10 epochs, the last tenth of which is 1." in text
    assert "**Difference to sig+**" in text
    assert "| nn2 | sig+ | 0.02 |" in text
    assert "| nn2, schedule.init_value | - | 0.02 | 0.02 |" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out=x"], "no results are named; pass the directories of runs and sweeps"),
        (["nowhere", "--out=x"], "nowhere is no directory of a run or of a sweep"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, message):
    finished = command(*arguments)
    found = (finished.returncode, finished.stdout, finished.stderr)
    assert found == (2, "", f"error: {message}\n")
    assert not (ROOT / "x").exists()


def test_the_order_of_directories_does_not_count(inputs, tmp_path):
    directories = list(inputs.values())
    report.write(directories, tmp_path / "a")
    report.write(directories[::-1], tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_of_a_long_search_the_best_are_shown(tmp_path):
    trials = [
        trial([accuracy / 100] * 10, phase=phase, seed=seed, **{"schedule.init_value": rate})
        for phase, seed, points in (
            ("tune", 9, [(30 + number, 0.01 * number) for number in range(1, 13)]),
            ("final", 0, [(50, 0.12)]),
        )
        for accuracy, rate in points
    ]
    report.write([write_sweep(tmp_path / "sweep", trials)], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "The 10 best of each method are shown, of 12 rows." in text
    rows = pd.read_csv(tmp_path / "out" / "mnist_tuning.csv", dtype=str).to_numpy().tolist()
    shown = [row for row in rows if f"| {' | '.join(row)} |\n" in text]
    assert len(rows) == 12
    assert shown == rows[2:]


def test_data_sets_are_not_mixed(inputs, tmp_path):
    report.write(list(inputs.values()), tmp_path)
    digits = pd.read_csv(tmp_path / "digits_x_average.csv", dtype=str)
    assert digits.values.tolist() == [["nn2", "75.00 (1 trial)"]]
    assert list(digits.columns) == ["model", "sig+"]
    mnist = pd.read_csv(tmp_path / "mnist_trials.csv", dtype=str)
    assert mnist.to_dict("records") == [{"model": "nn2", "trap": "1", "cosine": "3", "sig+": "3"}]
    # Of one method there is no difference, and of a single run no tuning and no swept values.
    assert not (tmp_path / "digits_x_differences.csv").exists()
    assert not (tmp_path / "digits_x_tuning.csv").exists()
    assert (tmp_path / "report.md").read_text().count("values its trials had") == 1


def test_an_unknown_baseline_names_the_choices(inputs, tmp_path):
    with pytest.raises(UserError) as caught:
        report.write([inputs["sweep"], inputs["run"]], tmp_path / "out", baseline="cosin")
    assert str(caught.value) == (
        "--baseline=cosin is no method of mnist; choose one of trap, sig+, cosine"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_what_cannot_be_written_is_said(inputs, tmp_path, out):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^--out=.*file.* cannot be written: [A-Z][a-z ]+$"):
        report.write([inputs["digits"]], tmp_path / out)
