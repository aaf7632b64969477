"""Every cell of both papers builds at full width, and every data set and model can be learned."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import loganneal_jax
from configs import nakamura2021, naveen2024
from experiments.build.experiment import build
from experiments.build.optimizers import optimizer_maker
from experiments.build.schedules import Run, make_schedule
from experiments.data import datasets, preprocess
from tests.experiments.models.networks import use_few_blocks

# As in tensorflow-datasets; table 1 of nakamura2021 counts CIFAR's test split as training.
DATASETS = {
    "mnist": (60_000, 10_000, (28, 28, 1), 10),
    "fashion_mnist": (60_000, 10_000, (28, 28, 1), 10),
    "svhn_cropped": (73_257, 26_032, (32, 32, 3), 10),
    "cifar10": (50_000, 10_000, (32, 32, 3), 10),
    "cifar100": (50_000, 10_000, (32, 32, 3), 100),
}
NAKAMURA_PAIRS = [(data, model) for data, models in nakamura2021.MODELS.items() for model in models]
NAVEEN_PAIRS = [
    (experiment, model) for experiment, models in naveen2024.BACKBONES.items() for model in models
]
assert len(NAKAMURA_PAIRS) * len(nakamura2021.METHODS) == 276  # cells of tables 2 and 3
NAVEEN = [",".join([*pair, name]) for pair in NAVEEN_PAIRS for name in naveen2024.SCHEDULES]


def with_deep_ones_slow(pairs):
    """Marks the pairs with deep networks as slow tests, because tracing them takes seconds."""
    return [
        pytest.param(pair, marks=[pytest.mark.slow] if pair[1] in nakamura2021.DEEP else [])
        for pair in pairs
    ]


@pytest.fixture
def described(monkeypatch):
    """Describes data sets that need not be prepared, because their arrays are never loaded."""

    def describe(name, *, data_dir, image_size):
        return datasets.DatasetInfo(name, *DATASETS[name], datasets.FLIPS[name], builder=None)

    def prepare(dataset, *args, **options):
        return dataset, lambda images: images / 64.0 - 2.0

    monkeypatch.setattr(datasets, "describe", describe)
    monkeypatch.setattr(datasets, "load", lambda info: None)
    monkeypatch.setattr(preprocess, "prepare", prepare)


PARAMETERS = {}  # shapes by network and data set, traced once for all methods


def parameters_of(experiment):
    key = json.dumps([experiment.task.data, experiment.config["model"]])
    if key not in PARAMETERS:
        PARAMETERS[key] = jax.eval_shape(
            lambda key: experiment.task.init(key, experiment.optimizer), jax.random.key(0)
        ).params
    return PARAMETERS[key]


def build_cell(config):
    experiment = build(config)
    params = parameters_of(experiment)
    state = jax.eval_shape(experiment.optimizer.init, params)
    updates, _ = jax.eval_shape(experiment.optimizer.update, params, state, params)
    assert updates == params
    num_train, _, _, num_classes = DATASETS[config.data.name]
    assert params["head"]["kernel"].shape[1] == num_classes
    assert experiment.task.num_train == num_train
    rates = np.asarray(loganneal_jax.tabulate(experiment.schedule, experiment.num_steps))
    assert np.isfinite(rates).all()
    assert (rates > 0).all()
    return experiment, rates


@pytest.mark.parametrize("pair", with_deep_ones_slow(NAKAMURA_PAIRS), ids=",".join)
def test_every_cell_of_nakamura2021_builds(described, pair):
    rates = {}
    for method in nakamura2021.METHODS:
        config = nakamura2021.get_config(",".join([*pair, method]))
        experiment, rates[method] = build_cell(config)
        assert experiment.num_steps == 100 * (DATASETS[pair[0]][0] // 128)
    for method in nakamura2021.CONSTANT:
        np.testing.assert_allclose(rates[method], float(method), rtol=1e-6)
    adaptive = 1e-3 if pair[1] in nakamura2021.SHALLOW else 1e-4
    for method in nakamura2021.ADAPTIVE:
        np.testing.assert_allclose(rates[method], adaptive, rtol=1e-6)
    for method in nakamura2021.SCHEDULED:
        np.testing.assert_allclose(rates[method].max(), 0.1, rtol=0.01)
        np.testing.assert_allclose(rates[method][-1], 0.001, rtol=0.7)
    for method in ("trap", "str+", "sig+"):
        np.testing.assert_allclose(rates[method][0], 0.01, rtol=1e-6)
        assert rates[method].argmax() == pytest.approx(0.1 * len(rates[method]), abs=1)


@pytest.mark.slow
@pytest.mark.parametrize("cell", NAVEEN)
def test_every_cell_of_naveen2024_builds(described, cell):
    config = naveen2024.get_config(cell)
    experiment, rates = build_cell(config)
    per_epoch = experiment.steps_per_epoch
    name = cell.split(",")[2]
    if name == "none":
        assert np.ptp(rates) == 0
    elif cell.startswith("1,") and name in ("log", "cosine"):
        restarts = np.flatnonzero(np.diff(rates) > 0.05) + 1
        np.testing.assert_array_equal(restarts, np.array([15, 25, 45]) * per_epoch)
        np.testing.assert_allclose(rates[0], 0.0001, rtol=1e-5)
    elif name in ("log", "cosine"):
        restarts = np.flatnonzero(np.diff(rates) > 0.0003) + 1
        np.testing.assert_array_equal(restarts, np.array([10, 20, 30]) * per_epoch)
    else:
        assert len(np.unique(rates)) == 3


@pytest.mark.parametrize(
    ("get_config", "cell", "message"),
    [
        (naveen2024.get_config, "1", "'1' is not experiment,backbone,schedule"),
        (
            naveen2024.get_config,
            "",
            "choose the first two from 1,{resnet34}; 2,{resnet50,.* log, c",
        ),
        (nakamura2021.get_config, "", "choose the first two from mnist,{nn2,.*sig+"),
        (naveen2024.get_config, "3,resnet50,log", "unknown experiment '3'; choose one of 1, 2"),
        (naveen2024.get_config, "1,vgg16,log", "unknown backbone 'vgg16'; choose one of resnet34"),
        (naveen2024.get_config, "2,vgg16,exp", "unknown schedule 'exp'; choose one of log, cosine"),
        (nakamura2021.get_config, "mnist", "'mnist' is not data set,model,method"),
        (nakamura2021.get_config, "digits,nn2,exp", "unknown data set 'digits'; choose .* mnist"),
        (nakamura2021.get_config, "mnist,vgg19,exp", "unknown model 'vgg19'; choose one of nn2"),
        (nakamura2021.get_config, "mnist,nn2,cos", r"unknown method 'cos'; choose one of 0\.1"),
    ],
)
def test_unknown_cell_is_refused(get_config, cell, message):
    with pytest.raises(ValueError, match=message):
        get_config(cell)


def test_shorter_run_has_a_shorter_warmup(described):
    config = nakamura2021.get_config("mnist,nn2,sig+")
    config.epochs = 20.0
    experiment = build(config)
    rates = loganneal_jax.tabulate(experiment.schedule, experiment.num_steps)
    assert int(rates.argmax()) == 2 * experiment.steps_per_epoch


def learnable(name, examples):
    """Returns images with a pattern for each class and noise, and their labels."""
    rng = np.random.default_rng(0)
    _, _, shape, num_classes = DATASETS[name]
    labels = rng.integers(0, num_classes, examples)
    patterns = rng.uniform(0, 255, (num_classes, *shape))
    images = 0.7 * patterns[labels] + 0.3 * rng.uniform(0, 255, (examples, *shape))
    return {"image": jnp.asarray(images, jnp.uint8), "label": jnp.asarray(labels, jnp.int32)}


LOSSES = {}  # by all that determines them; data sets of the same shape have the same patterns


def losses_of_a_few_steps(config):
    """Returns the losses of 12 steps on one batch of 8, at an eighth of the width."""
    config.model.width_multiplier = 1 / 8
    config.model.dropout_rate = 0.0
    changed = ["data.augment", "model.name", "model.attention.name", "schedule.name"]
    experiment = build(config, changed)
    key = json.dumps([DATASETS[config.data.name][2:], {**experiment.config, "data": None}])
    if key not in LOSSES:
        LOSSES[key] = train(experiment.task, config)
    return LOSSES[key]


def train(task, config):
    schedule = make_schedule(config.schedule, Run(steps_per_epoch=12, num_steps=12))
    optimizer = optimizer_maker(config.optimizer)(schedule, 5e-4)
    batch = learnable(task.data, 8)
    state = jax.jit(lambda key: task.init(key, optimizer))(jax.random.key(0))
    train_step = jax.jit(lambda state, batch: task.train_step(state, batch, optimizer))
    losses = []
    for _ in range(12):
        state, metrics = train_step(state, batch)
        losses.append(float(metrics.compute()["loss"]))
    assert np.isfinite(losses).all()
    return losses


def constant(config, rate):
    config.schedule.name = "constant"
    config.schedule.peak_value = rate
    config.data.augment = False
    return config


@pytest.mark.slow
@pytest.mark.parametrize("pair", NAKAMURA_PAIRS, ids=",".join)
def test_every_pair_of_nakamura2021_learns(described, monkeypatch, pair):
    use_few_blocks(monkeypatch)
    config = constant(nakamura2021.get_config(",".join([*pair, "0.01"])), 0.03)
    losses = losses_of_a_few_steps(config)
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])


@pytest.mark.slow
@pytest.mark.parametrize("pair", NAVEEN_PAIRS, ids=",".join)
def test_every_pair_of_naveen2024_learns(described, monkeypatch, pair):
    use_few_blocks(monkeypatch)
    rate = {"1": 0.1, "2": 0.003}[pair[0]]  # sgd and adam
    config = constant(naveen2024.get_config(",".join([*pair, "none"])), rate)
    config.model.attention.width = 32
    config.model.attention.mlp_width = 64
    losses = losses_of_a_few_steps(config)
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
