"""The suggest command as a user runs it: it writes a config that the train command takes."""

import json
import re

import pytest

from tests import commands

NARROW = (
    "--config=configs/quickstart.py",
    "--config.epochs=1",
    "--config.batch_size=256",
    "--config.data.image_size=8",
    "--config.model.name=nn2",
    "--config.model.width_multiplier=0.02",
    "--config.model.attention.name=none",
    "--schedule=cosine,constant",
)


def suggest(workdir, *flags):
    return commands.run("experiments.suggest", *NARROW, f"--workdir={workdir}", *flags)


def test_missing_budget_is_reported_before_anything_is_measured(tmp_path):
    process = suggest(tmp_path / "run")
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1] == (
        "error: --minutes is missing; pass the budget, such as --minutes=10"
    )


@pytest.mark.slow
def test_small_budget_says_what_it_needs_and_leaves_no_directory(tmp_path):
    process = suggest(tmp_path / "run", "--minutes=0.001", "--plan_only")
    assert process.returncode == 2
    assert re.search(
        r"error: --minutes=0.001 is too small: .* pass --minutes=\S+, or", process.stderr
    )
    assert process.stdout.startswith("one trial takes about ")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_suggested_config_has_the_best_validated_peak_and_can_be_trained(tmp_path):
    workdir = tmp_path / "run"
    plan = suggest(workdir, "--minutes=10", "--plan_only", "--config.schedule.peak_value=0.01")
    assert "plan: cosine, constant, each with 7 peaks (0.00032, 0.001, 0.0032, 0.01" in plan.stdout
    assert "48 trials in about" in plan.stdout
    assert not workdir.exists()
    process = suggest(workdir, "--minutes=10", "--config.schedule.peak_value=0.01")
    assert process.returncode == 0, process.stderr
    text = (workdir / "suggested.py").read_text()
    chosen = json.loads((workdir / "summary.json").read_text())["chosen"]
    peaks = {name: point["schedule.peak_value"] for name, point in chosen.items()}
    (name, peak), *_ = re.findall(
        r"^(\w+) with schedule.peak_value=(\S+) has the best validation accuracy, ",
        process.stdout,
        re.M,
    )
    assert float(peak) == peaks[name]
    # One epoch is so short that the highest peak is the best.
    assert "It is the highest peak tried, so a higher one may be better" in " ".join(text.split())
    again = suggest(workdir, "--minutes=1", "--config.schedule.peak_value=0.01")
    assert again.stdout.startswith(f"resumes the tuning in {workdir}: 7 peaks, 3 seeds")
    assert (workdir / "suggested.py").read_text() == text
    trained = commands.run(
        "experiments.train", f"--config={workdir}/suggested.py", f"--workdir={tmp_path}/trained"
    )
    assert trained.returncode == 0, trained.stderr
    config = json.loads((tmp_path / "trained" / "config.json").read_text())
    assert (config["schedule"]["name"], config["schedule"]["peak_value"]) == (name, peaks[name])
    assert (config["epochs"], config["model"]["name"], config["seed"]) == (1.0, "nn2", 0)
