"""The comparison of training steps: equal networks, and the verdict."""

import jax
import pytest

from benchmarks import train_step, trainer
from benchmarks.side_by_side import Measured
from configs import cifar10_cpu
from experiments.build.models import make_model


@pytest.mark.parametrize("name", train_step.STEPS)
def test_pytorch_has_the_same_number_of_parameters(name):
    pytorch = pytest.importorskip("benchmarks.pytorch")
    theirs = sum(each.numel() for each in pytorch.make_network(name).parameters())
    if name == "cifar10_cpu":
        config = cifar10_cpu.get_config()
    else:
        config = trainer.config_of(name, batch_size=128, augment=False)
    shape = train_step.IMAGE_SHAPES[name]
    model = make_model(config.model, image_shape=shape, num_classes=10)
    variables = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jax.numpy.zeros((1, *shape)), train=False)
    )
    ours = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    # PyTorch's attention has biases, as ours does, and no other layer differs.
    assert ours == theirs


def test_verdict_compares_the_fastest_modes():
    seconds = {
        "loganneal_jax, float32": [3.0, 3.0],
        "loganneal_jax, bfloat16": [1.0, 2.0],
        "stock Flax": [0.1, 0.1],
        "PyTorch, float32, eager": [4.0, 4.0],
        "PyTorch, bfloat16, compiled": [2.0, 2.0],
    }
    assert train_step.verdict(Measured(seconds, {}, {})) == (
        "loganneal_jax, bfloat16 is 1.50 times as fast as PyTorch, bfloat16, compiled."
    )
