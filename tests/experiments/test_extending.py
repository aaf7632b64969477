"""The commands and the notebook of docs/extending.md do what the page says."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from tests import commands
from tests.experiments.runtime.lives import result
from tests.experiments.test_own_names import command, mine  # noqa: F401

PAGE = (commands.ROOT / "docs" / "extending.md").read_text()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def page_commands(directory):
    """Returns the arguments of each command of the page, with its files in a directory."""
    lines = re.findall(r"^    ((?:.*\\\n)*.*python -m experiments\.\w+(?:.*\\\n)*.*)$", PAGE, re.M)
    text = [line.replace("\\\n", " ") for line in lines]
    return [
        [
            word.replace("/tmp/mine", str(directory)).replace("runs/", f"{directory}/runs/")
            for word in shlex.split(line)
            if not word.startswith(("PYTHONPATH=", "python", "-m"))
        ]
        for line in text
    ]


def test_every_command_of_the_page_succeeds(mine):  # noqa: F811
    found = page_commands(mine)
    assert [name for name, *_ in found] == [
        f"experiments.{name}" for name in ("train", "sweep", "report", "train", "train")
    ]
    for name, *arguments in found:
        process = command(mine, name.removeprefix("experiments."), *arguments)
        assert process.returncode == 0, process.stderr
    summary = json.loads((mine / "runs" / "regression" / "summary.json").read_text())
    assert summary["epochs"] == 20
    assert f"test loss of {summary['test_loss']:.4f}" in PAGE
    sweep = pd.read_csv(mine / "runs" / "regression_sweep" / "trials.csv")
    final = sweep[sweep.phase == "final"]
    assert final.groupby("setting").seed.nunique().to_list() == 5 * [5]
    assert (mine / "runs" / "regression_report" / "report.md").exists()
    parity = json.loads((mine / "runs" / "parity" / "summary.json").read_text())
    assert parity["data"] == "parity"
    assert parity["metrics"]["accuracy"]["chance"] == 0.5


def test_stopped_run_resumes_to_the_bit(mine, tmp_path):  # noqa: F811
    flags = [
        *page_commands(mine)[0][1:-1],
        "--config.epochs=60",
        "--config.averaging.ema_decay=0.9",
    ]
    stopped = tmp_path / "stopped"
    process = commands.start(
        "experiments.train",
        *flags,
        f"--workdir={stopped}",
        out=tmp_path / "out",
        err=tmp_path / "err",
        PYTHONPATH=str(mine),
    )
    records = stopped / "metrics.jsonl"
    deadline = time.monotonic() + commands.TIMEOUT_SECONDS
    while not (records.exists() and records.read_bytes()):
        assert process.is_alive(), (tmp_path / "err").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGTERM)
    process.join(commands.TIMEOUT_SECONDS)
    assert process.exitcode == 128 + signal.SIGTERM, (tmp_path / "err").read_text()
    assert not (stopped / "summary.json").exists()
    results = []
    for workdir in (stopped, tmp_path / "whole"):
        finished = command(mine, "train", *flags, f"--workdir={workdir}")
        assert finished.returncode == 0, finished.stderr
        results.append(result(workdir))
    assert results[0] == results[1]


def test_notebook_of_the_page_runs(tmp_path):
    (source,) = [code for code in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "draw(" in code]
    assert len(re.findall(r"(?m)^table = ", source)) == 1
    process = subprocess.run(
        [sys.executable, "-c", source + "print(table.to_csv())"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(commands.ROOT)},
        capture_output=True,
        text=True,
        timeout=commands.TIMEOUT_SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("\n") > 6 + 30
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
