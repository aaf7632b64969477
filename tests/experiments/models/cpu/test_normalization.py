"""Compares batch norm of bfloat16 images with Linen's, in float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from experiments.models.cpu.normalization import BatchNorm
from tests.experiments.models.cpu.test_half import relative_rms

VARIABLES = {
    "params": {
        "scale": np.linspace(0.5, 2, 8, dtype=np.float32),
        "bias": np.linspace(-1, 1, 8, dtype=np.float32),
    },
    "batch_stats": {"mean": np.ones(8, np.float32), "var": np.full(8, 2, np.float32)},
}


def random_values(seed):
    return np.random.default_rng(seed).standard_normal((4, 6, 6, 8)).astype(np.float32)


def outcome(norm, x, weights, *, train=True):
    """Returns the result, the new statistics, and gradients through both."""

    def total(params, x):
        variables = {**VARIABLES, "params": params}
        y, changed = norm.apply(
            variables, x, use_running_average=not train, mutable=["batch_stats"]
        )
        statistics = changed["batch_stats"]
        of_statistics = statistics["mean"] @ np.arange(8, dtype=np.float32)
        of_statistics += statistics["var"].sum()
        return (y.astype(jnp.float32) * weights).sum() + 50 * of_statistics, (y, statistics)

    gradients, (y, statistics) = jax.grad(total, argnums=(0, 1), has_aux=True)(
        VARIABLES["params"], x
    )
    return {"y": y, "statistics": statistics, "gradients": gradients}


def test_result_statistics_and_gradients_equal_linen():
    x = (3 * random_values(0) + 1).astype(jnp.bfloat16)
    weights = random_values(1).astype(jnp.bfloat16).astype(np.float32)
    settings = {"momentum": 0.9, "epsilon": 1e-3}
    exact, actual = (
        jax.jit(partial(outcome, norm))(images, weights)
        for norm, images in (
            (nn.BatchNorm(**settings), x.astype(np.float32)),
            (BatchNorm(dtype=jnp.bfloat16, **settings), x),
        )
    )
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
    x = random_values(2)
    for dtype, train in ((jnp.bfloat16, False), (jnp.float32, True)):
        images = x.astype(dtype)
        ours, linen = (
            jax.jit(partial(outcome, norm(momentum=0.9, dtype=dtype), train=train))(images, x)
            for norm in (BatchNorm, nn.BatchNorm)
        )
        jax.tree.map(np.testing.assert_array_equal, ours, linen)
