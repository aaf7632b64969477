"""Configs: every one builds, and what cannot be used is refused in one sentence."""

import importlib
import math
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import loganneal_jax
from configs import base, quickstart
from experiments import build, ranges
from experiments.errors import UserError
from experiments.schedules import SCHEDULES

CONFIGS = sorted(
    file.stem
    for file in (Path(__file__).parents[1] / "configs").glob("*.py")
    if "def get_config" in file.read_text()
)


def digits_config():
    config = quickstart.get_config()
    config.epochs = 8.0
    return config


def change(config, path, value):
    *sections, name = path.split(".")
    for section in sections:
        config = config[section]
    config[name] = value


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_builds(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    if config.data.name != "digits" and "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("TFDS_DATA_DIR names no prepared data sets")
    experiment = build.build(config)
    rates = loganneal_jax.tabulate(experiment.schedule, experiment.num_steps)
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    assert rates.max() > 0


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_has_exactly_the_fields_of_the_base(name):
    def fields(config: ConfigDict) -> dict:
        return {
            key: fields(value) if isinstance(value, ConfigDict) else None
            for key, value in config.items()
        }

    config = importlib.import_module(f"configs.{name}").get_config()
    assert fields(config) == fields(base.get_config())


def test_every_numeric_field_has_a_range():
    def numeric(config: ConfigDict, prefix: str = "") -> set[str]:
        names: set[str] = set()
        for key in config:
            value, kind = config[key], config.get_type(key)
            if isinstance(value, ConfigDict):
                names |= numeric(value, f"{prefix}{key}.")
            elif kind in (int, float):
                names.add(prefix + key)
        return names

    assert numeric(base.get_config()) == set(ranges.CONFIG)


BAD = [
    ("epochs", -1.0, "epochs=-1.0 .* above 0"),
    ("epochs", math.nan, "epochs=nan"),
    ("epochs", math.inf, "epochs=inf"),
    ("epochs", 1e-4, "epochs=0.0001 at 22 steps an epoch is 0 steps; a run has from 1 to"),
    ("epochs", 1e9, "epochs=1000000000.0 at 22 steps an epoch is 22000000000 steps"),
    ("seed", -1, "seed=-1 .* at least 0"),
    ("seed", 2**32, "seed=4294967296 .* below 4294967296"),
    ("batch_size", 0, "batch_size=0 .* at least 1"),
    ("batch_size", 1438, "batch_size=1438 .* digits has 1437"),
    ("eval_batch_size", 0, "eval_batch_size=0"),
    ("log_every_steps", 0, "log_every_steps=0"),
    ("data.name", "cifar11", "unknown data set 'cifar11'; choose one of cifar10, .*digits"),
    ("data.crop_padding", 16, "crop_padding=16 .* 16x16"),
    ("data.image_size", 0, "image_size=0"),
    ("data.preprocess", ("zcaa",), "unknown preprocessing step 'zcaa'; choose from .*zca"),
    ("data.preprocess", ("zca", "zca"), "'zca' is named twice"),
    (
        "data.preprocess",
        ("zca", "contrast_stretching"),
        "'contrast_stretching' .* must be the first",
    ),
    ("data.preprocess", ("zca", "standardize"), "'standardize' would undo the whitening"),
    ("data.validation_examples", -1, "validation_examples=-1 .* at least 0"),
    ("data.validation_examples", 1437, "leaves nothing to train on: digits has 1437 training"),
    ("data.zca_epsilon", 0.0, "zca_epsilon=0.0 .* above 0"),
    ("model.name", "resnet19", "model.name='resnet19'; .*resnet18, resnet34, resnet50"),
    ("model.variant", "cifr", "model.variant='cifr'; choose one of cifar, imagenet"),
    ("model.dtype", "float16", "model.dtype='float16'; choose one of float32, bfloat16"),
    ("model.width_multiplier", 0.0, "width_multiplier=0.0"),
    ("model.attention.name", "behind", "choose one of none, beside, before"),
    ("model.attention.num_heads", 5, "num_heads=5 does not divide model.attention.width=32"),
    ("model.attention.patch_size", 5, "patch_size=5 does not divide .* 16x16"),
    ("optimizer.name", "lion", "optimizer.name='lion'; choose one of adam, adamw, rmsprop, sgd"),
    ("optimizer.decay", "coupld", "optimizer.decay='coupld'; choose one of coupled, decoupled"),
    ("optimizer.decayed", "biases", "optimizer.decayed='biases'; choose one of all, kernels"),
    ("optimizer.clip_norm", 0.0, "clip_norm=0.0 .* above 0"),
    ("optimizer.momentum", 1.0, "momentum=1.0 .* below 1"),
    ("optimizer.weight_decay", -0.1, "weight_decay=-0.1"),
    ("schedule.name", "cosin", "schedule.name='cosin'; .*cyclical_cosine"),
    ("schedule.init_value", -0.1, "init_value=-0.1"),
    ("schedule.end_value", 0.9, "end_value .* init_value"),
    ("schedule.warmup_epochs", 9.0, "warmup_epochs=9.0 is longer than the run, epochs=8.0"),
    ("schedule.init_decay_epochs", 0.0, "init_decay_epochs=0.0 .* above 0"),
    ("schedule.init_decay_epochs", 0.001, "schedule .*init_decay_steps"),
    ("schedule.restart_interval_epochs", -1.0, "restart_interval_epochs=-1.0"),
    ("schedule.restart_multiplier", 0.0, "restart_multiplier=0.0"),
    ("schedule.variant", "papr", "schedule.variant='papr'; choose one of paper, normalised"),
    ("schedule.base", 1.0, "base .*1"),
    ("loss.name", "mse", "loss.name='mse'; choose one of sigmoid_.*, softmax_cross_entropy"),
    ("loss.label_smoothing", 1.0, "loss.label_smoothing=1.0 .* below 1"),
    ("model.dropout_rate", 1.0, "model.dropout_rate=1.0 .* below 1"),
    ("model.name", "vgg16", "model.name='vgg16' .* at least 32x32 pixels, and these are 16x16"),
    ("checkpoint.every_epochs", 0, "every_epochs=0"),
    ("checkpoint.max_to_keep", 0, "max_to_keep=0"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=lambda value: str(value)[:40])
def test_what_cannot_be_used_is_named_in_one_sentence(path, value, message):
    config = digits_config()
    change(config, path, value)
    with pytest.raises(UserError, match=message) as error:
        build.build(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_is_one_flag(name):
    """Every schedule works with the quickstart's other fields, and no two are the same."""
    config = digits_config()
    config.schedule.warmup_epochs = 1.0
    rates = {}
    for other in ("constant", name):
        config.schedule.name = other
        experiment = build.build(config)
        rates[other] = np.asarray(loganneal_jax.tabulate(experiment.schedule, experiment.num_steps))
    assert np.isfinite(rates[name]).all()
    assert (name == "constant") == np.array_equal(rates[name], rates["constant"])


def test_epochs_become_steps():
    """Warmup of 1.5 epochs, decay of 2, then a restart: at 22 steps an epoch, at 33 and at 77."""
    config = digits_config()
    assert 1437 // config.batch_size == 22
    config.epochs = 4.5
    config.schedule = base.get_config().schedule
    config.schedule.update(
        init_value=0.1,
        restart_value=0.05,
        end_value=0.001,
        variant="normalised",
        warmup_epochs=1.5,
        init_decay_epochs=2.0,
        restart_interval_epochs=1.0,
    )
    experiment = build.build(config)
    assert experiment.num_steps == 99
    rates = np.asarray(loganneal_jax.tabulate(experiment.schedule, experiment.num_steps))
    assert rates.argmax() == 33
    np.testing.assert_allclose(rates[[0, 33, 76, 77, 98]], [0, 0.1, 0.001, 0.05, 0.001], rtol=1e-6)


def test_only_data_sets_whose_mirror_images_keep_their_class_are_flipped():
    """Augmentation off leaves images alone; on digits it crops, and never flips."""
    config = digits_config()
    experiment = build.build(config)
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    config.data.crop_padding = 0
    train_step, _ = build.make_steps(config, experiment, jax.numpy.float32)
    for seed in range(8):
        augmented = train_step.keywords["augment"](jax.random.key(seed), images)
        np.testing.assert_array_equal(augmented, images)
    flipping = experiment._replace(dataset=experiment.dataset._replace(flip=True))
    train_step, _ = build.make_steps(config, flipping, jax.numpy.float32)
    mirrored = [
        not np.array_equal(train_step.keywords["augment"](jax.random.key(seed), images), images)
        for seed in range(8)
    ]
    assert any(mirrored)
    config.data.augment = False
    train_step, _ = build.make_steps(config, flipping, jax.numpy.float32)
    for seed in range(8):
        augmented = train_step.keywords["augment"](jax.random.key(seed), images)
        np.testing.assert_array_equal(augmented, images)


def test_adamw_with_coupled_decay_is_refused():
    config = digits_config()
    config.optimizer.update(name="adamw", decay="coupled")
    with pytest.raises(UserError, match=r"optimizer\.decay='coupled' is adam, not adamw"):
        build.build(config)
