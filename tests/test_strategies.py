"""However devices share a step, it is the same step: eight of them make the updates of one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs import quickstart
from experiments import build, parallel, step
from experiments.errors import UserError

STEPS = 5


def config_of(*, strategy="jit", sync=False, pieces=1, model="resnet10", devices=8):
    config = quickstart.get_config()
    config.batch_size = 32
    config.data.image_size = 8
    config.data.augment = True
    config.data.crop_padding = 2
    config.model.name = model
    config.model.width_multiplier = 0.06
    config.model.attention.name = "none"
    config.parallel.update(strategy=strategy, sync_batch_norm=sync, accumulate_steps=pieces)
    return config


def trained(*, devices=8, **how):
    """Updates of the parameters, batch statistics and metrics after five steps on real images."""
    config = config_of(**how)
    experiment = build.build(config)
    dataset, normalize = build.load(config, experiment)
    strategy = parallel.make_strategy(config.parallel, jax.devices()[:devices])
    train_step, eval_step = build.make_steps(config, experiment, normalize)
    train_steps = parallel.training(
        train_step,
        batch_size=config.batch_size,
        steps_per_epoch=experiment.steps_per_epoch,
        share=strategy.share,
    )
    evaluate = parallel.evaluation(eval_step, batch_size=104, share=strategy.share)
    init = partial(
        step.init_state,
        model=experiment.model,
        optimizer=experiment.optimizer,
        image_shape=experiment.dataset.image_shape,
    )
    state = jax.jit(init, out_shardings=strategy.sharding)(jax.random.key(0))
    before = jax.device_get(state.params)
    train_split, test_split = parallel.to_device(dataset, strategy.sharding)
    draw = parallel.ordering(
        num_examples=experiment.dataset.num_train, steps_per_epoch=experiment.steps_per_epoch
    )
    order = strategy.compile(draw, donate=False)(state)
    state, metrics, alarm = strategy.compile(train_steps, donate=True)(
        state, train_split, order, STEPS
    )
    test_metrics = strategy.compile(evaluate, donate=False)(state, test_split)
    assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(state))
    assert bool(alarm.finite)
    updates = jax.tree.map(np.subtract, jax.device_get(state.params), before)
    return updates, jax.device_get(state.batch_stats), [*sums(metrics), *sums(test_metrics)]


def sums(metrics):
    """What is summed over examples, and how many these are."""
    averages = metrics.loss, metrics.accuracy
    return [float(part) for each in averages for part in (each.total, each.count)]


def distance(tree, other):
    """Of two trees, relative to the second."""
    difference = jax.tree.map(np.subtract, tree, other)
    return float(optax.tree.norm(difference) / optax.tree.norm(other))


@pytest.mark.parametrize("pieces", [1, 2])
def test_all_make_the_same_updates(pieces):
    alone, alone_stats, alone_metrics = trained(pieces=pieces, devices=1)
    for how in (
        {"strategy": "jit"},
        {"strategy": "jit", "devices": 4},
        {"strategy": "pmap", "sync": True},
        {"strategy": "pmap", "sync": True, "devices": 4},
    ):
        updates, stats, metrics = trained(pieces=pieces, **how)
        assert distance(updates, alone) < 1e-5, how
        assert distance(stats, alone_stats) < 1e-5, how
        assert metrics == pytest.approx(alone_metrics, rel=1e-5), how


def test_pmap_unsynchronised_is_the_same_where_there_is_no_batch_norm():
    alone, _, alone_metrics = trained(model="nn2", devices=1)
    updates, _, metrics = trained(model="nn2", strategy="pmap")
    assert distance(updates, alone) < 1e-5
    assert metrics == pytest.approx(alone_metrics, rel=1e-5)
    with_norms, *_ = trained(strategy="pmap")
    synchronised, *_ = trained(strategy="pmap", sync=True)
    assert distance(with_norms, synchronised) > 0.01


def one_step(state, batch, *, strategy="jit", pieces=1):
    """A step of a ResNet on images that are not augmented."""
    config = config_of(strategy=strategy, pieces=pieces)
    config.data.augment = False
    experiment = build.build(config)
    train_step, _ = build.make_steps(config, experiment, lambda images: images)
    if state is None:
        state = jax.jit(
            partial(
                step.init_state,
                model=experiment.model,
                optimizer=experiment.optimizer,
                image_shape=batch["image"].shape[1:],
            )
        )(jax.random.key(0))
    if strategy == "jit":
        return state, jax.jit(train_step)(state, batch)
    shares = jax.tree.map(lambda leaf: leaf.reshape(8, -1, *leaf.shape[1:]), batch)
    across = jax.pmap(train_step, axis_name=parallel.AXIS, in_axes=(None, 0), out_axes=None)
    return state, across(state, shares)


def test_pmap_unsynchronised_normalises_each_share_by_itself():
    """The gradient is the mean of those of eight small batches, and no more is different."""
    images = jax.random.normal(jax.random.key(1), (32, 8, 8, 1))
    batch = {"image": images, "label": jnp.arange(32) % 10}
    before, (mapped, mapped_metrics) = one_step(None, batch, strategy="pmap")
    # A batch in pieces takes every eighth example for one, so that it sees the same small batches.
    in_turn = jax.tree.map(
        lambda leaf: jnp.moveaxis(leaf.reshape(8, 4, *leaf.shape[1:]), 0, 1), batch
    )
    in_turn = jax.tree.map(lambda leaf: leaf.reshape(32, *leaf.shape[2:]), in_turn)
    _, (pieced, pieced_metrics) = one_step(before, in_turn, pieces=8)
    update = jax.tree.map(np.subtract, mapped.params, before.params)
    expected = jax.tree.map(np.subtract, pieced.params, before.params)
    assert distance(update, expected) < 1e-5
    assert sums(mapped_metrics) == pytest.approx(sums(pieced_metrics), rel=1e-5)
    alone = [
        one_step(before, jax.tree.map(lambda leaf, i=i: leaf[4 * i : 4 * i + 4], batch))[1][0]
        for i in range(8)
    ]
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *(s.batch_stats for s in alone))
    assert distance(mapped.batch_stats, mean) < 1e-5


@pytest.mark.parametrize("strategy", ["jit", "pmap"])
@pytest.mark.parametrize("batch_size", [8, 16, 24, 104])
def test_evaluation_counts_every_example_exactly_once(strategy, batch_size):
    """Of 23 examples, which no batch divides; the sum of their losses, powers of two, is exact."""
    labels = np.arange(23, dtype=np.int32)
    config = ConfigDict({"strategy": strategy})
    how = parallel.make_strategy(config, jax.devices())

    def eval_step(state, batch):
        metrics = step.Metrics.single_from_model_output(
            loss=2.0 ** batch["label"],
            logits=jax.nn.one_hot(batch["image"].ravel(), 23),
            labels=batch["label"],
            mask=batch["mask"],
        )
        return jax.lax.psum(metrics, parallel.AXIS) if strategy == "pmap" else metrics

    split = parallel.Split(labels.astype(np.uint8).reshape(-1, 1, 1, 1), labels)
    evaluate = parallel.evaluation(eval_step, batch_size=batch_size, share=how.share)
    metrics = how.compile(evaluate, donate=False)(
        jnp.zeros(()), jax.device_put(split, how.sharding)
    )
    assert float(metrics.loss.total) == 2**23 - 1
    assert int(metrics.accuracy.count) == 23
    assert metrics.compute()["accuracy"] == 1


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_batch_lies_in_shares_and_no_image_travels(pieces):
    """The devices exchange gradients and sums, never activations or images."""
    config = config_of(model="nn2", pieces=pieces)
    experiment = build.build(config)
    strategy = parallel.make_strategy(config.parallel, jax.devices())
    train_step, _ = build.make_steps(config, experiment, lambda images: images / 255.0)
    train_steps = parallel.training(
        train_step, batch_size=32, steps_per_epoch=44, share=strategy.share
    )
    init = partial(
        step.init_state,
        model=experiment.model,
        optimizer=experiment.optimizer,
        image_shape=(8, 8, 1),
    )
    state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=strategy.sharding),
        jax.eval_shape(init, jax.random.key(0)),
    )
    split = parallel.Split(
        jax.ShapeDtypeStruct((1437, 8, 8, 1), jnp.uint8, sharding=strategy.sharding),
        jax.ShapeDtypeStruct((1437,), jnp.int32, sharding=strategy.sharding),
    )
    order = jax.ShapeDtypeStruct((1437,), jnp.int32, sharding=strategy.sharding)
    compiled = strategy.compile(train_steps, donate=True).lower(state, split, order, 3).compile()
    program = compiled.as_text()
    assert "all-reduce" in program
    for collective in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert collective not in program


@pytest.mark.parametrize(
    ("batch_size", "pieces", "devices", "message"),
    [
        (100, 1, 8, "batch_size=100 cannot be divided among 8 devices; it must be a multiple of 8"),
        (96, 5, 8, "among 8 devices, each in 5 pieces .*; it must be a multiple of 40"),
        (4, 1, 8, "batch_size=4 cannot be divided among 8 devices"),
    ],
)
def test_a_batch_that_the_devices_do_not_divide_is_refused(batch_size, pieces, devices, message):
    config = config_of(pieces=pieces)
    config.batch_size = batch_size
    with pytest.raises(UserError, match=message):
        parallel.check_batch_size(config, devices)
    config.batch_size = pieces * devices
    parallel.check_batch_size(config, devices)
