"""Tests that Keras trains with our values, and saves our schedules with its models."""

import functools
import json

import numpy as np
import optax
import pytest

import loganneal_jax as la
from loganneal_jax import shapes
from loganneal_jax.bridges import to_keras

keras = pytest.importorskip("keras")


def network(schedule):
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(to_keras(schedule)), "mse")
    return model


# Keras passes its variables to NumPy in a way that NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_keras_trains_with_the_schedule_and_saves_it_with_the_model(tmp_path):
    # At a target of w - 1/2, the gradient of the squared error of w is 1.
    schedule = la.from_values([0.5, 0.25, 0.125])
    model = network(schedule)
    weights = []
    for _ in range(3):
        weight = sum(float(part.value[()].sum()) for part in model.trainable_variables)
        model.train_on_batch(np.ones((1, 1)), np.full((1, 1), weight - 0.5))
        weights.append(weight)
    np.testing.assert_allclose(np.diff(weights), [-0.5, -0.25], rtol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.optimizer._learning_rate.schedule == schedule
    assert float(loaded.optimizer.learning_rate) == 0.125


SAVED = [
    la.cyclical_log_annealing_schedule(0.1, 0.001, init_decay_steps=10, restart_interval=5),
    la.with_warmup(la.trapezoid_schedule(0.1, 0.0, 40, warmup_steps=5, cooldown_steps=9), 3),
    la.chain_schedules([la.rex_schedule(0.1, 0.0, 10), la.from_values([0.1, 0.2])], [10]),
    la.staircase_schedule(0.1, boundaries=[3, 7]),
    la.restarts(shapes.cosine, 0.1, 0.0, restart_interval=7),
    la.anneal(functools.partial(shapes.polynomial, power=2.0), 0.1, 0.0, 10),
    la.anneal(functools.partial(shapes.k_decay, shape=shapes.linear, k=2.0), 0.1, 0.0, 10),
    la.multiply_schedules(la.rex_schedule(0.1, 0.0, 10), la.rex_schedule(1.0, 0.0, 20)),
]


@pytest.mark.parametrize("schedule", SAVED, ids=repr)
def test_schedule_survives_the_json_of_keras(schedule):
    serialize = keras.optimizers.schedules.serialize
    config = json.loads(json.dumps(serialize(to_keras(schedule))))
    assert keras.optimizers.schedules.deserialize(config).schedule == schedule


def test_foreign_functions_train_but_cannot_be_saved():
    schedule = to_keras(la.with_warmup(optax.constant_schedule(0.1), 4))
    assert float(schedule(4)) == np.float32(0.1)
    with pytest.raises(TypeError, match="cannot be saved"):
        schedule.get_config()
    with pytest.raises(TypeError, match="must be a schedule of loganneal_jax"):
        to_keras(optax.constant_schedule(0.1))


@pytest.mark.parametrize(
    "config",
    [
        {"factory": "tabulate", "arguments": {}},
        {"factory": "no_such_schedule", "arguments": {}},
        {"shape": "jax"},
        {"shape": "_log_period_ratio"},
    ],
)
def test_config_cannot_name_anything_but_schedules_and_shapes(config):
    from loganneal_jax import keras_schedule

    with pytest.raises(ValueError, match="is not a "):
        keras_schedule.from_json(config)
