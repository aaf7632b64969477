"""The configs of naveen2024 at their full width, on real CIFAR-10."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TWO_STEPS = """
import importlib, math, sys
import jax
import numpy as np
from experiments.build.experiment import build
from experiments.program import assemble, parallel

config = importlib.import_module(f"configs.{sys.argv[1]}").get_config()
config.batch_size = 4
experiment = build(config)
strategy = parallel.make_strategy("jit", jax.devices()[:1])
programs = assemble.compiled(
    experiment.task, experiment.optimizer, experiment.batches, strategy
)
state = programs.init(np.asarray(jax.random.key_data(jax.random.key(experiment.seed))))
before = jax.device_get(state.params)
train = parallel.to_devices(experiment.task.load().train, strategy.replicated)
state, metrics, _ = programs.train(state, train, programs.order(state), 2)
loss = float(metrics.compute()["loss"])
assert 1.5 < loss < 6, loss
moved = jax.tree.map(lambda a, b: float(abs(a - b).max()), before, jax.device_get(state.params))
assert all(map(math.isfinite, jax.tree.leaves(moved)))
assert moved["head"]["kernel"] > 0
print(int(state.step), sum(leaf.size for leaf in jax.tree.leaves(before)))
"""


@pytest.mark.slow
@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="needs prepared data sets")
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "parameters"),
    # The published networks with the CIFAR stem and 10 classes have 21,282,122 and 23,520,842
    # parameters. The second config adds a transformer of width 256 (patches 12,288, positions
    # 16,384, attention 263,168, MLP 525,568, norms 1,536) and 2,560 weights of the head.
    [("cifar10_resnet34", 21_282_122), ("cifar10_attention", 23_520_842 + 818_944 + 2_560)],
)
def test_two_real_steps_at_full_width(name, parameters):
    process = subprocess.run(
        [sys.executable, "-c", TWO_STEPS, name],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["2", str(parameters)]
