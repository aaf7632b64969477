"""Tests of the decays: equality with their formulas, optax, and PyTorch."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loganneal_jax as la
from tests.loganneal_jax import peers
from tests.loganneal_jax.peers import END, PEAK, Comparison

COMPARISONS = {
    "linear": Comparison(
        la.linear_decay_schedule(PEAK, END, 100),
        lambda step: PEAK + (END - PEAK) * np.minimum(step / 100, 1),
        200,
        optax.linear_schedule(PEAK, END, 100),
        lambda lr, sgd: lr.LinearLR(sgd, 1.0, END / PEAK, 100),
    ),
    "exponential": Comparison(
        la.exponential_decay_schedule(PEAK, END, 100),
        lambda step: PEAK * (END / PEAK) ** (step / 100),
        101,
        optax.exponential_decay(PEAK, 100, END / PEAK, end_value=END),
        lambda lr, sgd: lr.ExponentialLR(sgd, (END / PEAK) ** (1 / 100)),
    ),
    "staircase": Comparison(
        la.staircase_schedule(PEAK, boundaries=[30, 60], decay_rate=0.1),
        lambda step: PEAK * 0.1 ** ((step >= 30).astype(float) + (step >= 60)),
        100,
        optax.piecewise_constant_schedule(PEAK, {30: 0.1, 60: 0.1}),
        lambda lr, sgd: lr.MultiStepLR(sgd, [30, 60], 0.1),
    ),
}


@pytest.mark.parametrize(("name", "peer"), peers.pairs(COMPARISONS))
def test_schedule_matches_peer(name, peer):
    peers.assert_matches(COMPARISONS[name], peer)


def test_exponential_decay_holds_its_end_where_pytorch_continues_to_decay():
    exponential = COMPARISONS["exponential"]
    theirs = peers.pytorch_values(exponential.from_pytorch, 201)
    np.testing.assert_allclose(theirs[[150, 200]], [1e-4, 1e-5], rtol=1e-9)
    assert (exponential.ours(jnp.array([150, 200])) == np.float32(END)).all()


def test_inverse_sqrt_matches_published_formula():
    step = np.arange(1, 5000)
    ours = la.inverse_sqrt_schedule(0.1, warmup_steps=400)(jnp.asarray(step))
    expected = 0.1 * np.sqrt(400) * np.minimum(step**-0.5, step * 400**-1.5)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
