"""GANs built from a config: what is refused, and the same updates on any number of devices."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base, gan_cifar10, gan_mnist
from experiments.build import gan
from experiments.build.experiment import build
from experiments.errors import UserError
from experiments.models.cpu.convolution import conv_general_dilated
from experiments.program import assemble, parallel
from experiments.program.state import key_data
from tests.experiments.build.edits import assert_one_sentence

SMALL = {
    **{"task.name": "gan", "data.name": "digits", "model.name": "dcgan", "epochs": 1.0},
    **{"model.width_multiplier": 0.05, "gan.latent_size": 8, "eval_batch_size": 96},
    **{"batch_size": 32, "schedule.peak_value": 0.01, "optimizer.momentum": 0.0},
}


def small_experiment(**fields):
    config = base.get_config()
    config.update_from_flattened_dict({**SMALL, **fields})
    return build(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model.name": "resnet18"}, r"^model\.name='resnet18' is unknown; choose from dcgan"),
        ({"data.image_size": 10}, r"^model\.name='dcgan' .* digits are 10x10; set data\.image_si"),
        ({"gan.discriminator_steps": 0}, r"^gan\.discriminator_steps=0 is out of range; it must"),
        ({"gan.discriminator_steps": 3}, r"^batch_size=32 cannot be divided into gan\.discrimina"),
        ({"gan.loss": "least_squares"}, r"^gan\.loss='least_squares' is unknown; choose from non"),
        ({"gan.upsampling": "nearest"}, r"^gan\.upsampling='nearest' is unknown; choose from pix"),
        (
            {"optimizer.name": "schedule_free_sgd", "gan.generator_rate": 0.5},
            r"^optimizer\.name='schedule_free_sgd' follows the schedule by itself, so gan\.disc",
        ),
        ({"parallel.accumulate_steps": 2}, r"^parallel\.accumulate_steps=2 has no effect with ta"),
        ({"gan.gradient_penalty": 1.0}, r"^gan\.gradient_penalty=1\.0 has no effect .*wasserstein"),
        ({"task.name": "classification"}, r"^model\.name='dcgan' is unknown"),
    ],
)
def test_bad_config_is_one_sentence(fields, message):
    with pytest.raises(UserError, match=message) as error:
        small_experiment(**fields)
    assert_one_sentence(error.value)


@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="needs prepared data sets")
@pytest.mark.parametrize("config", [gan_mnist, gan_cifar10])
def test_configs_can_be_built(config):
    assert build(config.get_config()).task.objective == "frechet_distance"


def test_penalized_discriminator_has_no_batch_norm_and_the_native_convolution(monkeypatch):
    """The project's convolution defines its first derivative alone."""
    passed = {}
    monkeypatch.setitem(
        gan.GANS,
        "dcgan",
        lambda config, shape, *layers: (
            passed.update(zip("gd", layers, strict=True)) or gan._dcgan(config, shape, *layers)
        ),
    )
    small_experiment()
    assert passed["g"]._replace(dtype=None)[:2] == passed["d"]
    small_experiment(**{"gan.loss": "wasserstein"})
    assert passed["d"].norm is None
    assert "conv_general_dilated" not in passed["d"].conv.keywords
    assert passed["g"].conv.keywords["conv_general_dilated"] is conv_general_dilated
    small_experiment(**{"gan.spectral_norm": True})
    assert passed["d"].norm is None


def initial_state(experiment):
    """Returns the initial state, which no strategy changes."""
    strategy = parallel.make_strategy(experiment.strategy, jax.devices()[:1])
    programs = assemble.compiled(
        experiment.task, experiment.optimizer, experiment.batches, strategy
    )
    return jax.device_get(programs.init(key_data(0)))


def trained(experiment, initial, devices, num_steps=3):
    """Trains a few steps and evaluates, on a number of devices."""
    strategy = parallel.make_strategy(experiment.strategy, jax.devices()[:devices])
    data = experiment.task.load()
    programs = assemble.compiled(
        experiment.task, experiment.optimizer, experiment.batches, strategy
    )
    train, test = (parallel.to_devices(split, strategy.replicated) for split in data)
    # Training donates its state.
    state = jax.device_put(jax.tree.map(jnp.copy, initial), strategy.replicated)
    count = parallel.count(num_steps, strategy.replicated)
    state, metrics, _ = programs.train(state, train, programs.order(state), count)
    evaluated = programs.evaluate(state, test)
    pictures = programs.pictures(state)["samples"]
    params, metrics, evaluated, pictures = jax.device_get(
        (state.params, metrics, evaluated, pictures)
    )
    return params, metrics.compute(), evaluated.compute(), pictures


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {
            **{"gan.loss": "wasserstein", "gan.upsampling": "transposed"},
            **{"gan.spectral_norm": True, "gan.discriminator_steps": 2},
        },
    ],
)
def test_two_devices_make_the_updates_of_one(fields):
    """SGD, because Adam turns rounding errors of small gradients into large updates."""
    initial = initial_state(small_experiment(**fields))
    one, *others = (
        trained(
            small_experiment(**fields, **{"parallel.strategy": strategy, **more}), initial, devices
        )
        for strategy, devices, more in (
            ("jit", 1, {}),
            ("jit", 2, {}),
            ("pmap", 2, {"parallel.sync_batch_norm": True}),
        )
    )
    for other in others:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5), one[0], other[0]
        )
        for mine, theirs in zip(one[1:3], other[1:3], strict=True):
            for name, value in mine.items():
                np.testing.assert_allclose(value, theirs[name], rtol=1e-3, atol=1e-4)
        assert np.abs(one[3].astype(int) - other[3]).max() <= 1
