"""The predict command: text or classes from the newest checkpoint of a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from PIL import Image

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
    assert "classification, predicts nothing; pass the directory of a cl" in refusal(classifier)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the directory of a run is missing; pass it as the first argument"),
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


def test_command_refuses_files_for_a_language_model(run):
    process = command(str(run), "picture.png")
    assert process.returncode == 2
    assert process.stderr.startswith("error: 'picture.png' cannot be used, because ")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """The directory of a finished run on bright and dark images, which are then deleted."""
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for index in range(40):
        name, low = ("dark", 0) if index % 2 else ("bright", 128)
        file = data / name / f"{index}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(low, low + 128, (4, 4, 3), np.uint8)).save(file)
    fields = {"data.name": f"folder:{data}", "data.image_size": None, "epochs": 4.0}
    fields |= {"batch_size": 16, "schedule.peak_value": 0.05, "data.crop_padding": 1}
    directory = epath.Path(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(data / "cache"))
        loop.run(small_experiment(**fields), directory)
    shutil.rmtree(data)
    return directory


def test_command_prints_classes_and_probabilities_without_the_data_set(classifier, tmp_path):
    for name, value in (("dark", 50), ("bright", 200)):
        Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(tmp_path / f"{name}.png")
    files = [str(tmp_path / f"{name}.png") for name in ("dark", "bright")]
    process = command(str(classifier), *files)
    assert (process.returncode, process.stderr) == (0, "")
    rows = [line.split("\t") for line in process.stdout.splitlines()]
    assert [row[:2] for row in rows] == [[files[0], "dark"], [files[1], "bright"]]
    assert all(0.5 < float(row[2]) <= 1 for row in rows)
    for arguments, message in (
        ((), "has a classifier of images; pass image files after it"),
        ((files[0], "--length=3"), "--length has no effect on a classifier of images; remove it"),
    ):
        process = command(str(classifier), *arguments)
        assert process.returncode == 2
        assert message in process.stderr
