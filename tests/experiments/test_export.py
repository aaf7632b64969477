"""The export command writes weights that safetensors loads again."""

import json

import numpy as np
import pytest
from etils import epath
from flax.traverse_util import unflatten_dict
from safetensors import safe_open
from safetensors.flax import load_file

import experiments
from experiments.runtime import loop
from tests import commands
from tests.experiments.runtime.small import small_experiment


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    loop.run(small_experiment(), epath.Path(directory))
    return directory


def command(*arguments):
    return commands.run("experiments.export", *arguments)


@pytest.mark.slow
def test_exported_weights_are_those_of_the_network(run, tmp_path):
    file = tmp_path / "weights.safetensors"
    process = command(str(run), str(file))
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == f"wrote 8 arrays of step 5 to {file}\n"
    variables = unflatten_dict(load_file(file), sep="/")
    mean, std = variables.pop("preprocess")["standardize"].values()
    assert mean.shape == std.shape == (1, 1, 1, 1)
    network = experiments.load(run)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    expected = network.logits(images)
    again = network.replace(variables=variables).logits(images)
    np.testing.assert_array_equal(again, expected)
    with safe_open(file, framework="numpy") as opened:
        metadata = opened.metadata()
    assert json.loads(metadata["class_names"]) == list("0123456789")
    assert json.loads(metadata["config"]) == json.loads((run / "config.json").read_text())
    assert (metadata["step"], metadata["dtype"]) == ("5", "uint8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("runs/one",), "1 arguments were given; pass the directory of a run and a file that end"),
        (("runs/one", "weights.npz"), "weights.npz does not end in .safetensors; pass such a file"),
        (("nowhere", "a.safetensors"), "nowhere is not the directory of a run: it has no config"),
    ],
)
def test_unusable_arguments_are_refused(arguments, message):
    process = command(*arguments)
    assert process.returncode == 2
    assert process.stderr.startswith(f"error: {message}")
    assert process.stderr.count("\n") == 1


@pytest.mark.slow
def test_missing_directory_of_the_file_is_refused(run, tmp_path):
    process = command(str(run), str(tmp_path / "nowhere" / "a.safetensors"))
    assert process.returncode == 2
    assert "nowhere is not a directory; create it, or pass another file" in process.stderr
