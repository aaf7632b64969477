"""The command writes a complete report, and reports mistakes in one sentence."""

import os
import re
import subprocess
import sys

import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from configs import base
from tests import commands
from tests.commands import ROOT
from tests.experiments.results.fake_results import curve, trial, write_run, write_sweep


def command(*arguments):
    return commands.run("experiments.report", *arguments)


def test_command_writes_a_report(tmp_path):
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
    sweep = str(write_sweep(tmp_path / "sweep", trials))
    run = str(write_run(tmp_path / "run", curve(0.8, 10, generator), schedule="trap"))
    out = tmp_path / "new" / "report"
    finished = command(sweep, f"--out={out}", run, "--baseline=sig+")
    found = (finished.returncode, finished.stdout, finished.stderr)
    assert found == (0, f"wrote {out}/report.md with 8 tables and figures\n", "")
    text = (out / "report.md").read_text()
    for name in ("average", "best", "trials", "differences", "tuning"):
        table = pd.read_csv(out / f"mnist_{name}.csv", dtype=str, keep_default_na=False)
        for row in (table.columns, *table.values):
            assert f"| {' | '.join(row)} |\n" in text
    for name in ("ranking", "nn2_test_accuracy", "nn2_train_loss"):
        assert f"](mnist_{name}.png)" in text
        assert matplotlib.image.imread(out / f"mnist_{name}.png").std() > 0.05
    links = set(re.findall(r"\]\((.+?)\)", text))
    assert links == {file.name for file in out.iterdir()} - {"report.md"}
    assert (
        f"| {sweep} | sweep | 10 | 60 | 1 × made-up CPU | python -m experiments.sweep x |" in text
    )
    assert f"| {run} | run | 1 | 60 | 1 × made-up CPU | - |" in text
    assert "11 trials in 120 seconds." in text
    assert "Versions (all): python 3.11.7, jax 0.10.2." in text
    assert "Epochs per trial: 10. Epochs in the last tenth: 1." in text
    assert "**Difference from sig+** in test accuracy, in percentage points" in text
    assert "A positive difference is better than sig+." in text
    # The made-up configs have no schedule section that could be rebuilt.
    assert "which have that of the end of each epoch: trap, sig+, cosine." in text
    assert "| nn2 | sig+ | 0.02 |" in text
    assert "| nn2, schedule.peak_value | - | 0.02 | 0.02 |" in text


def test_default_output_is_ignored_by_git_and_needs_no_accelerator(tmp_path):
    """Schedules are rebuilt on the CPU, even if JAX is told to use an accelerator."""
    schedule = base.get_config().schedule
    schedule.name = "constant"
    config = {"schedule": schedule.to_dict()}
    write_run(tmp_path / "runs" / "a", [0.5], config=config)
    finished = subprocess.run(
        [sys.executable, "-m", "experiments.report", "runs/a"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "no_such_platform"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = (finished.returncode, finished.stdout, finished.stderr)
    assert found == (0, "wrote runs/report/report.md with 6 tables and figures\n", "")
    text = (tmp_path / "runs" / "report" / "report.md").read_text()
    assert "Below: the learning rate of every step.\n" in text
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/runs/", "/report/", "/schedule.png"} <= set(ignored)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out=x"], "no results given; pass the directories of runs and sweeps"),
        (
            ["nowhere", "--out=x"],
            "nowhere is not the directory of a run or a sweep: it has neither trials.csv (sweep) "
            "nor metrics.jsonl (run)",
        ),
    ],
)
def test_mistake_is_one_sentence(arguments, message):
    finished = command(*arguments)
    found = (finished.returncode, finished.stdout, finished.stderr)
    assert found == (2, "", f"error: {message}\n")
    assert not (ROOT / "x").exists()
