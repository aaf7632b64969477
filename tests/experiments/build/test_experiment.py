"""Experiments: every config builds one, and unusable values are refused in one sentence."""

import importlib
import math
import os
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

import loganneal_jax
from configs import base, quickstart
from experiments.build import experiment as build
from experiments.errors import UserError
from experiments.program.alarm import LossLimit
from tests.experiments.build.edits import assert_one_sentence, change

ROOT = Path(__file__).parents[3]
CONFIGS = sorted(
    file.stem for file in (ROOT / "configs").glob("*.py") if "def get_config" in file.read_text()
)
ARGUMENTS = {"nakamura2021": "mnist,nn2,sig+", "naveen2024": "1,resnet34,log"}


def named_config(name):
    arguments = [ARGUMENTS[name]] if name in ARGUMENTS else []
    return importlib.import_module(f"configs.{name}").get_config(*arguments)


def digits_config():
    config = quickstart.get_config()
    config.epochs = 8.0
    return config


def nested_names(config):
    return {
        name: nested_names(value) if isinstance(value, ConfigDict) else None
        for name, value in config.items()
    }


# tests/configs/test_imagenet.py builds that config on a generated data set.
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "imagenet_resnet50"])
def test_every_config_builds(name):
    config = named_config(name)
    if config.data.name not in ("digits", "markov") and "TFDS_DATA_DIR" not in os.environ:
        pytest.skip("TFDS_DATA_DIR names no prepared data sets")
    experiment = build.build(config)
    rates = loganneal_jax.tabulate(experiment.schedule, experiment.num_steps)
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    assert rates.max() > 0


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_has_exactly_the_fields_of_the_base(name):
    config = named_config(name)
    assert nested_names(config) == nested_names(base.get_config())


BAD = [
    ("epochs", -1.0, "epochs=-1.0 .* above 0"),
    ("epochs", math.nan, "epochs=nan"),
    ("epochs", math.inf, "epochs=inf"),
    ("epochs", 1e-4, "epochs=0.0001 at 22 steps per epoch is 0 steps; a run has at least 1 and at"),
    ("epochs", 1e9, "epochs=1000000000.0 at 22 steps per epoch is 22000000000 steps"),
    ("seed", -1, "seed=-1 .* at least 0"),
    ("seed", 2**32, "seed=4294967296 .* below 4294967296"),
    ("batch_size", 0, "batch_size=0 .* at least 1"),
    ("batch_size", 1438, "batch_size=1438 .* digits has 1437"),
    ("eval_batch_size", 0, "eval_batch_size=0"),
    ("log_every_steps", 0, "log_every_steps=0"),
    ("data.name", "cifar11", "data.name='cifar11' is unknown; choose from digits, .*cifar10"),
    ("data.crop_padding", 16, "crop_padding=16 .* 16x16"),
    ("data.image_size", 0, "image_size=0"),
    ("data.preprocess", ("zcaa",), "data.preprocess='zcaa' is unknown; choose from .*zca, or name"),
    ("data.preprocess", ("zca", "zca"), "data.preprocess contains 'zca' twice"),
    (
        "data.preprocess",
        ("zca", "contrast_stretching"),
        "data.preprocess must list 'contrast_stretching' first, before 'zca'",
    ),
    (
        "data.preprocess",
        ("zca", "standardize"),
        "'standardize' after 'zca', which would undo the whitening",
    ),
    ("data.validation_examples", -1, "validation_examples=-1 .* at least 0"),
    ("data.validation_examples", 1437, "leaves no training examples: digits has 1437 training"),
    ("data.zca_epsilon", 0.0, "zca_epsilon=0.0 .* above 0"),
    ("model.name", "resnet19", "model.name='resnet19' is unknown; .*resnet18, resnet34, resnet50"),
    ("model.variant", "cifr", "model.variant='cifr' is unknown; choose from cifar, imagenet$"),
    ("model.dtype", "float16", "model.dtype='float16' is unknown; choose from float32, bfloat16$"),
    ("model.width_multiplier", 0.0, "width_multiplier=0.0"),
    (
        "model.attention.name",
        "behind",
        "attention.name='behind' is unknown; choose from none, beside, before$",
    ),
    ("model.attention.num_heads", 5, "num_heads=5 does not divide model.attention.width=32"),
    ("model.attention.patch_size", 5, "patch_size=5 must divide .* 16x16"),
    (
        "optimizer.name",
        "loin",
        "optimizer.name='loin' is unknown; choose from adabelief, .*, schedule_free_sgd, sgd, or",
    ),
    (
        "optimizer.weight_decay_mode",
        "coupld",
        "weight_decay_mode='coupld' is unknown; choose from coupled, decoupled$",
    ),
    (
        "optimizer.weight_decay_mask",
        "biases",
        "weight_decay_mask='biases' is unknown; choose from all, kernels$",
    ),
    ("optimizer.clip_norm", 0.0, "clip_norm=0.0 .* above 0"),
    ("optimizer.momentum", 1.0, "momentum=1.0 .* below 1"),
    ("optimizer.weight_decay", -0.1, "weight_decay=-0.1"),
    ("schedule.name", "cosin", "schedule.name='cosin' is unknown; .*cyclical_cosine"),
    ("schedule.peak_value", -0.1, "peak_value=-0.1"),
    (
        "schedule.end_value",
        0.9,
        "schedule cyclical_log_annealing: end_value .* peak_value=0.1, got 0.9",
    ),
    (
        "schedule.warmup_epochs",
        9.0,
        "warmup_epochs=9.0 is longer than the run, epochs=8.0; set --config.schedule.warmup_epochs="
        "0.8, a tenth",
    ),
    ("schedule.init_decay_epochs", 0.0, "init_decay_epochs=0.0 .* above 0"),
    ("schedule.init_decay_epochs", 0.001, "schedule .*init_decay_steps"),
    ("schedule.restart_interval_epochs", -1.0, "restart_interval_epochs=-1.0"),
    ("schedule.restart_multiplier", 0.0, "restart_multiplier=0.0"),
    (
        "schedule.variant",
        "papr",
        "schedule.variant='papr' is unknown; choose from normalized, paper$",
    ),
    ("schedule.base", 2.0, r"schedule\.base=2\.0 has no effect here; it needs log annealing with"),
    (
        "loss.name",
        "mse",
        "loss.name='mse' is unknown; choose from sigmoid_.*, softmax_cross_entropy, or",
    ),
    ("loss.label_smoothing", 1.0, "loss.label_smoothing=1.0 .* below 1"),
    ("model.dropout_rate", 1.0, "model.dropout_rate=1.0 .* below 1"),
    ("model.name", "vgg16", "model.name='vgg16' .* at least 32x32 pixels, but they are 16x16"),
    ("checkpoint.every_epochs", 0, "every_epochs=0"),
    ("checkpoint.max_to_keep", 0, "max_to_keep=0"),
    (
        "task.name",
        "regression",
        "task.name='regression' is unknown; choose from classification, .*, or",
    ),
    ("linear_regression.dimensions", 0, "dimensions=0 is out of range; it must be at least 1"),
    ("linear_regression.exponent", -1.0, "exponent=-1.0 is out of range; it must be at least 0"),
    ("linear_regression.noise", -0.1, "noise=-0.1 is out of range; it must be at least 0"),
    ("linear_regression.noise", 0.5, r"noise=0\.5 has no .*; it needs task.name='linear_regr"),
    ("task.name", "no_such:task", "task.name='no_such:task' cannot be imported: ModuleNotFoundE"),
    ("model.name", "resnet\n18", r"model.name='resnet\\n18' is unknown; choose from nn2, nn3, "),
    ("model.name", "x" * 10**6, "model.name='x{199}... is unknown; choose from nn2, nn3, "),
    ("model.matmul_precision", "fast", "='fast' is unknown; choose from default, high, highest$"),
    ("schedule.cooldown", "cos", "='cos' is unknown; choose from linear, 1-sqrt, cosine$"),
    ("parallel.strategy", "pjit", "strategy='pjit' is unknown; choose from jit, pmap$"),
    ("data.image_size", 4096, "digits takes 30 GB as images of 4096x4096 pixels"),
    ("guard.grace_epochs", 1e8, r"guard\.grace_epochs=100000000.0 has no .* guard.loss_threshold"),
    ("epochs", 1e7, "is 220000000 steps; a run has at least 1 and at most 100000000"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD, ids=lambda value: str(value)[:40])
def test_unusable_value_is_refused_in_one_sentence(path, value, message):
    config = digits_config()
    change(config, path, value)
    with pytest.raises(UserError, match=message) as error:
        build.build(config)
    assert_one_sentence(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"optimizer.name": "adamw", "optimizer.weight_decay_mode": "coupled"},
            r"weight_decay_mode='coupled' turns adamw into adam; set optimizer\.name=adam$",
        ),
        (
            {"optimizer.name": "prodigy", "schedule.warmup_epochs": 1.0},
            r"optimizer\.name='prodigy' cannot begin with a learning rate of 0; set schedule\.warm",
        ),
        ({"schedule.variant": "paper", "schedule.base": 1.0}, r"base .*1"),
        (
            {"guard.loss_threshold": 4.5, "guard.grace_epochs": 1e8},
            r"guard\.grace_epochs=100000000.0 .* is 2200000000 steps",
        ),
        (
            {"schedule.name": "cosine", "schedule.end_value": 0.2},
            r"schedule cosine: end_value must not be above peak_value=0\.1, got 0\.2",
        ),
    ],
)
def test_contradicting_fields_are_refused_in_one_sentence(changes, message):
    config = digits_config()
    for path, value in changes.items():
        change(config, path, value)
    with pytest.raises(UserError, match=message) as error:
        build.build(config)
    assert_one_sentence(error.value)


def test_experiment_holds_the_values_that_a_run_needs():
    config = digits_config()
    assert build.build(config).steps_per_epoch == 22  # 1,437 images in batches of 64
    config.epochs = 4.5
    config.seed = 3
    config.log_every_steps = 7
    config.batch_size = 96
    config.eval_batch_size = 120
    config.optimizer.weight_decay = 0.25
    config.parallel.update(strategy="pmap", accumulate_steps=2)
    config.guard.update(loss_threshold=4.5, grace_epochs=1.5, max_rollbacks=2, peak_factor=0.25)
    config.guard.extra_warmup_epochs = 0.5
    config.checkpoint.update(every_epochs=3, max_to_keep=4)
    experiment = build.build(config)
    assert experiment.batches == (1437, 96, 120)
    assert (experiment.steps_per_epoch, experiment.num_steps) == (14, 63)
    assert (experiment.seed, experiment.log_every_steps) == (3, 7)
    assert experiment.weight_decay == 0.25
    assert (experiment.strategy, experiment.accumulate_steps) == ("pmap", 2)
    assert experiment.guard == (LossLimit(4.5, 21), 2, 0.25, 0.5)
    assert experiment.checkpoints == (3, 4, False)
    assert (experiment.task.data, experiment.task.model) == ("digits", "resnet10 (width 0.25)")
    assert experiment.task.num_train == 1437


def test_experiment_stores_its_config_as_plain_values():
    config = digits_config()
    config.schedule.end_value = 0.01 * config.schedule.get_oneway_ref("peak_value")
    config.schedule.peak_value = 0.5
    stored = build.build(config).config
    assert nested_names(ConfigDict(stored)) == nested_names(config)
    assert stored["schedule"]["end_value"] == pytest.approx(0.005)
    assert stored["data"]["preprocess"] == ["standardize"]
    change(config, "epochs", 1.0)
    assert stored["epochs"] == 8.0


def test_with_schedule_rebuilds_the_schedule_and_keeps_everything_else():
    experiment = build.build(digits_config())
    warmer = build.with_schedule(experiment, {"peak_value": 0.05, "warmup_epochs": 1.0})
    before, after = (
        np.asarray(loganneal_jax.tabulate(each.schedule, each.num_steps))
        for each in (experiment, warmer)
    )
    assert (before.argmax(), after.argmax()) == (0, 22)
    np.testing.assert_allclose([before.max(), after.max()], [0.1, 0.05], rtol=1e-6)
    assert warmer.config["schedule"]["peak_value"] == 0.05
    assert experiment.config["schedule"]["peak_value"] == 0.1
    for name in ("task", "make_optimizer", "batches", "guard", "checkpoints"):
        assert getattr(warmer, name) is getattr(experiment, name)
    unchanged = {"config": None, "schedule": None}
    assert {**vars(warmer), **unchanged} == {**vars(experiment), **unchanged}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peak_value": 1e-4}, r"end_value must not be above peak_value=0\.0001"),
        ({"peak_value": -0.1}, r"^schedule\.peak_value=-0\.1 is out of range; it must be at least"),
        (
            {"warmup_epochs": 8.5},
            r"^schedule\.warmup_epochs=8\.5 is longer than the run, epochs=8\.0; set --config\.sch",
        ),
    ],
)
def test_with_schedule_refuses_unusable_values(changes, message):
    experiment = build.build(digits_config())
    with pytest.raises(UserError, match=message) as error:
        build.with_schedule(experiment, changes)
    assert_one_sentence(error.value)


def test_optimizer_of_an_experiment_follows_its_schedule():
    config = digits_config()
    config.optimizer.update(momentum=0.0, weight_decay=0.0)
    experiment = build.build(config)
    params = {"kernel": np.ones(2, np.float32)}
    state = experiment.optimizer.init(params)
    for step in range(3):
        updates, state = experiment.optimizer.update(params, state, params)
        np.testing.assert_allclose(updates["kernel"], -experiment.schedule(step), rtol=1e-6)
