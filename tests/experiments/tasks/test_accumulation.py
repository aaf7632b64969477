"""Accumulated gradients: the mean over micro-batches, each with its own examples and key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clu import metrics as clu_metrics
from flax import struct

from experiments.tasks.accumulation import accumulate


@struct.dataclass
class Metrics(clu_metrics.Collection):
    loss: clu_metrics.Average.from_output("loss")


PARAMS = {"w": jnp.zeros(3)}
BATCH = {"x": jnp.arange(12.0), "y": jnp.arange(24.0).reshape(12, 2)}


def run(accumulate_steps, gradients_of, key=0):
    return accumulate(
        gradients_of,
        accumulate_steps,
        params=PARAMS,
        batch_stats={"seen": jnp.zeros(()), "last": jnp.zeros(())},
        key=jax.random.key(key),
        batch=BATCH,
        no_metrics=Metrics.empty(),
    )


def gradients_of(batch_stats, key, batch):
    """Gradients, statistics, and metrics from which the examples of a micro-batch can be read."""
    x = batch["x"]
    stats = {"seen": batch_stats["seen"] + len(x), "last": x[-1]}
    gradients = {"w": jnp.stack([x.mean(), (x**2).mean(), batch["y"].mean()])}
    return gradients, stats, Metrics.single_from_model_output(loss=2.0**x)


@pytest.mark.parametrize("accumulate_steps", [1, 2, 3, 12])
def test_mean_over_micro_batches_equals_the_whole_batch(accumulate_steps):
    gradients, stats, metrics = run(accumulate_steps, gradients_of)
    np.testing.assert_allclose(gradients["w"], [5.5, 506 / 12, 11.5], rtol=1e-6)
    assert stats["seen"] == 12
    # The sum of distinct powers of two shows that each example counts exactly once.
    assert float(metrics.loss.total) == 2**12 - 1
    assert float(metrics.loss.count) == 12


@pytest.mark.parametrize("accumulate_steps", [2, 3, 4])
def test_micro_batch_has_every_kth_example(accumulate_steps):
    """So each device, which holds a contiguous part of the batch, has part of every micro-batch."""

    def first_example(batch_stats, key, batch):
        x = batch["x"]
        np.testing.assert_equal(x.shape, (12 // accumulate_steps,))
        spread = (jnp.diff(x) == accumulate_steps).all()
        aligned = (batch["y"][:, 0] == 2 * x).all()
        stats = {"seen": batch_stats["seen"] + (spread & aligned).astype(jnp.float32), "last": x[0]}
        return PARAMS, stats, Metrics.single_from_model_output(loss=x)

    _, stats, _ = run(accumulate_steps, first_example)
    assert stats == {"seen": accumulate_steps, "last": accumulate_steps - 1}


def test_each_micro_batch_has_its_own_key():
    def noise(batch_stats, key, batch):
        draw = jax.random.normal(key)
        gradients = {"w": jnp.array([draw, draw**2, 0.0])}
        return gradients, batch_stats, Metrics.single_from_model_output(loss=batch["x"])

    mean, mean_of_squares, _ = run(4, noise)[0]["w"]
    keys = jax.random.split(jax.random.key(0), 4)
    expected = np.array([jax.random.normal(key) for key in keys])
    assert len(set(expected.tolist())) == 4
    np.testing.assert_allclose(mean, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(mean_of_squares, (expected**2).mean(), rtol=1e-5)
    assert run(4, noise, key=1)[0]["w"][0] != mean
