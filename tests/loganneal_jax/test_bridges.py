"""Tests that PyTorch trains with our values, and that optax states yield the learning rate."""

import io
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loganneal_jax as la
from loganneal_jax.bridges import learning_rate_of, to_torch

SCHEDULE = la.linear_decay_schedule(0.1, 0.0, 10)
PARAMS = {"w": jnp.ones(3), "v": jnp.ones(2)}


def updated(optimizer, num_updates, gradients=PARAMS):
    """Returns the state of an optimizer after some updates."""
    state = optimizer.init(PARAMS)
    for _ in range(num_updates):
        _, state = optimizer.update(gradients, state, PARAMS)
    return state


@pytest.mark.parametrize(
    ("optimizer", "num_updates", "step"),
    [
        (optax.sgd(SCHEDULE), 3, 3),
        (optax.adam(SCHEDULE), 0, 0),
        (optax.chain(optax.clip(1.0), optax.adamw(SCHEDULE)), 3, 3),
        (optax.MultiSteps(optax.adam(SCHEDULE), every_k_schedule=4), 9, 2),
        (optax.multi_transform(
            {"a": optax.sgd(SCHEDULE), "b": optax.adam(SCHEDULE)}, {"w": "a", "v": "b"}
        ), 3, 3),
        (optax.inject_hyperparams(optax.adam)(learning_rate=SCHEDULE), 3, 3),
    ],
)  # fmt: skip
def test_learning_rate_is_that_of_the_next_update(optimizer, num_updates, step):
    state = updated(optimizer, num_updates)
    assert learning_rate_of(state, SCHEDULE) == SCHEDULE(step)
    assert jax.jit(lambda s: learning_rate_of(s, SCHEDULE))(state) == SCHEDULE(step)


def test_learning_rate_equals_the_one_that_sgd_applies():
    optimizer = optax.MultiSteps(optax.sgd(SCHEDULE), every_k_schedule=2)
    state = optimizer.init(PARAMS)
    for _ in range(10):
        rate = learning_rate_of(state, SCHEDULE)
        updates, state = optimizer.update(PARAMS, state, PARAMS)
        if optimizer.has_updated(state):
            np.testing.assert_allclose(updates["w"], -rate, rtol=1e-6)


def test_learning_rate_skips_updates_that_are_not_finite():
    optimizer = optax.apply_if_finite(optax.adam(SCHEDULE), max_consecutive_errors=5)
    state = updated(optimizer, 3)
    nan = jax.tree.map(lambda leaf: leaf * jnp.nan, PARAMS)
    _, state = optimizer.update(nan, state, PARAMS)
    assert learning_rate_of(state, SCHEDULE) == SCHEDULE(3)


def test_learning_rate_of_mapped_states_has_one_value_per_state():
    optimizer = optax.adam(SCHEDULE)
    states = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *[updated(optimizer, n) for n in (1, 4, 20)]
    )
    np.testing.assert_array_equal(learning_rate_of(states, SCHEDULE), SCHEDULE([1, 4, 20]))


def test_learning_rate_of_nnx_optimizer():
    nnx = pytest.importorskip("flax.nnx")
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adamw(SCHEDULE), wrt=nnx.Param)
    gradients = nnx.grad(lambda m: (m(jnp.ones((1, 2))) ** 2).sum())(model)
    optimizer.update(model, gradients)
    assert learning_rate_of(optimizer.opt_state, SCHEDULE) == SCHEDULE(1)


def test_state_without_a_schedule_raises_and_lists_its_counts():
    with pytest.raises(ValueError, match=r"no count of a schedule.*opt_state\[0\]\.count"):
        learning_rate_of(optax.adam(0.1).init(PARAMS), SCHEDULE)
    with pytest.raises(ValueError, match="no count of a schedule"):
        learning_rate_of(optax.sgd(0.1).init(PARAMS), SCHEDULE)


def test_counts_that_differ_raise_outside_and_are_nan_inside_a_trace():
    states = (updated(optax.sgd(SCHEDULE), 1), updated(optax.sgd(SCHEDULE), 2))
    with pytest.raises(ValueError, match=r"opt_state\[0\]\[1\]\.count=1 and opt_state\[1\]"):
        learning_rate_of(states, SCHEDULE)
    assert jnp.isnan(jax.jit(lambda s: learning_rate_of(s, SCHEDULE))(states))
    assert learning_rate_of(states[1], SCHEDULE) == SCHEDULE(2)


def test_torch_function_returns_floats_and_can_be_pickled():
    factor = to_torch(SCHEDULE, base_value=0.1)
    values = [factor(step) for step in range(12)]
    assert all(type(value) is float for value in values)
    np.testing.assert_allclose(values, np.maximum(1 - np.arange(12) / 10, 0), rtol=1e-6)
    copy = pickle.loads(pickle.dumps(factor))
    assert [copy(step) for step in range(12)] == values
    with pytest.raises(ValueError, match="base_value must be above 0"):
        to_torch(SCHEDULE, base_value=0.0)
    with pytest.raises(TypeError, match="schedule must be a function"):
        to_torch(0.1)


@pytest.mark.parametrize("lr", [1.0, 0.05])
def test_lambda_lr_follows_the_schedule_and_its_state_loads_safely(lr):
    torch = pytest.importorskip("torch")

    def build():
        sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
        return sgd, torch.optim.lr_scheduler.LambdaLR(sgd, to_torch(SCHEDULE, base_value=lr))

    sgd, scheduler = build()
    for step in range(12):
        np.testing.assert_allclose(sgd.param_groups[0]["lr"], float(SCHEDULE(step)), rtol=1e-12)
        sgd.step()
        scheduler.step()
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    _, restored = build()
    restored.load_state_dict(torch.load(file, weights_only=True))
    restored.step()
    assert restored.get_last_lr() == [float(SCHEDULE(13))]


def test_library_imports_neither_keras_nor_pytorch():
    script = (
        "import sys, loganneal_jax, loganneal_jax.bridges, loganneal_jax.registry\n"
        "peers = {'keras', 'torch', 'tensorflow', 'flax'} & set(sys.modules)\n"
        "assert not peers, peers"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
