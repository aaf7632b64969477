"""Saved progress is restored bit for bit; without a checkpoint, a run starts at step 0."""

import dataclasses
import math

import chex
import jax
import numpy as np
import pytest
from etils import epath

from experiments.program import assemble, parallel
from experiments.runtime import progress
from experiments.runtime.checkpoint import Checkpointer
from tests.experiments.runtime.small import small_experiment


@pytest.fixture(scope="module")
def small_run():
    experiment = small_experiment(seed=3)
    strategy = parallel.make_strategy(experiment.strategy, jax.devices())
    programs = assemble.compiled(
        experiment.task, experiment.optimizer, experiment.batches, strategy
    )
    return experiment, programs, strategy


def restore(workdir, small_run):
    with Checkpointer(epath.Path(workdir), max_to_keep=2, config_sha256="ours") as checkpointer:
        return progress.restore(checkpointer, *small_run)


def test_new_run_starts_from_its_seed(tmp_path, small_run):
    experiment, programs, _ = small_run
    started = restore(tmp_path, small_run)
    assert int(started.state.step) == 0
    assert started.state.key == jax.random.key(3)
    init = programs.init(np.asarray(jax.random.key_data(jax.random.key(3))))
    chex.assert_trees_all_equal(started.state.params, init.params)
    chex.assert_trees_all_equal(started.metrics, jax.device_get(experiment.task.no_metrics()))
    assert (started.history, started.seconds, started.rollbacks) == ([], 0.0, [])


def test_progress_restores_bit_for_bit(tmp_path, small_run):
    """The sums of the metrics are float32, which JSON stores as longer decimals."""
    _, _, strategy = small_run
    started = restore(tmp_path, small_run)
    metrics = jax.tree.map(
        lambda zero: zero.dtype.type(1 / 3 if np.issubdtype(zero.dtype, np.floating) else 7),
        started.metrics,
    )
    state = started.state.replace(
        step=started.state.step + 4, params=jax.tree.map(lambda w: w / 3, started.state.params)
    )
    saved = progress.Progress(
        state=state,
        history=[{"step": 3, "test_loss": 1 / 3}],
        metrics=metrics,
        seconds=0.125,
        rollbacks=[{"step": 2, "loss": None, "changed": {"schedule.peak_value": 0.05}}],
        environment=started.environment,
        environment_changes=[{"step": 1, "changed": {"threads": [4, 2]}}],
    )
    with Checkpointer(epath.Path(tmp_path), max_to_keep=2, config_sha256="ours") as checkpointer:
        after = progress.save(checkpointer, small_run[0], saved, step=4)
    assert after == saved  # nothing is the best by default
    restored = restore(tmp_path, small_run)
    assert restored[1:2] + restored[3:] == saved[1:2] + saved[3:]
    assert jax.tree.structure(restored.metrics) == jax.tree.structure(metrics)
    for actual, expected in zip(
        jax.tree.leaves(restored.metrics), jax.tree.leaves(metrics), strict=True
    ):
        assert actual.dtype == expected.dtype
        assert actual == expected
    assert restored.state.key == state.key
    chex.assert_trees_all_equal(
        restored.state.replace(key=jax.random.key_data(restored.state.key)),
        state.replace(key=jax.random.key_data(state.key)),
    )
    assert all(leaf.sharding == strategy.replicated for leaf in jax.tree.leaves(restored.state))


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ((0.3, 0.5, 0.4), 2),
        ((0.5, 0.5, 0.2), 1),  # of equal values, the first one
        ((math.nan, 0.1, None), 2),  # None: not evaluated, as in the middle of an epoch
    ],
)
def test_best_evaluation_of_the_objective_is_known(small_run, values, best):
    """The objective is the accuracy, whose direction is max."""
    experiment, _, _ = small_run
    experiment = dataclasses.replace(
        experiment, checkpoints=experiment.checkpoints._replace(keep_best=True)
    )
    saved = []

    class Fake:
        def save(self, step, state, record, *, best):
            saved.append((best, record["best"]["step"] if record["best"] else None))

    current = progress.Progress(None, [], (), 0.0, [], {}, [])
    for step, value in enumerate(values, start=1):
        if value is not None:
            record = {"step": step, "test_accuracy": value, "test_loss": -value}
            current = current._replace(history=[*current.history, record])
        current = progress.save(Fake(), experiment, current, step=step)
    assert saved[-1] == (best, best)
    assert current.best == {"step": best, "value": values[best - 1]}
