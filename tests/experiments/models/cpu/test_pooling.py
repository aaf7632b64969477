"""Compares max pooling and its gradient with Linen's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.models.cpu.pooling import max_pool_2x2


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (2, 5, 7, 1)])
def test_max_pool_and_its_gradient_equal_linen(shape):
    random = np.random.default_rng(0)
    images = random.standard_normal(shape).astype(np.float32)

    def linen(x):
        return nn.max_pool(x, (2, 2), (2, 2))

    weights = random.standard_normal(jax.eval_shape(linen, images).shape).astype(np.float32)

    def results(pool):
        return pool(images), jax.grad(lambda x: jnp.sum(weights * pool(x)))(images)

    actual, expected = jax.jit(lambda: (results(max_pool_2x2), results(linen)))()
    np.testing.assert_array_equal(actual[0], expected[0])
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-6)


def test_tied_maxima_share_the_gradient():
    gradient = jax.jit(jax.grad(lambda x: max_pool_2x2(x).sum()))(
        np.float32([[[[1], [3]], [[3], [0]]]])
    )
    np.testing.assert_array_equal(np.ravel(gradient), [0.0, 0.5, 0.5, 0.0])
