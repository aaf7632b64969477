"""Sweeps of every task: a trial in the table equals the run of its config alone."""

import json

import jax
import pandas as pd
import pytest
from etils import epath

from configs import gan_mnist, language_model, linear_regression
from configs.sweeps import base
from experiments.build.experiment import build
from experiments.build.sweeps import read_sweep
from experiments.data import markov, text
from experiments.runtime import loop
from experiments.sweeping.run import run

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def dtype_promotion():
    """Replaces strict promotion, in all threads: Adam mixes its counter with floats."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")


@pytest.fixture
def short_text(monkeypatch):
    """Shortens the random text to an eighth."""
    text._sampled.cache_clear()
    monkeypatch.setattr(markov, "NUM_TRAIN", 2**16)
    monkeypatch.setattr(markov, "NUM_TEST", 2**14)
    yield
    text._sampled.cache_clear()


def small_language_model():
    config = language_model.get_config()
    config.update(epochs=2.0, batch_size=256, eval_batch_size=512, log_every_steps=20)
    config.data.context_length = 8
    config.model.update(num_layers=1, num_heads=2, width=8, dropout_rate=0.1)
    return config


def small_gan():
    config = gan_mnist.get_config()
    config.update(epochs=2.0, batch_size=128, eval_batch_size=360, log_every_steps=4)
    config.data.name = "digits"
    config.model.width_multiplier = 0.05
    return config


def small_regression():
    config = linear_regression.get_config()
    config.epochs = 2.0
    return config


TASKS = {
    "language_model": small_language_model,
    "gan": small_gan,  # whose training lacks the metrics of evaluation
    "linear_regression": small_regression,
}


@pytest.mark.parametrize("task", TASKS)
def test_trial_equals_the_run_alone(tmp_path, short_text, task):
    config = base.make(TASKS[task]())
    config.settings = ({"name": "config"}, {"name": "constant", "schedule.name": "constant"})
    config.seeds = (0, 3)
    alone = TASKS[task]()
    alone.seed = 3
    run(read_sweep(config), epath.Path(tmp_path / "sweep"))
    loop.run(build(alone), epath.Path(tmp_path / "run"))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    of_run = pd.DataFrame([json.loads(line) for line in lines])
    trials = pd.read_csv(tmp_path / "sweep" / "trials.csv")
    of_trial = trials[(trials.setting == "config") & (trials.seed == 3)].reset_index(drop=True)
    pd.testing.assert_frame_equal(of_trial[of_run.columns], of_run, rtol=1e-4, check_dtype=False)
    summaries = [
        json.loads((tmp_path / name / "summary.json").read_text()) for name in ("sweep", "run")
    ]
    assert summaries[0]["floors"] == {summaries[1]["data"]: summaries[1]["floors"]}
