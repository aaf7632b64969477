"""Strategies: however many devices share a step, it makes the updates of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import quickstart
from experiments.build.experiment import build
from experiments.data import datasets, preprocess
from experiments.errors import UserError
from experiments.program import assemble, parallel
from experiments.program.steps import make_evaluate
from experiments.tasks.classification import Metrics
from tests.experiments.models import two_convolutions

STEPS = 5


def experiment_of(
    *, strategy="jit", sync=False, pieces=1, model=two_convolutions.NAME, augment=True
):
    config = quickstart.get_config()
    config.batch_size = 32
    config.eval_batch_size = 104
    config.data.image_size = 8
    config.data.augment = augment
    if augment:
        config.data.crop_padding = 2
    config.model.name = model
    if model == "nn2":
        config.model.width_multiplier = 0.06
    config.model.attention.name = "none"
    config.parallel.update(strategy=strategy, sync_batch_norm=sync, accumulate_steps=pieces)
    return build(config, ["model.attention.name", "data.augment"])


def programs_of(experiment, devices):
    strategy = parallel.make_strategy(experiment.strategy, jax.devices()[:devices])
    programs = assemble.compiled(
        experiment.task, experiment.optimizer, experiment.batches, strategy
    )
    return strategy, programs


def key_data(seed=0):
    return np.asarray(jax.random.key_data(jax.random.key(seed)))


@functools.cache
def initialized(model):
    """Returns the initial state, which no strategy changes; see test_assemble.py."""
    _, programs = programs_of(experiment_of(model=model), 1)
    return jax.device_get(programs.init(key_data()))


@functools.cache
def shared_programs(devices, **changes):
    """Returns programs whose order and evaluation do not depend on the micro-batches."""
    return programs_of(experiment_of(**changes), devices)[1]


@functools.cache
def trained(*, devices=8, pieces=1, **changes):
    """Returns parameter updates, batch statistics, and metrics after five steps on real images."""
    experiment = experiment_of(pieces=pieces, **changes)
    strategy, programs = programs_of(experiment, devices)
    shared = shared_programs(devices, **changes)
    data = experiment.task.load()
    train, test = (parallel.to_devices(split, strategy.replicated) for split in data)
    initial = initialized(changes.get("model", two_convolutions.NAME))
    # Training donates its state.
    state = jax.device_put(jax.tree.map(jnp.copy, initial), strategy.replicated)
    state, metrics, alarm = programs.train(state, train, shared.order(state), STEPS)
    test_metrics = shared.evaluate(state, test)
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state))
    assert bool(alarm.finite)
    updates = jax.tree.map(np.subtract, jax.device_get(state.params), initial.params)
    return updates, jax.device_get(state.batch_stats), [*sums(metrics), *sums(test_metrics)]


def sums(metrics):
    """Returns the sum and the count of each metric."""
    averages = metrics.loss, metrics.accuracy
    return [float(part) for each in averages for part in (each.total, each.count)]


def norm(tree):
    """Returns the Euclidean norm of all values; NumPy compiles nothing for their shapes."""
    return np.sqrt(sum(np.square(leaf, dtype=np.float64).sum() for leaf in jax.tree.leaves(tree)))


def distance(tree, other):
    """Returns the distance of two trees, relative to the norm of the second."""
    return norm(jax.tree.map(np.subtract, tree, other)) / norm(other)


@pytest.mark.parametrize("pieces", [1, 2])
def test_all_strategies_make_the_same_updates(pieces):
    alone, alone_stats, alone_metrics = trained(pieces=pieces, devices=1)
    for changes in (
        {"strategy": "jit"},
        {"strategy": "jit", "devices": 4},
        {"strategy": "pmap", "sync": True},
        {"strategy": "pmap", "sync": True, "devices": 4},
    ):
        updates, stats, metrics = trained(pieces=pieces, **changes)
        assert distance(updates, alone) < 1e-5, changes
        assert distance(stats, alone_stats) < 1e-5, changes
        assert metrics == pytest.approx(alone_metrics, rel=1e-5), changes


def test_unsynchronized_pmap_differs_only_with_batch_norm():
    alone, _, alone_metrics = trained(model="nn2", devices=1)
    updates, _, metrics = trained(model="nn2", strategy="pmap")
    assert distance(updates, alone) < 1e-5
    assert metrics == pytest.approx(alone_metrics, rel=1e-5)
    with_norms, *_ = trained(strategy="pmap")
    synchronized, *_ = trained(pieces=1, strategy="pmap", sync=True)
    assert distance(with_norms, synchronized) > 0.01


@pytest.fixture
def float_images(monkeypatch):
    """Lets a task take float images as they are, and load no data."""
    monkeypatch.setattr(datasets, "load", lambda info: None)
    monkeypatch.setattr(
        preprocess, "prepare", lambda dataset, *args, **options: (dataset, preprocess.as_float32)
    )


@functools.cache
def step_functions(strategy, pieces):
    """Returns the compiled initialization and step of a network, without augmentation."""
    experiment = experiment_of(strategy=strategy, pieces=pieces, augment=False)
    task, optimizer = experiment.task, experiment.optimizer

    def train_step(state, batch):
        return task.train_step(state, batch, optimizer)

    init = jax.jit(lambda key: task.init(key, optimizer))
    if strategy == "jit":
        return init, jax.jit(train_step)
    across = jax.pmap(train_step, axis_name=parallel.AXIS, in_axes=(None, 0), out_axes=None)
    return init, lambda state, batch: across(
        state, jax.tree.map(lambda leaf: leaf.reshape(8, -1, *leaf.shape[1:]), batch)
    )


def one_step(state, batch, *, strategy="jit", pieces=1):
    """Makes one step, from the initial state if there is none; returns the states around it."""
    init, train_step = step_functions(strategy, pieces)
    if state is None:
        state = init(jax.random.key(0))
    return state, train_step(state, batch)


@pytest.mark.usefixtures("float_images")
def test_unsynchronized_pmap_normalizes_each_share_by_itself():
    """The gradient is the mean over eight small batches, and nothing else changes."""
    images = np.random.default_rng(0).normal(size=(32, 8, 8, 1)).astype(np.float32)
    batch = {"image": images, "label": np.arange(32, dtype=np.int32) % 10}
    before, (mapped, mapped_metrics) = one_step(None, batch, strategy="pmap")
    # A micro-batch takes every eighth example, so that it sees the same examples as a device.
    in_turn = jax.tree.map(
        lambda leaf: np.moveaxis(leaf.reshape(8, 4, *leaf.shape[1:]), 0, 1), batch
    )
    in_turn = jax.tree.map(lambda leaf: leaf.reshape(32, *leaf.shape[2:]), in_turn)
    _, (accumulated, accumulated_metrics) = one_step(before, in_turn, pieces=8)
    update = jax.tree.map(np.subtract, mapped.params, before.params)
    expected = jax.tree.map(np.subtract, accumulated.params, before.params)
    assert distance(update, expected) < 1e-5
    assert sums(mapped_metrics) == pytest.approx(sums(accumulated_metrics), rel=1e-5)
    alone = [
        one_step(before, jax.tree.map(lambda leaf, i=i: leaf[4 * i : 4 * i + 4], batch))[1][0]
        for i in range(8)
    ]
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *(s.batch_stats for s in alone))
    assert distance(mapped.batch_stats, mean) < 1e-5


@pytest.mark.parametrize("name", parallel.STRATEGIES)
@pytest.mark.parametrize("batch_size", [8, 16, 24, 104])
def test_evaluation_counts_every_example_once(name, batch_size):
    """No batch size divides the 23 examples; their losses are powers of two, so sums are exact."""
    labels = np.arange(23, dtype=np.int32)
    strategy = parallel.make_strategy(name, jax.devices())

    def eval_step(state, batch):
        metrics = Metrics.single_from_model_output(
            loss=2.0 ** batch["label"].astype(jnp.float32),
            logits=jax.nn.one_hot(batch["image"].ravel(), 23),
            labels=batch["label"],
            mask=batch["mask"],
        )
        return jax.lax.psum(metrics, parallel.AXIS) if name == "pmap" else metrics

    split = {"image": labels.astype(np.uint8).reshape(-1, 1, 1, 1), "label": labels}
    evaluate = make_evaluate(eval_step, Metrics.empty, batch_size=batch_size, share=strategy.share)
    metrics = strategy.compile(evaluate, donate=False)(
        jnp.zeros(()), parallel.to_devices(split, strategy.replicated)
    )
    assert float(metrics.loss.total) == 2**23 - 1
    assert int(metrics.accuracy.count) == 23
    assert metrics.compute()["accuracy"] == 1


@pytest.mark.usefixtures("float_images")
@pytest.mark.parametrize("pieces", [1, 2])
def test_devices_exchange_gradients_and_sums_but_no_images(pieces):
    experiment = experiment_of(model="nn2", pieces=pieces)
    strategy, programs = programs_of(experiment, 8)
    split = {
        "image": jax.ShapeDtypeStruct((1437, 8, 8, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((1437,), jnp.int32),
    }
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=strategy.replicated),
        (
            jax.eval_shape(programs.init, key_data()),
            split,
            jax.ShapeDtypeStruct((1437,), jnp.int32),
        ),
    )
    program = programs.train.lower(*shapes, 3).compile().as_text()
    assert "all-reduce" in program
    for collective in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert collective not in program


@pytest.mark.parametrize(
    ("batch_size", "pieces", "devices", "message"),
    [
        (100, 1, 8, "batch_size=100 cannot be divided among 8 devices; it must be a multiple of 8"),
        (96, 5, 8, "among 8 devices in 5 micro-batches each .*; it must be a multiple of 40"),
        (4, 1, 8, "batch_size=4 cannot be divided among 8 devices"),
    ],
)
def test_batch_that_the_devices_cannot_share_is_refused(batch_size, pieces, devices, message):
    with pytest.raises(UserError, match=message):
        parallel.check_batch_size(batch_size, accumulate_steps=pieces, num_devices=devices)
    parallel.check_batch_size(pieces * devices, accumulate_steps=pieces, num_devices=devices)


def test_every_device_holds_the_whole_split():
    split = {"x": np.arange(10.0), "y": np.arange(20).reshape(10, 2)}
    strategy = parallel.make_strategy("jit", jax.devices())
    on_devices = parallel.to_devices(split, strategy.replicated)
    for name, array in split.items():
        assert on_devices[name].is_fully_replicated
        assert len(on_devices[name].addressable_shards) == 8
        np.testing.assert_array_equal(on_devices[name], array)
    shapes = parallel.shapes_of(split)
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in shapes.items()} == {
        "x": ((10,), np.float64),
        "y": ((10, 2), np.int64),
    }


def test_only_a_cpu_has_options_of_its_own():
    assert parallel.compiler_options("cpu") == parallel.CPU_OPTIONS
    for bfloat16 in (False, True):
        for platform in ("gpu", "tpu"):
            assert parallel.compiler_options(platform, bfloat16=bfloat16) == {}
