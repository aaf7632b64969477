"""The programs of a run: initialization, order, training, and evaluation of any task."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from clu import metrics as clu_metrics
from flax import struct

from experiments.program import assemble, parallel
from experiments.program.alarm import SILENT, LossLimit
from experiments.program.state import TrainState
from experiments.program.steps import Batches
from experiments.tasks.task import Metric, Task

EXAMPLES = 48
POINTS = {
    "x": np.random.default_rng(0).normal(size=(EXAMPLES, 2)).astype(np.float32),
    "y": np.random.default_rng(1).normal(size=EXAMPLES).astype(np.float32),
}
OPTIMIZER = optax.sgd(optax.linear_schedule(0.1, 0.0, 20), momentum=0.9)
BATCHES = Batches(EXAMPLES, 16, 20)


@struct.dataclass
class Metrics(clu_metrics.Collection):
    loss: clu_metrics.Average.from_output("loss")


def losses_of(params, batch):
    return jnp.square(batch["x"] @ params - batch["y"])


def init(key, optimizer):
    params = jax.random.normal(key, (2,))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats={},
        opt_state=optimizer.init(params),
        key=key,
    )


def train_step(state, batch, optimizer):
    def mean_loss(params):
        losses = losses_of(params, batch)
        return losses.mean(), losses

    gradient, losses = jax.grad(mean_loss, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
    return state, Metrics.single_from_model_output(loss=losses)


def eval_step(state, batch):
    return Metrics.single_from_model_output(loss=losses_of(state.params, batch), mask=batch["mask"])


LINEAR = Task(
    data="points",
    model="line",
    num_train=EXAMPLES,
    load=None,
    init=init,
    train_step=train_step,
    eval_step=eval_step,
    collection=Metrics,
    metrics={"loss": Metric("min")},
    objective="loss",
)


def key_data(seed=0):
    return np.asarray(jax.random.key_data(jax.random.key(seed)))


def compiled(devices=1, **options):
    strategy = parallel.make_strategy("jit", jax.devices()[:devices])
    programs = assemble.compiled(LINEAR, OPTIMIZER, BATCHES, strategy, **options)
    return programs, parallel.to_devices(POINTS, strategy.replicated)


def test_programs_train_and_evaluate_a_task_as_plain_numpy_does():
    programs, points = compiled()
    state = programs.init(key_data())
    order = np.asarray(programs.order(state))
    params = np.asarray(state.params, np.float64)
    velocity, total = np.zeros(2), 0.0
    x, y = POINTS["x"].astype(np.float64), POINTS["y"].astype(np.float64)
    for step in range(3):
        batch = order[16 * step : 16 * step + 16]
        errors = x[batch] @ params - y[batch]
        total += (errors**2).sum()
        velocity = 0.9 * velocity + 2 * x[batch].T @ errors / 16
        params -= 0.1 * (1 - step / 20) * velocity
    state, metrics, alarm = programs.train(state, points, order, 3)
    np.testing.assert_allclose(state.params, params, rtol=1e-5)
    np.testing.assert_allclose(metrics.loss.total, total, rtol=1e-5)
    assert int(state.step) == 3
    assert int(alarm.step) == SILENT
    loss = jax.device_get(programs.evaluate(state, points)).compute()["loss"]
    np.testing.assert_allclose(loss, ((x @ params - y) ** 2).mean(), rtol=1e-5)


def test_compiled_programs_compute_what_the_pure_functions_do():
    programs, points = compiled()
    pure = assemble.pure(LINEAR, OPTIMIZER, BATCHES)
    expected = pure.init(key_data())
    state = programs.init(key_data())
    np.testing.assert_array_equal(state.params, expected.params)
    order = programs.order(state)
    np.testing.assert_array_equal(order, pure.order(expected))
    expected, expected_metrics, _ = pure.train(expected, points, order, 2)
    state, metrics, _ = programs.train(state, points, order, 2)
    np.testing.assert_allclose(state.params, expected.params, rtol=1e-6)
    np.testing.assert_allclose(metrics.loss.total, expected_metrics.loss.total, rtol=1e-6)


def test_initial_state_depends_on_the_key_alone():
    (programs, _), (eight, _) = compiled(), compiled(devices=8)
    states = [programs.init(key_data(0)), eight.init(key_data(0)), programs.init(key_data(1))]
    np.testing.assert_array_equal(states[0].params, states[1].params)
    assert not np.array_equal(states[0].params, states[2].params)
    for seed, state in zip((0, 0, 1), states, strict=True):
        np.testing.assert_array_equal(jax.random.key_data(state.key), key_data(seed))
        assert int(state.step) == 0


def test_training_donates_the_state_and_the_other_programs_keep_it():
    programs, points = compiled()
    state = programs.init(key_data())
    order = programs.order(state)
    programs.evaluate(state, points)
    assert not state.params.is_deleted()
    programs.train(state, points, order, 1)
    assert state.params.is_deleted()
    assert not order.is_deleted()


def summed_eval_step(state, batch):
    return jax.lax.psum(eval_step(state, batch), parallel.AXIS)


@pytest.mark.parametrize("devices", [1, 3, 8])
@pytest.mark.parametrize(
    ("name", "task"), [("jit", LINEAR), ("pmap", LINEAR._replace(eval_step=summed_eval_step))]
)
def test_evaluation_counts_every_example_on_any_number_of_devices(name, task, devices):
    """The evaluation batch of 20 becomes 20, 21, or 24 examples, so that the devices share it."""
    strategy = parallel.make_strategy(name, jax.devices()[:devices])
    programs = assemble.compiled(task, OPTIMIZER, BATCHES, strategy)
    points = parallel.to_devices(POINTS, strategy.replicated)
    metrics = programs.evaluate(programs.init(key_data()), points)
    assert float(metrics.loss.count) == EXAMPLES


def test_loss_limit_reaches_the_training_program():
    programs, points = compiled(loss_limit=LossLimit(1e-6, grace_steps=1))
    state = programs.init(key_data())
    _, _, alarm = programs.train(state, points, programs.order(state), 3)
    assert int(alarm.step) == 2
    assert float(alarm.loss) > 1e-6
