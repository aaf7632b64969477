"""The search for the best schedule: its schedules, and that it continues where its file ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from docs.results import ceiling, noise, teacher
from experiments.build.schedules import Run
from experiments.errors import UserError


def schedule_of(knots, run, warmup_epochs=0.0):
    config = base.get_config().schedule
    config.update({"peak_value": 0.5, "warmup_epochs": warmup_epochs})
    config.options.knots = knots
    return ceiling.make_schedule(config, run)


def test_schedule_is_linear_between_its_knots_after_the_warmup():
    schedule = schedule_of((0.0, 1.0, -1.0), Run(steps_per_epoch=4, num_steps=13), 1.0)
    expected = [0.05, 0.1625, 0.275, 0.3875, 0.5, 0.625, 0.75, 0.875, 1.0, 0.8125, 0.625, 0.4375]
    steps = np.arange(13, dtype=np.int32)
    np.testing.assert_allclose(schedule(steps), [*expected, 0.25], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(schedule)(steps), [*expected, 0.25], rtol=1e-6)


def test_schedule_with_one_knot_is_refused():
    with pytest.raises(
        UserError, match=r"schedule.options.knots=\(1.0,\) has fewer than two knots"
    ):
        schedule_of((1.0,), Run(steps_per_epoch=4, num_steps=12))


def test_setting_has_the_rates_of_its_knots():
    setting = ceiling.setting("a", [-1.0, 1.0, 0.25], center=0.1)
    assert setting["schedule.peak_value"] == pytest.approx(0.2)
    assert setting["schedule.options.knots"] == (-2.0, 0.0, -0.75)


def test_search_finds_the_best_knots_and_continues_where_its_file_ends(tmp_path, monkeypatch):
    best, trained = np.linspace(1, -3, ceiling.KNOTS), []

    def trainer(task):
        def losses_of(candidates):
            trained.append(len(candidates))
            return [float(((candidate - best) ** 2).sum()) for candidate in candidates]

        return losses_of

    file = tmp_path / "search.csv"
    monkeypatch.setattr(ceiling, "_trainer", trainer)
    monkeypatch.setattr(ceiling, "file_of", lambda task: file)
    monkeypatch.setattr(ceiling, "GENERATIONS", 100)
    found = ceiling.search("teacher")
    assert trained == [ceiling.CANDIDATES] * 100
    np.testing.assert_allclose(found, best, atol=0.01)

    whole = file.read_text()
    file.write_text("".join(whole.splitlines(keepends=True)[: 1 + 40 * ceiling.CANDIDATES]))
    trained.clear()
    again = ceiling.search("teacher")
    assert len(trained) == 60
    assert file.read_text() == whole
    np.testing.assert_array_equal(again, found)


def test_noise_scale_is_that_of_the_gradients_of_single_examples():
    examples = teacher.examples(64, 1.0, seed=5)
    params = teacher.Network().init(jax.random.key(0), jnp.zeros((1, 8)))["params"]

    def error(params, x, y):
        return (teacher.Network().apply({"params": params}, x) - y) ** 2

    gradients = [
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(jax.grad(error)(params, x, y))])
        for x, y in zip(examples["x"], examples["y"], strict=True)
    ]
    trace = np.trace(np.cov(np.transpose(gradients)))
    expected = trace / ((np.mean(gradients, 0) ** 2).sum() - trace / 64)
    np.testing.assert_allclose(noise.noise_scale(params, examples), expected, rtol=1e-4)
