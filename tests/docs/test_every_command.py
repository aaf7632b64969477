"""Every command of the README and of docs/ is run by a test, or docs/commands.md says why not.

A test runs a command if it starts the same program with the same flags. Their values, positional
arguments, and the directories to write to may differ. A test may also set fields of the config in
Python, because every command reads the flags of fields in the same way.
"""

import re
import shlex
from pathlib import Path

import pytest

from tests import commands
from tests.commands import ROOT
from tests.experiments.test_own_names import mine  # noqa: F401

EXCEPTIONS = ROOT / "docs" / "commands.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(.*?)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (\S.*)$", re.MULTILINE)
COMMAND = re.compile(
    r"(gcloud|git|loganneal-\S+|make|mlflow|mypy|pip|pre-commit|pytest|python3? -m|ruff|sbatch|"
    r"scripts/\S+|srun|tensorboard) \S"
)

QUICKSTART = "experiments.train --config=configs/quickstart.py"
FOLDER = "experiments.train --config=configs/language_model.py:folder --config.data.data_dir"
EPOCH = (
    "--config.epochs=1",
    "--config.batch_size=256",
    "--config.data.augment=False",
    "--config.model.name=nn2",
    "--config.model.width_multiplier=0.02",
    "--config.model.attention.name=none",
)
# What `test_documented_command_trains` runs, with the flags that make it short.
SHORT_RUNS = {
    f"{QUICKSTART} --config.data.name --config.data.image_size --config.epochs": EPOCH,
    f"{QUICKSTART} --config.optimizer.name --config.optimizer.weight_decay "
    "--config.schedule.peak_value --config.schedule.end_value": EPOCH,
    f"{QUICKSTART} --init_from --config.schedule.peak_value": EPOCH,
    # An epoch has 5 steps.
    f"{QUICKSTART} --profile_steps": (*EPOCH, "--config.epochs=14"),
}
RUN_BY = {
    "tests/docs/test_every_command.py::test_documented_command_trains": tuple(SHORT_RUNS),
    "tests/docs/test_results.py::test_rebuild_restores_files_and_names_them": ("make results",),
    "tests/docs/test_tables.py::test_pages_have_the_tables_of_the_registry": ("make schedules",),
    "tests/test_packaging.py::test_twine_finds_nothing": ("make dist",),
    ".ci/run": (
        *("make docs", "make first-hour", "make lint", "make test", "make test-all", "make types"),
    ),
    "scripts/first_hour.sh": (
        "experiments.report --labels",
        f"{QUICKSTART} --config.schedule.name",
        "loganneal-train --config=quickstart",
    ),
    "tests/configs/test_configs.py::test_two_real_steps_at_full_width": (
        "experiments.train --config=configs/cifar10_attention.py --config.epochs",
        "experiments.train --config=configs/cifar10_resnet34.py --config.epochs "
        "--config.schedule.warmup_epochs",
    ),
    "tests/experiments/runtime/test_beginning.py::test_command_extends_the_run_in_its_directory": (
        "experiments.train --extend_to_epochs",
    ),
    "tests/experiments/runtime/test_loop.py::test_averages_are_in_every_file": (
        f"{QUICKSTART} --config.averaging.ema_decay --config.averaging.swa_start_epoch "
        "--config.averaging.cycle_snapshots",
    ),
    "tests/experiments/runtime/test_processes.py::test_two_processes_train_like_one": (
        f"{QUICKSTART} --coordinator_address --num_processes --process_id",
    ),
    "tests/experiments/runtime/test_reliability.py::"
    "test_killed_run_of_every_task_resumes_to_the_same_result": (
        "experiments.train --config=configs/gan_mnist.py",
        "experiments.train --config=configs/language_model.py",
        "experiments.train --config=configs/linear_regression.py",
    ),
    "tests/experiments/runtime/test_reliability.py::"
    "test_rollbacks_reach_a_finite_loss_even_if_the_run_is_killed": (
        f"{QUICKSTART} --config.schedule.restart_value --config.guard.loss_threshold "
        "--config.guard.max_rollbacks",
    ),
    "tests/experiments/sweeping/test_extensions.py::"
    "test_grid_grows_for_all_settings_while_a_best_mean_is_at_its_edge": (
        "experiments.sweep --config=configs/sweeps/digits.py --config.tune.selection "
        "--config.tune.max_extensions",
    ),
    "tests/experiments/test_catalog.py::test_kinds_narrow_the_catalog": ("experiments.catalog",),
    "tests/experiments/test_catalog.py::test_runs_are_listed_with_their_state": (
        "experiments.catalog --runs",
    ),
    "tests/experiments/test_compile.py::test_quickstart_compiles_for_four_chips_of_v5e": (
        "experiments.compile --config=configs/cifar10_resnet34.py --topology",
        "experiments.compile --config=configs/imagenet_resnet50.py --topology",
    ),
    "tests/experiments/test_export.py::test_exported_weights_are_those_of_the_network": (
        "experiments.export",
    ),
    "tests/experiments/test_extending.py::test_every_command_of_the_page_succeeds": (
        "experiments.sweep --config=configs/sweeps/digits.py --config.base.task.name",
        "experiments.train --config=/tmp/mine/my_config.py --config.task.options.num_examples",
        f"{QUICKSTART} --config.task.name",
        f"{QUICKSTART} --config.task.name --config.epochs",
    ),
    "tests/experiments/test_limit.py::test_command_prints_and_writes_the_table_of_four_problems": (
        "experiments.limit",
    ),
    "tests/experiments/test_limit.py::test_command_maps_the_problems_and_continues": (
        "experiments.limit --map",
    ),
    "tests/experiments/test_own_names.py::test_train_accepts_every_part": (
        f"{QUICKSTART} --config.schedule.name --config.schedule.peak_value "
        "--config.schedule.end_value --config.optimizer.name --config.model.name "
        "--config.loss.name --config.data.preprocess",
    ),
    "tests/experiments/test_plot.py::test_documented_command_draws_the_figure_of_the_paper": (
        "experiments.plot --schedule --epochs --config.schedule.peak_value "
        "--config.schedule.end_value --config.schedule.init_decay_epochs "
        "--config.schedule.restart_interval_epochs --config.schedule.restart_multiplier "
        "--config.schedule.warmup_epochs --config.schedule.warmup_init_value",
    ),
    "tests/experiments/test_plot.py::test_default_picture_is_in_the_ignored_directory_of_runs": (
        "experiments.plot",
    ),
    "tests/experiments/test_plot.py::test_other_documented_command_draws": (
        "experiments.plot --config=configs/cifar10_resnet34.py --config.schedule.variant",
        "experiments.plot --config=configs/sweeps/digits.py",
        "experiments.plot --schedule --epochs",
        "experiments.plot --schedule --epochs --config.schedule.warmup_epochs "
        "--config.schedule.warmup_init_value --config.schedule.cooldown_fraction",
        "experiments.plot --schedule --epochs --scale",
    ),
    "tests/experiments/test_predict.py::"
    "test_command_prints_classes_and_probabilities_without_the_data_set": (
        "experiments.predict",
        f"{QUICKSTART} --config.data.name --config.data.image_size",
    ),
    "tests/experiments/test_predict.py::test_command_prints_the_text": (
        "experiments.predict --prompt --length",
    ),
    "tests/experiments/test_report.py::test_command_writes_a_report": (
        "experiments.report",
        "experiments.report --baseline",
    ),
    "tests/experiments/test_suggest.py::"
    "test_suggested_config_has_the_best_validated_peak_and_can_be_trained": (
        "experiments.suggest --config=configs/quickstart.py --minutes",
        "experiments.train --config=runs/quickstart-suggest/suggested.py",
    ),
    "tests/experiments/runtime/test_streamed_text.py::test_streamed_text_gives_the_run_in_memory": (
        FOLDER,
        f"{FOLDER} --config.data.tokens --config.data.loading",
    ),
    "tests/experiments/runtime/test_trained.py::test_best_checkpoint_is_loaded": (
        f"{QUICKSTART} --config.checkpoint.keep_best",
    ),
    "tests/experiments/sweeping/test_pool.py::test_two_processes_equal_one_on_one_core": (
        "experiments.sweep --config=configs/sweeps/mnist.py --processes",
    ),
    "tests/experiments/test_sweep.py::test_every_trial_has_one_row_per_epoch": (
        "experiments.sweep --config=configs/sweeps/averaging.py",
        "experiments.sweep --config=configs/sweeps/digits.py",
    ),
    "tests/experiments/test_train.py::test_finished_run_writes_its_files": (
        QUICKSTART,
        f"{QUICKSTART} --config.model.name",
    ),
}


def commands_of(page):
    """Returns the words of each command of a page, without environment variables before it."""
    text = page.read_text().replace("\\\n", " ")
    lines = [line for name, body in FENCE.findall(text) if not name for line in body.splitlines()]
    text = FENCE.sub("", text)
    lines += INDENTED.findall(text)
    lines += [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", INDENTED.sub("", text))]
    plain = [re.sub(r"^(\w+=\S* )*(\.venv/bin/)?|\s#.*", "", line) for line in lines]
    return [shlex.split(line) for line in plain if COMMAND.match(line)]


def program_and_flags(words):
    """Returns a command as `RUN_BY` names it: for `python -m`, without positional arguments."""
    if words[0] == "python":
        optional = [word.strip("[]") for word in words[3:]]
        words = [words[2], *(word for word in optional if word.startswith("-"))]
    flags = [word if word.startswith("--config=") else word.split("=")[0] for word in words]
    return " ".join(flag for flag in flags if flag not in ("--workdir", "--out"))


def documented(*pages):
    """Returns the words of one command of the pages for each program with its flags."""
    return {program_and_flags(words): words for page in pages for words in commands_of(page)}


DOCUMENTED = documented(*(page for page in PAGES if page != EXCEPTIONS))


def test_every_command_is_run_or_listed():
    known = [command for group in RUN_BY.values() for command in group]
    known += documented(EXCEPTIONS)
    assert set(DOCUMENTED) - set(known) == set()
    assert sorted(known) == sorted(DOCUMENTED)


@pytest.mark.parametrize("test", RUN_BY)
def test_what_runs_a_command_is_there(test):
    file, _, function = test.partition("::")
    text = (ROOT / file).read_text()
    if function:
        assert f"def {function}(" in text
    else:
        assert file == ".ci/run" or Path(file).stem.replace("_", "-") in made_by_ci()
        made = [command.removeprefix("make ") for command in RUN_BY[".ci/run"]]
        assert set(made) <= made_by_ci()


def made_by_ci():
    """Returns the targets of make that .ci/run builds."""
    targets = re.findall(r"^ *make ([a-z -]+)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    return set(" ".join(targets).split())


@pytest.mark.parametrize("command", SHORT_RUNS)
def test_documented_command_trains(command, mine, tmp_path):  # noqa: F811
    _, _, module, config, *arguments = DOCUMENTED[command]
    # The last of two equal flags counts, so the values of the page are kept.
    short = [config, *SHORT_RUNS[command]]

    def train(*flags):
        variables = {"PYTHONPATH": str(mine), "XDG_CACHE_HOME": str(mine / "cache")}
        process = commands.run(module, *short, *flags, cwd=tmp_path, **variables)
        assert process.returncode == 0, process.stderr
        assert " steps, " in process.stdout

    if "--init_from=runs/quickstart" in arguments:
        others = [word for word in arguments if not word.startswith(("--init_from", "--workdir"))]
        train(*others, "--workdir=runs/quickstart")
    train(*arguments)
