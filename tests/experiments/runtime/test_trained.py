"""The network of a run is a pure function of raw images, without the data set."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from etils import epath

import experiments
from experiments.data import datasets, inputs
from experiments.errors import UserError
from experiments.runtime import loop, workdir
from tests.experiments.runtime.small import small_experiment

FIELDS = {
    **{"epochs": 5.0, "model.width_multiplier": 0.1, "schedule.peak_value": 0.3},
    "data.preprocess": ("global_contrast_normalization", "zca"),
    "loss.name": "sigmoid_categorical_cross_entropy",
    "averaging.ema_decay": 0.9,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns the directory of a finished run, its summary, and its test images and labels."""
    directory = epath.Path(tmp_path_factory.mktemp("run"))
    summary, _ = loop.run(small_experiment(**FIELDS), directory)
    digits = datasets.load(datasets.describe("digits", data_dir=None, image_size=None))
    return directory, summary, digits.test_images, digits.test_labels


@pytest.fixture(scope="module")
def network(run):
    """Returns its network, which is loaded where the data set cannot be found."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "describe", None)
        patch.setattr(datasets, "load", None)
        return experiments.load(run[0])


def test_network_predicts_what_the_run_evaluated(run, network):
    _, summary, images, labels = run
    probabilities = network(images)
    assert (probabilities.shape, probabilities.dtype) == ((360, 10), np.float32)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    accuracy = np.mean(np.argmax(probabilities, axis=1) == labels)
    assert accuracy == pytest.approx(summary["test_accuracy"], abs=1e-6)
    loss = -np.log(np.take_along_axis(np.asarray(probabilities), labels[:, None], axis=1)).mean()
    assert accuracy > 0.2  # chance is 0.1
    assert loss == pytest.approx(summary["test_loss"], rel=1e-4)


def test_network_is_a_frozen_pytree_that_can_be_compiled(run, network):
    images = run[2][:5]
    expected = network(images)
    np.testing.assert_allclose(jax.jit(network)(images), expected, rtol=1e-4, atol=1e-6)
    as_argument = jax.jit(lambda network, images: network.logits(images))
    np.testing.assert_allclose(
        as_argument(network, images), network.logits(images), rtol=1e-4, atol=1e-4
    )
    assert network.class_names == tuple("0123456789")
    assert (network.image_shape, network.dtype, network.step) == ((8, 8, 1), "uint8", 25)
    with pytest.raises(dataclasses.FrozenInstanceError):
        network.step = 3


def test_images_of_another_form_are_refused(run, network):
    images = run[2]
    for wrong in (images[..., 0], images[:, :4], images / 255.0, images.astype(np.int32)):
        with pytest.raises(UserError, match=r"the network takes uint8 \[batch, 8, 8, 1\]; conv"):
            network(wrong)


def test_unusable_directory_is_refused(run, tmp_path):
    def refusal(directory):
        with pytest.raises(UserError) as error:
            experiments.load(directory)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "is not the directory of a run: it has no config.json" in refusal(tmp_path)
    old = tmp_path / "old"
    shutil.copytree(run[0], old)
    with workdir.locked(epath.Path(old)):
        assert "is in use by another process" in refusal(old)
    content = (old / inputs.FILE).read_bytes()
    (old / inputs.FILE).write_bytes(content[:-9] + bytes(9))
    assert "its arrays do not match their sha256" in refusal(old)
    (old / inputs.FILE).unlink()
    assert "has no inputs.safetensors, because" in refusal(old)
    config = json.loads((old / "config.json").read_text())
    config["task"]["name"] = "gan"
    (old / "config.json").write_text(json.dumps(config))
    assert "has a run of task.name='gan', and only" in refusal(old)


def test_damaged_inputs_of_a_finished_run_are_written_anew(run, tmp_path, capsys):
    again = tmp_path / "again"
    shutil.copytree(run[0], again)
    content = (again / inputs.FILE).read_bytes()
    (again / inputs.FILE).write_bytes(b"")
    loop.run(small_experiment(**FIELDS), epath.Path(again))
    assert f"{again}/{inputs.FILE} is damaged" in capsys.readouterr().err
    assert (again / inputs.FILE).read_bytes() == content


@pytest.mark.slow
def test_best_checkpoint_is_loaded(tmp_path):
    """The high learning rate of the third epoch spoils what the first two learned."""
    fields = {
        **{"epochs": 4.0, "model.width_multiplier": 0.1, "schedule.name": "cyclical_cosine"},
        **{"schedule.init_decay_epochs": 2.0, "schedule.restart_interval_epochs": 10.0},
        **{"schedule.peak_value": 0.1, "schedule.restart_value": 3.0},
        **{"checkpoint.keep_best": True, "checkpoint.max_to_keep": 1},
    }
    summary, _ = loop.run(small_experiment(**fields), epath.Path(tmp_path))
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    accuracies = [json.loads(line)["test_accuracy"] for line in lines]
    assert max(accuracies) == accuracies[1] > accuracies[3]
    assert summary["best_checkpoint"] == {"step": 10, "value": accuracies[1]}
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"10", "20"}
    assert experiments.load(tmp_path).step == 20
    best = experiments.load(tmp_path, which="best")
    assert best.step == 10
    digits = datasets.load(datasets.describe("digits", data_dir=None, image_size=None))
    labels = np.argmax(best(digits.test_images), axis=1)
    assert np.mean(labels == digits.test_labels) == pytest.approx(accuracies[1], abs=1e-6)
    with pytest.raises(UserError, match=r"^which='last' is unknown; choose from newest, best$"):
        experiments.load(tmp_path, which="last")
