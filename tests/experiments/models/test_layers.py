"""Checks what every network shares: the injected layers and the classifier's head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.models import layers, resnet
from tests.experiments.models.networks import (
    KEY,
    dtypes,
    injected,
    random_values,
    random_variables,
    shapes_of,
)


def narrow(dtype=jnp.float32):
    network = resnet.ResNet10(width_multiplier=1 / 32, **injected(dtype))
    return layers.Classifier(network, num_classes=10)


def test_bfloat16_keeps_parameters_and_logits_in_float32():
    variables = random_variables(narrow(), (8, 8, 3))
    assert dtypes(shapes_of(narrow(jnp.bfloat16), (8, 8, 3))) == {"float32"}
    images = random_values(4, 8, 8, 3)
    evaluate = jax.jit(lambda model: model.apply(variables, images, train=False), static_argnums=0)
    logits, exact = evaluate(narrow(jnp.bfloat16)), evaluate(narrow())
    assert logits.dtype == jnp.float32
    assert not np.array_equal(logits, exact)
    np.testing.assert_allclose(logits, exact, atol=0.05)


@pytest.mark.parametrize("width", [1.0, 1 / 32])
def test_conv_is_initialized_by_fan_out(width):
    variables = layers.Conv(layers.scaled(256, width), (3, 3)).init(KEY, jnp.zeros((1, 4, 4, 512)))
    kernel = variables["params"]["kernel"]
    np.testing.assert_allclose(kernel.std(), (2 / (9 * kernel.shape[-1])) ** 0.5, rtol=0.02)


def test_network_uses_the_injected_layers():
    """A group norm without running statistics takes the place of every batch norm."""

    def norm(use_running_average, name=None, **options):
        return nn.GroupNorm(num_groups=1, name=name, **options)

    variables = shapes_of(resnet.ResNet10(width_multiplier=1 / 32, norm=norm), (8, 8, 3))
    assert variables.keys() == {"params"}
    assert variables["params"]["stem_norm"].keys() == {"scale", "bias"}
