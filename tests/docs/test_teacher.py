"""The task of the predicted regime: what its labels are, and where its floor is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs.sweeps import comparison
from docs.results import teacher
from experiments.build.experiment import build


def test_labels_are_the_teachers_outputs_and_noise():
    exact, noisy = (teacher.examples(20_000, noise, seed=5) for noise in (0.0, 1.0))
    np.testing.assert_array_equal(exact["x"], noisy["x"])
    assert np.var(exact["y"]) == pytest.approx(1.44, abs=0.05)
    noise = noisy["y"] - exact["y"]
    assert (noise.mean(), noise.std()) == (pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.03))
    other = teacher.examples(20_000, 0.0, seed=6)
    assert not np.array_equal(other["x"], exact["x"])


def test_student_with_the_teachers_weights_reaches_the_floor():
    run, *_ = comparison.teacher(noise=1.0, steps=8)
    task = build(run).task
    state = task.init(jax.random.key(0), optax.sgd(0.1))
    random = np.random.default_rng(teacher.TEACHER_SEED)
    first = random.normal(size=(teacher.INPUTS, teacher.HIDDEN))
    second = random.normal(size=teacher.HIDDEN) / np.sqrt(teacher.HIDDEN / 2)
    params = jax.tree.map(jnp.zeros_like, state.params)
    params["Dense_0"]["kernel"] = jnp.asarray(first, jnp.float32)
    params["Dense_1"]["kernel"] = jnp.asarray(second[:, None], jnp.float32)
    batch = {**teacher.examples(1000, 0.0, seed=1), "mask": np.ones(1000, bool)}
    at_floor, at_start = (
        task.eval_step(state.replace(params=each), batch).compute()
        for each in (params, state.params)
    )
    assert at_floor["risk"] < 1e-10
    assert at_floor["loss"] == pytest.approx(1.0)  # the variance of the noise
    assert at_start["risk"] > 0.5
    assert task.metrics["risk"].chance == pytest.approx(1.44, abs=0.05)
