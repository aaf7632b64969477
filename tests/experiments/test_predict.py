"""The predict command: text from the newest checkpoint of a run."""

import json
from pathlib import Path

import pytest
from etils import epath

from experiments.errors import UserError
from experiments.runtime import loop, prediction, workdir
from experiments.tasks.task import Sampling
from tests import commands
from tests.experiments.build.test_language_model import experiment_of
from tests.experiments.runtime.small import small_experiment

OPTIONS = Sampling(prompt="ab", length=40, temperature=1.0, top_k=None, seed=0)


def command(*arguments):
    return commands.run("experiments.predict", *arguments)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a finished run on a text in which each letter follows another one."""
    text = tmp_path_factory.mktemp("text")
    (text / "a.txt").write_text("abcdefgh" * 500)
    experiment = experiment_of(
        "folder",
        **{
            **{"data.data_dir": str(text), "batch_size": 32, "epochs": 12.0},
            **{"schedule.peak_value": 0.03, "schedule.warmup_epochs": 1.0, "model.num_heads": 1},
        },
    )
    directory = epath.Path(tmp_path_factory.mktemp("run"))
    loop.run(experiment, directory)
    return directory


def test_prediction_continues_the_text_of_the_newest_checkpoint(run):
    before = {file: file.read_bytes() for file in Path(run).rglob("*") if file.is_file()}
    assert prediction.of_run(run, OPTIONS._replace(temperature=0.0)) == "abcdefgh" * 5 + "ab"
    after = {file: file.read_bytes() for file in Path(run).rglob("*") if file.is_file()}
    assert {file.name for file in before if before[file] != after[file]} <= {"lock"}
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test_loss"] < 0.1


def test_unusable_directory_is_refused(run, tmp_path):
    def refusal(directory):
        with pytest.raises(UserError) as error:
            prediction.of_run(epath.Path(directory), OPTIONS)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "is not the directory of a run: it has no config.json" in refusal(tmp_path)
    assert not (tmp_path / "lock").exists()
    workdir.claim(epath.Path(tmp_path), json.loads((run / "config.json").read_text()))
    assert "has no checkpoint yet" in refusal(tmp_path)
    with workdir.locked(run):
        assert "is in use by another process" in refusal(run)
    (tmp_path / "config.json").write_text("[]")
    assert "config.json is not the config of a run: it is not a JSON object" in refusal(tmp_path)
    classifier = tmp_path / "classifier"
    classifier.mkdir()
    workdir.claim(epath.Path(classifier), small_experiment().config)
    assert "classification, predicts nothing; pass the directory of a lan" in refusal(classifier)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--workdir is missing"),
        (("--length=0",), "--length=0 is out of range; it must be at least 1 and at most 1000000"),
        (("--temperature=nan",), "--temperature=nan is out of range; it must be at least 0"),
    ],
)
def test_unusable_flags_are_refused(arguments, message):
    workdir_flag = ("--workdir=nowhere",) if arguments else ()
    process = command(*workdir_flag, *arguments)
    assert process.returncode == 2
    assert process.stderr.startswith(f"error: {message}")
    assert process.stderr.count("\n") == 1


def test_command_prints_the_text(run):
    process = command(f"--workdir={run}", "--prompt=cd", "--length=6", "--top_k=1")
    assert (process.returncode, process.stdout) == (0, "cdefghab\n")
