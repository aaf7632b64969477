"""Averages of the weights equal those of all weights of a run, computed by other code."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.models.layers import cumulative_batch_norm
from experiments.program import assemble, averaging, parallel
from experiments.program.averaging import OFF, Averaging
from experiments.program.weights import to_evaluate
from tests.experiments.program.test_assemble import BATCHES, LINEAR, OPTIMIZER, POINTS
from tests.experiments.program.test_parallel import experiment_of

STEPS_PER_EPOCH = BATCHES.steps_per_epoch
ALL = Averaging(ema_decay=0.5, swa_start_epoch=2, cycle_ends=(4, 7))


@functools.cache
def history(averaging, strategy="jit", optimizer=OPTIMIZER):
    """Returns the state after each of 12 steps, 3 of which make an epoch."""
    strategy = parallel.make_strategy(strategy, jax.devices()[:1])
    programs = assemble.compiled(LINEAR, optimizer, BATCHES, strategy, averaging=averaging)
    train = parallel.to_devices(POINTS, strategy.replicated)
    states = [programs.init(np.array([0, 1], np.uint32))]
    host = [jax.device_get(states[0].replace(key=None))]
    for step in range(12):
        state = states.pop()
        order = programs.order(state)
        one = parallel.count(1, strategy.replicated)
        state, *_ = programs.train(state, train, order, one)
        states.append(state)
        host.append(jax.device_get(state.replace(key=None)))
        assert int(host[-1].step) == step + 1
    return host


def test_averages_are_those_of_the_weights_of_every_step():
    states = history(ALL)
    weights = np.array([state.params for state in states], np.float64)
    ema = weights[0]
    for step in range(1, 13):
        decay = min(0.5, (1 + step) / (10 + step))
        ema = decay * ema + (1 - decay) * weights[step]
        of_step = states[step].averages
        np.testing.assert_allclose(of_step["ema"]["params"], ema, rtol=1e-6)
        ends = [end for end in (6, 9, 12) if end <= step]
        mean = weights[ends].mean(axis=0) if ends else weights[0]
        np.testing.assert_allclose(of_step["swa"]["params"], mean, rtol=1e-6)
        last = max([end for end in (4, 7) if end <= step], default=0)
        np.testing.assert_array_equal(of_step["snapshot"]["params"], states[last].params)


def test_averages_do_not_change_training():
    for with_averages, without in zip(history(ALL), history(OFF), strict=True):
        np.testing.assert_array_equal(with_averages.params, without.params)
        assert without.averages == {}


def test_pmap_keeps_the_same_averages():
    ours, theirs = history(ALL, "pmap")[-1], history(ALL)[-1]
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5), ours.averages, theirs.averages
    )


def test_averages_of_a_schedule_free_optimizer_are_of_the_weights_that_are_evaluated():
    optimizer = optax.contrib.schedule_free_sgd(0.1, b1=0.75)
    states = history(Averaging(ema_decay=0.5), optimizer=optimizer)
    ema = np.asarray(states[0].params)
    for step, state in enumerate(states[1:], 1):
        decay = min(0.5, (1 + step) / (10 + step))
        ema = decay * ema + (1 - decay) * np.asarray(to_evaluate(state).params)
    np.testing.assert_allclose(states[-1].averages["ema"]["params"], ema, rtol=1e-5)
    programs = assemble.pure(LINEAR, optimizer, BATCHES)
    points = jax.tree.map(jnp.asarray, POINTS)
    metrics = averaging.evaluate(
        ["ema"], states[-1], points, points, evaluate=programs.evaluate, statistics=None
    )
    loss = np.square(POINTS["x"] @ ema - POINTS["y"]).mean()
    found = metrics["test_ema"].loss
    np.testing.assert_allclose(float(found.total) / float(found.count), loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("step", "names"),
    [
        (1, ["ema"]),
        (4, ["ema", "snapshot"]),
        (5, ["ema", "snapshot"]),
        (6, ["ema", "swa", "snapshot"]),
    ],
)
def test_an_average_is_evaluated_from_its_first_weights_on(step, names):
    assert ALL.names_after(step, STEPS_PER_EPOCH) == names
    assert OFF.names_after(step, STEPS_PER_EPOCH) == []


@pytest.mark.parametrize(
    ("rates", "ends"),
    [
        ([1.0, 0.5, 0.1, 1.0, 0.5, 0.1], (3,)),
        ([1.0, 0.5, 0.1, 1.0, 0.5, 0.1, 1.0], (3, 6)),
        ([0.0, 0.5, 1.0, 0.5, 0.1], ()),  # a warmup is no cycle
        ([0.2, 0.2, 1.0, 0.1, 0.1, 0.5, 1.0, 0.5], (5,)),
        ([0.5, 0.5 - 1e-7, 0.5, 0.4], ()),
        ([0.1, 0.1, 0.1], ()),
    ],
)
def test_a_cycle_ends_where_the_rate_has_fallen_and_rises(rates, ends):
    assert averaging.find_cycle_ends(np.array(rates, np.float32)) == ends


def test_cumulative_batch_norm_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    batches = rng.normal(3.0, 5.0, size=(4, 64, 3)).astype(np.float32)
    peer = torch.nn.BatchNorm1d(3, momentum=None)
    model = nn.BatchNorm(momentum=0.9, use_running_average=False)
    variables = model.init(jax.random.key(0), batches[0])
    variables["batch_stats"]["mean"] += 100.0  # the statistics before the first batch are forgotten
    for index, batch in enumerate(batches):
        peer(torch.from_numpy(batch))
        with cumulative_batch_norm(jnp.asarray(index)):
            _, changed = model.apply(variables, batch, mutable=["batch_stats"])
        variables = {**variables, **changed}
    stats = variables["batch_stats"]
    np.testing.assert_allclose(stats["mean"], peer.running_mean.numpy(), rtol=1e-4)
    # PyTorch divides by the number of examples less one.
    np.testing.assert_allclose(stats["var"] * 64 / 63, peer.running_var.numpy(), rtol=1e-4)


@pytest.mark.parametrize("strategy", ["jit", "pmap"])
def test_statistics_are_those_of_the_averaged_weights_over_the_training_split(strategy):
    """The first layer shows it: the statistics of its two batches do not depend on others."""
    experiment = experiment_of(strategy=strategy, sync=strategy == "pmap", augment=False)
    batches = experiment.batches._replace(num_train=64)
    strategy = parallel.make_strategy(strategy, jax.devices()[:2])
    programs = assemble.compiled(experiment.task, experiment.optimizer, batches, strategy)
    data = experiment.task.load()
    train = {name: array[:64] for name, array in data.train.items()}
    state = programs.init(np.array([0, 1], np.uint32))
    order = np.asarray(programs.order(state))
    on_devices = parallel.to_devices(train, strategy.replicated)
    found = jax.device_get(programs.statistics(state, on_devices))
    kernel = state.params["backbone"]["Conv_0"]["kernel"]
    images = (train["image"].astype(np.float32) - data.train["image"].mean()) / data.train[
        "image"
    ].std()
    features = np.asarray(
        nn.Conv(4, (3, 3), padding=1, use_bias=False).apply(
            {"params": {"kernel": np.asarray(kernel)}}, images[order]
        )
    )
    halves = features.reshape(2, 32, *features.shape[1:])
    first = found["backbone"]["BatchNorm_0"]
    np.testing.assert_allclose(first["mean"], halves.mean(axis=(0, 1, 2, 3)), atol=1e-4)
    np.testing.assert_allclose(first["var"], halves.var(axis=(1, 2, 3)).mean(axis=0), rtol=1e-3)
