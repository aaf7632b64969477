"""Both of the paper's configs at their full width, on real CIFAR-10."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

TWO_STEPS = """
import importlib, math, sys
import jax
from functools import partial
from experiments import build, parallel, step

config = importlib.import_module(f"configs.{sys.argv[1]}").get_config()
experiment = build.build(config)
dataset, normalize = build.load(config, experiment)
train_step, _ = build.make_steps(config, experiment, normalize)
train_steps = jax.jit(parallel.training(
    train_step, batch_size=config.batch_size, steps_per_epoch=experiment.steps_per_epoch
), donate_argnums=0)
state = jax.jit(partial(
    step.init_state,
    model=experiment.model,
    optimizer=experiment.optimizer,
    image_shape=experiment.dataset.image_shape,
))(jax.random.key(config.seed))
before = jax.device_get(state.params)
train_split, _ = parallel.to_device(dataset, jax.sharding.SingleDeviceSharding(jax.devices()[0]))
order = jax.jit(parallel.ordering(
    num_examples=experiment.dataset.num_train, steps_per_epoch=experiment.steps_per_epoch
))(state)
state, metrics, _ = train_steps(state, train_split, order, 2)
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
    # 21,282,122 and 23,520,842 are the published networks with the CIFAR stem and 10 classes, to
    # which the second config adds a transformer of width 256 (its patches 12,288, positions 16,384,
    # attention 263,168, perceptron 525,568 and norms 1,536) and 2,560 weights of the linear layer.
    [("cifar10_resnet34", 21_282_122), ("cifar10_attention", 23_520_842 + 818_944 + 2_560)],
)
def test_two_real_steps_at_full_width(name, parameters):
    process = subprocess.run(
        [sys.executable, "-c", TWO_STEPS, name],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == ["2", str(parameters)]
