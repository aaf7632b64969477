"""The classifier of features: the stored one of MNIST, and those that are trained."""

import hashlib
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import platformdirs
import pytest
from flax.traverse_util import unflatten_dict

from experiments.build import features
from experiments.data import datasets
from experiments.errors import UserError
from experiments.tasks.gan import scaled_images
from tests.experiments.build.edits import assert_one_sentence

MNIST = datasets.DatasetInfo("mnist", 60000, 10000, (28, 28, 1), 10, False, None)
FOLDER = Path(features.__file__).parent


def accuracy_of(weights, info, images, labels):
    params = unflatten_dict({k: v.astype(np.float32) for k, v in weights.items()}, sep="/")
    logits = jax.jit(lambda x: features._network(info).apply({"params": params}, x, train=False))
    found = np.asarray(logits(scaled_images(jnp.asarray(images)))).argmax(1)
    return (found == labels).mean()


def test_stored_weights_have_their_hash_and_a_small_file():
    for stored in features.STORED.values():
        content = (FOLDER / stored.file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == stored.sha256
        assert len(content) < 500_000
    values = features.extractor(MNIST)(jnp.zeros((2, 28, 28, 1)))
    assert (values.shape, values.dtype) == ((2, 64), jnp.float32)


@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="needs prepared data sets")
def test_stored_classifier_recognizes_test_images():
    info = datasets.describe("mnist", data_dir=None, image_size=None)
    source = info.builder.as_data_source(split="test[:2000]")
    images, labels = (
        np.stack([example[name] for example in source]) for name in ("image", "label")
    )
    assert images.shape == (2000, 28, 28, 1)
    assert accuracy_of(features._stored(info), info, images, labels) > 0.97


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "cannot be read (No such file or directory); restore it"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1] + b"x"), "is damaged: its SHA-256"),
    ],
)
def test_missing_or_damaged_classifier_is_one_sentence(tmp_path, monkeypatch, damage, message):
    file = tmp_path / "features_mnist.npz"
    file.write_bytes((FOLDER / file.name).read_bytes())
    monkeypatch.setattr(features, "__file__", str(tmp_path / "features.py"))
    features.check(MNIST)
    damage(file)
    with pytest.raises(UserError) as error:
        features.check(MNIST)
    assert message in str(error.value)
    assert_one_sentence(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 1}, "has a single class"),
        ({"image_shape": (3, 8, 1)}, "images of 3x8 pixels are too small"),
    ],
)
def test_data_set_on_which_no_classifier_can_be_trained_is_one_sentence(changes, message):
    with pytest.raises(UserError, match=message) as error:
        features.check(MNIST._replace(**changes))
    assert_one_sentence(error.value)


@pytest.mark.slow
def test_classifier_of_another_data_set_is_trained_once(tmp_path, monkeypatch):
    """The held-out images do not change it, and it recognizes the digits."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: tmp_path)
    monkeypatch.setattr(features, "MIN_STEPS", 120)
    info = datasets.describe("digits", data_dir=None, image_size=None)
    trained = []
    train = features.train
    monkeypatch.setattr(features, "train", lambda *a: trained.append(train(*a)) or trained[-1])
    images = jnp.asarray(np.random.default_rng(0).normal(size=(5, 8, 8, 1)), jnp.float32)
    first = features.extractor(info)(images)
    again = features.extractor(datasets.hold_out(info, 100))(images)
    np.testing.assert_array_equal(first, again)
    assert len(trained) == 1
    weights, accuracy = trained[0]
    data = datasets.load(info)
    assert accuracy > 0.9
    assert accuracy_of(weights, info, data.test_images, data.test_labels) == pytest.approx(
        accuracy, abs=0.006
    )
    assert {str(array.dtype) for array in weights.values()} == {"float16"}
