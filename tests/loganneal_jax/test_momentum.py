"""Tests of the one-cycle momentum: it is low exactly where the learning rate is high."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loganneal_jax as la
from loganneal_jax.momentum import one_cycle_momentum_schedule


@pytest.mark.parametrize("anneal_strategy", ["cosine", "linear"])
@pytest.mark.parametrize(("pct_start", "pct_final"), [(0.3, None), (0.25, 0.5), (0.0, None)])
def test_momentum_mirrors_the_learning_rate(anneal_strategy, pct_start, pct_final):
    shared = {"pct_start": pct_start, "pct_final": pct_final, "anneal_strategy": anneal_strategy}
    # With final_div_factor=1, the learning rate returns to its initial value, as the momentum does.
    rates = la.one_cycle_schedule(1.0, 40, div_factor=2.0, final_div_factor=1.0, **shared)
    momentum = one_cycle_momentum_schedule(0.95, 0.85, 40, **shared)
    height = (np.asarray(la.tabulate(rates, 50)) - 0.5) / 0.5
    np.testing.assert_allclose(la.tabulate(momentum, 50), 0.95 - 0.1 * height, rtol=1e-6)


def test_momentum_is_exact_at_its_ends():
    momentum = one_cycle_momentum_schedule(0.95, 0.85, 1000, pct_start=0.3)
    np.testing.assert_array_equal(
        momentum(np.array([0, 300, 1000, 2**31 - 1])), np.float32([0.95, 0.85, 0.95, 0.95])
    )


def test_momentum_runs_in_sgd():
    optimizer = optax.inject_hyperparams(optax.sgd)(
        learning_rate=la.one_cycle_schedule(0.1, 10),
        momentum=one_cycle_momentum_schedule(0.95, 0.85, 10),
    )
    params = {"w": jnp.ones(2)}
    state = optimizer.init(params)
    for _ in range(4):
        _, state = optimizer.update(params, state, params)
    assert state.hyperparams["momentum"] == np.float32(0.85)  # that of the last update, step 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pct_start": 1.0}, "pct_start must be below 1"),
        ({"pct_start": -0.1}, "pct_start must be at least 0"),
        ({"pct_start": 0.5, "pct_final": 0.5}, "pct_final must be above pct_start"),
        ({"pct_final": 1.5}, "pct_final must be at most 1"),
        ({"anneal_strategy": "cos"}, "cosine, linear"),
    ],
)
def test_value_outside_its_range_raises(options, message):
    with pytest.raises(ValueError, match=message):
        one_cycle_momentum_schedule(0.95, 0.85, 40, **options)
    with pytest.raises(ValueError, match="min_momentum must not be above max_momentum"):
        one_cycle_momentum_schedule(0.85, 0.95, 40)
