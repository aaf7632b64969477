"""Compares max pooling and its gradient with Linen's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.models.cpu.pooling import max_pool_2x2


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (2, 5, 7, 1)])
def test_max_pool_and_its_gradient_equal_linen(shape):
    images = jax.random.normal(jax.random.key(0), shape)

    def linen(x):
        return nn.max_pool(x, (2, 2), (2, 2))

    weights = jax.random.normal(jax.random.key(1), linen(images).shape)
    np.testing.assert_array_equal(max_pool_2x2(images), linen(images))
    actual, expected = (
        jax.grad(lambda x, pool=pool: jnp.sum(weights * pool(x)))(images)
        for pool in (max_pool_2x2, linen)
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_tied_maxima_share_the_gradient():
    gradient = jax.grad(lambda x: max_pool_2x2(x).sum())(
        jnp.array([[[[1.0], [3.0]], [[3.0], [0.0]]]])
    )
    np.testing.assert_array_equal(gradient.ravel(), [0.0, 0.5, 0.5, 0.0])
