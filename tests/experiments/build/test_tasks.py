"""Tasks built from a config: the data set, augmentation, loss, and precision that they use."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import quickstart
from configs.sweeps import digits
from experiments.build import tasks
from experiments.build.sweeps import read_sweep
from experiments.data import datasets
from experiments.errors import UserError
from experiments.tasks import classification, losses

MASK = np.ones(8, bool)


def nn2_config():
    """A config of a small network on 8x8 digits."""
    config = quickstart.get_config()
    config.data.image_size = None
    config.model.update(name="nn2", width_multiplier=0.02)
    config.model.attention.name = "none"
    return config


@pytest.fixture
def arguments(monkeypatch):
    """The arguments that build.tasks passes to the task of classification."""
    passed = {}
    make_task = classification.make_task

    def spy(**arguments):
        passed.update(arguments)
        return make_task(**arguments)

    monkeypatch.setattr(classification, "make_task", spy)
    return passed


def test_task_loads_the_data_set_of_the_config():
    task = tasks.make_task(nn2_config(), axis_name=None)
    expected = datasets.load(datasets.describe("digits", data_dir=None, image_size=None))
    data = task.load()
    np.testing.assert_array_equal(data.train["image"], expected.train_images)
    np.testing.assert_array_equal(data.train["label"], expected.train_labels)
    np.testing.assert_array_equal(data.test["image"], expected.test_images)
    np.testing.assert_array_equal(data.test["label"], expected.test_labels)
    assert task.num_train == len(expected.train_labels) == 1437


def test_validation_examples_replace_the_test_split():
    config = nn2_config()
    whole = tasks.make_task(config, axis_name=None).load()
    config.data.validation_examples = 200
    task = tasks.make_task(config, axis_name=None)
    data = task.load()
    assert task.num_train == len(data.train["label"]) == 1437 - 200
    assert len(data.test["label"]) == 200
    images = np.concatenate([data.train["image"], data.test["image"]])
    assert sorted(map(bytes, images)) == sorted(map(bytes, whole.train["image"]))


def test_data_are_loaded_at_the_first_use_and_once(monkeypatch):
    loads = []
    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda info: loads.append(info) or load(info))
    task = tasks.make_task(nn2_config(), axis_name=None)
    assert not loads
    batch = {name: array[:8] for name, array in task.load().train.items()}
    state = jax.eval_shape(lambda key: task.init(key, optax.sgd(0.1)), jax.random.key(0))
    jax.eval_shape(lambda state: task.train_step(state, batch, optax.sgd(0.1)), state)
    jax.eval_shape(lambda state: task.eval_step(state, {**batch, "mask": MASK}), state)
    assert len(loads) == 1


def test_images_are_standardized_on_the_device(arguments):
    tasks.make_task(nn2_config(), axis_name=None)
    dataset, normalize = arguments["load"]()
    assert dataset.train_images.dtype == np.uint8
    normalized = np.asarray(normalize(jnp.asarray(dataset.train_images)))
    np.testing.assert_allclose([normalized.mean(), normalized.std()], [0, 1], atol=1e-5)


def augmented(arguments, config, seed):
    """Returns one augmented image, by the function that the task gets."""
    tasks.make_task(config, axis_name=None)
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    return images, arguments["augment"](jax.random.key(seed), images)


def test_only_data_sets_whose_mirrored_images_keep_their_class_are_flipped(arguments, monkeypatch):
    config = quickstart.get_config()
    config.data.crop_padding = 0
    for seed in range(8):
        images, result = augmented(arguments, config, seed)
        np.testing.assert_array_equal(result, images)
    monkeypatch.setitem(datasets.FLIPS, "digits", True)
    mirrored = []
    for seed in range(8):
        images, result = augmented(arguments, config, seed)
        mirrored.append(np.array_equal(result, images[:, :, ::-1]))
        assert mirrored[-1] or np.array_equal(result, images)
    assert any(mirrored)
    assert not all(mirrored)


def test_without_augmentation_images_stay_as_they_are(arguments, monkeypatch):
    monkeypatch.setitem(datasets.FLIPS, "digits", True)
    config = quickstart.get_config()
    cropped = []
    for seed in range(8):
        images, result = augmented(arguments, config, seed)
        cropped.append(not np.array_equal(result, images))
    assert any(cropped)
    config.data.augment = False
    for seed in range(8):
        images, result = augmented(arguments, config, seed)
        np.testing.assert_array_equal(result, images)


def test_evaluation_does_not_smooth_labels(arguments):
    config = nn2_config()
    config.loss.update(name="sigmoid_categorical_cross_entropy", label_smoothing=0.3)
    tasks.make_task(config, axis_name=None)
    logits, labels = jnp.array([[1.0, 2.0, 4.0]]), jnp.array([1])
    loss = losses.sigmoid_categorical_cross_entropy
    np.testing.assert_array_equal(
        arguments["loss"](logits, labels), loss(logits, labels, label_smoothing=0.3)
    )
    np.testing.assert_array_equal(arguments["eval_loss"](logits, labels), loss(logits, labels))


@pytest.mark.parametrize("precision", ["default", "high", "highest"])
def test_steps_have_the_precision_of_the_config(precision):
    config = nn2_config()
    config.model.matmul_precision = precision
    task = tasks.make_task(config, axis_name=None)
    state = jax.eval_shape(lambda key: task.init(key, optax.sgd(0.1)), jax.random.key(0))
    batch = {name: array[:8] for name, array in task.load().train.items()}
    program = jax.jit(task.eval_step).trace(state, {**batch, "mask": MASK}).lower().as_text()
    products = [line for line in program.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) == 3
    for line in products:
        assert re.findall(r"\b(DEFAULT|HIGH|HIGHEST)\b", line) == [precision.upper()] * 2


def test_data_set_that_exceeds_memory_is_refused():
    config = quickstart.get_config()
    config.data.image_size = 4096
    with pytest.raises(UserError, match=r"^digits takes 30 GB as images of 4096x4096 pixels, and "):
        tasks.make_task(config, axis_name=None)


def test_crop_padding_as_large_as_the_images_is_refused_only_with_augmentation():
    config = quickstart.get_config()
    config.data.crop_padding = 16
    with pytest.raises(UserError, match=r"^data\.crop_padding=16 must be less than .* 16x16$"):
        tasks.make_task(config, axis_name=None)
    config.data.augment = False
    tasks.make_task(config, axis_name=None)


def test_preprocessing_step_of_the_wrong_type_is_refused_before_data_are_loaded():
    config = nn2_config()
    config.data.preprocess = ("os.path:join",)
    with pytest.raises(UserError, match=r"^data\.preprocess='os.path:join' is a function; it must"):
        tasks.make_task(config, axis_name=None)


def without_test_split(monkeypatch):
    """Describes every data set as one that has only a training split."""
    describe = datasets.describe
    monkeypatch.setattr(
        datasets,
        "describe",
        lambda *args, **options: describe(*args, **options)._replace(num_test=0),
    )


def test_data_set_without_a_test_split_needs_validation_examples(monkeypatch):
    without_test_split(monkeypatch)
    config = nn2_config()
    with pytest.raises(UserError, match=r"^data set 'digits' has no .*; set data\.validation_exam"):
        tasks.make_task(config, axis_name=None)
    config.data.validation_examples = 200
    task = tasks.make_task(config, axis_name=None)
    assert task.num_train == 1437 - 200
    assert len(task.load().test["label"]) == 200


def test_sweep_needs_examples_for_its_final_trials_too(monkeypatch):
    """Tuning holds out examples, but the final trials would have none to be evaluated on."""
    without_test_split(monkeypatch)
    config = digits.get_config()
    sweep = read_sweep(config)
    trial = {"setting": next(iter(sweep.settings)), "point": {}, "seed": 7}
    tuning = sweep.experiment(**trial, validation_examples=200)
    assert tuning.task.num_train == 1437 - 200
    with pytest.raises(UserError, match=r"no split test or validation; set data\.validation_exam"):
        sweep.experiment(**trial)
    config.base.data.validation_examples = 150
    assert read_sweep(config).experiment(**trial).task.num_train == 1437 - 150
