"""Evaluation uses the averages of a schedule-free optimizer, and training does not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import contrib

from experiments.program import assemble, parallel
from experiments.program.weights import to_evaluate
from tests.experiments.program import test_assemble as linear


def test_evaluation_uses_the_mean_of_all_steps_of_schedule_free_sgd():
    """With a constant rate, it is the mean of the sequence z (Defazio et al. 2024, eq. 3 to 5)."""
    strategy = parallel.make_strategy("jit", jax.devices()[:1])
    optimizer = optax.chain(
        optax.clip_by_global_norm(1e6), contrib.schedule_free_sgd(lambda count: 0.1, b1=0.75)
    )
    programs = assemble.compiled(linear.LINEAR, optimizer, linear.BATCHES, strategy)
    points = parallel.to_devices(linear.POINTS, strategy.replicated)
    state = programs.init(linear.key_data())
    order = np.asarray(programs.order(state))
    z = mean = np.asarray(state.params, np.float64)
    x, y = (linear.POINTS[name].astype(np.float64) for name in ("x", "y"))
    for step in range(3):
        batch = order[16 * step : 16 * step + 16]
        at = 0.25 * z + 0.75 * mean
        z = z - 0.1 * 2 * x[batch].T @ (x[batch] @ at - y[batch]) / 16
        mean = mean + (z - mean) / (step + 1)
    state, _, _ = programs.train(state, points, order, 3)
    np.testing.assert_allclose(state.params, 0.25 * z + 0.75 * mean, rtol=1e-5)
    loss = programs.evaluate(state, points).loss
    evaluated = float(loss.total) / float(loss.count)
    np.testing.assert_allclose(evaluated, np.mean((x @ mean - y) ** 2), rtol=1e-5)
    last = np.mean((x @ np.asarray(state.params, np.float64) - y) ** 2)
    assert abs(evaluated - last) > 0.001


def test_each_network_of_a_task_has_its_own_average():
    params = {"one": jnp.ones(2), "two": jnp.ones(2), "mean": jnp.zeros(2)}
    optimizers = {"one": contrib.schedule_free_sgd(0.1), "two": optax.sgd(0.1)}
    opt_state = {}
    for name, optimizer in optimizers.items():
        for _ in range(3):
            updates, opt_state[name] = optimizer.update(
                jnp.ones(2), opt_state.get(name, optimizer.init(params[name])), params[name]
            )
            params[name] = optax.apply_updates(params[name], updates)
    state = linear.init(jax.random.key(0), optax.sgd(0.1))
    state = to_evaluate(state.replace(params=params, opt_state=opt_state))
    np.testing.assert_allclose(state.params["one"], 1 - 0.1 * np.mean([1, 2, 3]), rtol=1e-6)
    np.testing.assert_allclose(state.params["two"], 1 - 0.1 * 3, rtol=1e-6)
    assert state.params["mean"] is params["mean"]
