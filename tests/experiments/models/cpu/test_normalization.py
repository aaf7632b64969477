"""Compares batch norm of bfloat16 images with Linen's, in float32."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.models.cpu.normalization import BatchNorm
from tests.experiments.models.cpu.test_half import relative_rms

KEYS = jax.random.split(jax.random.key(0), 5)
VARIABLES = {
    "params": {"scale": jnp.linspace(0.5, 2, 8), "bias": jnp.linspace(-1, 1, 8)},
    "batch_stats": {"mean": jnp.ones(8), "var": jnp.full(8, 2.0)},
}


def outcome(norm, x, weights, *, train=True):
    """Returns the result, the new statistics, and gradients through both."""

    def total(params, x):
        variables = {**VARIABLES, "params": params}
        y, changed = norm.apply(
            variables, x, use_running_average=not train, mutable=["batch_stats"]
        )
        statistics = changed["batch_stats"]
        of_statistics = statistics["mean"] @ jnp.arange(8.0) + statistics["var"] @ jnp.ones(8)
        return (y.astype(jnp.float32) * weights).sum() + 50 * of_statistics, (y, statistics)

    gradients, (y, statistics) = jax.grad(total, argnums=(0, 1), has_aux=True)(
        VARIABLES["params"], x
    )
    return {"y": y, "statistics": statistics, "gradients": gradients}


def test_result_statistics_and_gradients_equal_linen():
    x = (3 * jax.random.normal(KEYS[0], (4, 6, 6, 8)) + 1).astype(jnp.bfloat16)
    weights = jax.random.normal(KEYS[1], x.shape).astype(jnp.bfloat16).astype(jnp.float32)
    settings = {"momentum": 0.9, "epsilon": 1e-3}
    exact = outcome(nn.BatchNorm(**settings), x.astype(jnp.float32), weights)
    actual = jax.jit(lambda *a: outcome(BatchNorm(dtype=jnp.bfloat16, **settings), *a))(x, weights)
    assert jax.tree.structure(actual) == jax.tree.structure(exact)
    for name, limit in (("y", 2e-3), ("statistics", 1e-6), ("gradients", 2e-3)):
        for a, e in zip(*map(jax.tree.leaves, (actual[name], exact[name])), strict=True):
            assert relative_rms(a, e) < limit
    # Parameters and their gradients are never rounded to bfloat16.
    for a, e in zip(
        *(jax.tree.leaves(each["gradients"][0]) for each in (actual, exact)), strict=True
    ):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-3)


def test_evaluation_and_float32_are_those_of_linen():
    x = jax.random.normal(KEYS[2], (4, 6, 6, 8))
    for dtype, train in ((jnp.bfloat16, False), (jnp.float32, True)):
        images = x.astype(dtype)
        ours, linen = (
            outcome(norm(momentum=0.9, dtype=dtype), images, x, train=train)
            for norm in (BatchNorm, nn.BatchNorm)
        )
        jax.tree.map(np.testing.assert_array_equal, ours, linen)
