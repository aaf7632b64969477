"""Runs of linear regression have the expected risk, on average, on any devices and in a sweep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

import loganneal_jax
from experiments.program import assemble, parallel
from experiments.program.state import key_data
from experiments.program.steps import Batches
from experiments.sweeping import trials
from experiments.tasks import linear_regression
from experiments.tasks.expected_risk import Problem, excess_risk, power_law

DIMENSIONS, EXPONENT, NOISE = 4, 1.0, 0.5
STEPS, BATCH_SIZE = 24, 2
BATCHES = Batches(STEPS * BATCH_SIZE, BATCH_SIZE, 2)
SCHEDULE = loganneal_jax.cosine_decay_schedule(0.4, 0.02, STEPS)


def make_task(**options):
    return linear_regression.make_task(
        dimensions=DIMENSIONS, exponent=EXPONENT, noise=NOISE, **options
    )


def trained(programs, task, data):
    state = programs.init(data)
    split, test = jax.device_put(task.load())
    state, metrics, alarm = programs.train(state, split, programs.order(state), STEPS)
    return state, metrics, alarm, programs.evaluate(state, test)


def mean(metric):
    return float(metric.total) / float(metric.count)


def test_mean_risk_of_many_runs_is_the_expected_risk():
    """The mean of 4,000 runs is within four standard errors, each less than 1.5% of the risk."""
    task = make_task()
    programs = assemble.pure(task, optax.sgd(SCHEDULE), BATCHES)

    def risk_of(seed):
        *_, metrics = trained(programs, task, jnp.array([0, seed], jnp.uint32))
        return metrics.risk.total / metrics.risk.count.astype(jnp.float32)

    risks = np.asarray(jax.jit(jax.vmap(risk_of))(jnp.arange(4000)), np.float64)
    rates = np.asarray(loganneal_jax.tabulate(SCHEDULE, STEPS), np.float64)
    spectrum = power_law(DIMENSIONS, EXPONENT)
    expected = excess_risk(rates, Problem(spectrum, NOISE, BATCH_SIZE))
    error = risks.std() / np.sqrt(len(risks))
    assert error < 0.015 * expected
    assert abs(risks.mean() - expected) < 4 * error
    # Other readings of the formula are further away than that.
    for wrong in (Problem(spectrum, NOISE, 1), Problem(spectrum, 0.9 * NOISE, BATCH_SIZE)):
        assert abs(risks.mean() - excess_risk(rates, wrong)) > 4 * error


def test_step_is_that_of_numpy_and_evaluation_is_exact():
    task, optimizer = make_task(), optax.sgd(0.3)

    @jax.jit
    def step():
        batch = task.batch(task.load().train, np.array([7, 1, 300]), jax.random.key(5))
        state = task.init(jax.random.key(0), optimizer)
        state, metrics = task.train_step(state, batch, optimizer)
        evaluated = task.eval_step(state, {"mask": jnp.array([True, False])})
        return batch, state.params["kernel"], metrics, evaluated

    batch, kernel, metrics, evaluated = step()
    x, y = (np.asarray(batch[name], np.float64) for name in ("x", "y"))
    # The weights begin at 0, so the gradient is the mean of -y x.
    weights = 0.3 * (y[:, None] * x).mean(axis=0)
    np.testing.assert_allclose(kernel, weights, rtol=1e-6)
    spectrum = power_law(DIMENSIONS, EXPONENT)
    np.testing.assert_allclose(mean(metrics.loss), (y**2 / 2).mean(), rtol=1e-6)
    np.testing.assert_allclose(mean(metrics.risk), spectrum.sum() / 2, rtol=1e-6)
    risk = (spectrum * (weights - 1) ** 2).sum() / 2
    np.testing.assert_allclose(mean(evaluated.risk), risk, rtol=1e-6)
    np.testing.assert_allclose(mean(evaluated.loss), risk + NOISE**2 / 2, rtol=1e-6)
    assert float(evaluated.risk.count) == 1
    assert task.metrics["risk"].chance == pytest.approx(spectrum.sum() / 2)
    assert task.floors()["loss"].value == NOISE**2 / 2


def test_example_depends_on_its_epoch_and_index_only():
    task = make_task()
    split, _ = jax.device_put(task.load())
    draw = jax.jit(lambda indices, seed: task.batch(split, indices, jax.random.key(seed))["x"])
    one, two, other = (
        draw(np.array(indices), seed)
        for indices, seed in (([3, 8, 5], 0), ([5, 9, 9], 0), ([3, 8, 5], 1))
    )
    np.testing.assert_array_equal(one[2], two[0])
    np.testing.assert_array_equal(two[1], two[2])
    assert len(np.unique(np.concatenate([one, other]))) == 2 * 3 * DIMENSIONS


def test_examples_that_are_held_out_shorten_the_epoch():
    task = make_task(num_validation=96)
    assert task.num_train == len(task.load().train["index"]) == 4000
    assert len(task.load().test["index"]) == 96


@functools.cache
def alone():
    strategy = parallel.make_strategy("jit", jax.devices()[:1])
    task = make_task()
    programs = assemble.compiled(task, optax.sgd(SCHEDULE), BATCHES, strategy)
    return trained(programs, task, key_data(7))


@pytest.mark.parametrize(
    ("strategy", "accumulate_steps"),
    [
        ("jit", 1),
        pytest.param("pmap", 1, marks=pytest.mark.slow),
        pytest.param("jit", 2, marks=pytest.mark.slow),
    ],
)
def test_two_devices_and_micro_batches_compute_the_same_run(strategy, accumulate_steps):
    devices = 2 // accumulate_steps
    made = parallel.make_strategy(strategy, jax.devices()[:devices])
    task = make_task(
        accumulate_steps=accumulate_steps,
        axis_name=parallel.AXIS if strategy == "pmap" else None,
    )
    programs = assemble.compiled(task, optax.sgd(SCHEDULE), BATCHES, made)
    state, metrics, _, evaluated = trained(programs, task, key_data(7))
    expected, expected_metrics, _, expected_evaluated = alone()
    np.testing.assert_allclose(state.params["kernel"], expected.params["kernel"], rtol=1e-5)
    np.testing.assert_allclose(mean(metrics.loss), mean(expected_metrics.loss), rtol=1e-5)
    np.testing.assert_allclose(mean(evaluated.risk), mean(expected_evaluated.risk), rtol=1e-5)


def test_trial_of_a_sweep_equals_its_run_alone():
    task = make_task()
    other = loganneal_jax.constant_schedule(0.1)
    rates = [loganneal_jax.tabulate(each, STEPS) for each in (other, SCHEDULE)]
    block = trials.Block(
        key_data=jnp.stack([key_data(3), key_data(7)]),
        learning_rates=jnp.stack(rates),
        weight_decays=jnp.zeros(2),
    )

    def functions_of(trial):
        schedule = loganneal_jax.from_values(trial.learning_rates)
        return assemble.pure(task, optax.sgd(schedule), BATCHES)

    def run(trial):
        state, *_ = trained(functions_of(trial), task, trial.key_data)
        return state.params["kernel"]

    mesh = jax.make_mesh((2,), ("trials",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    together = jax.jit(trials.over_trials(run, mesh, trials.side_by_side))(block)
    np.testing.assert_allclose(together[1], alone()[0].params["kernel"], rtol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 0.01


def test_diverging_rates_ring_the_alarm():
    strategy = parallel.make_strategy("jit", jax.devices()[:1])
    task = make_task()
    programs = assemble.compiled(task, optax.sgd(1e6), BATCHES, strategy)
    _, _, alarm, _ = trained(programs, task, key_data(0))
    assert int(alarm.step) < STEPS
    assert not bool(alarm.finite)
