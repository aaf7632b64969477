"""Compares one training step on a CPU with stock Flax and PyTorch, in one run.

    pip install -e '.[benchmarks]' -c constraints.txt
    python -m benchmarks.train_step [--models=resnet18,resnet34,lenet4,nn2] [--rounds=5]

A step is forward pass, backward pass, and update on a batch of 128 in float32: SGD, momentum 0.9,
and weight decay. loganneal_jax runs the program of `experiments.train`, which also gathers and
normalizes the batch. Stock Flax runs a compiled step with Flax's own layers. PyTorch keeps images
and kernels in channels-last layout.
"""

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks.side_by_side import Contender, environment, installed, measure, table

IMAGE_SHAPES = {
    "resnet18": (32, 32, 3),
    "resnet34": (32, 32, 3),
    "lenet4": (28, 28, 1),
    "nn2": (28, 28, 1),
}
# Steps per turn, so that a turn takes a few seconds.
STEPS = {"resnet18": 10, "resnet34": 10, "lenet4": 50, "nn2": 500}
MOMENTUM, WEIGHT_DECAY, LEARNING_RATE = 0.9, 5e-4, 0.01


def ours(model: str, batch_size: int, steps: int) -> Callable[[], Any]:
    """Returns a function that runs steps of `experiments.train` in one dispatch."""
    import jax
    import numpy as np

    from benchmarks import trainer
    from experiments.data.datasets import Dataset

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4 * batch_size, *IMAGE_SHAPES[model]), np.uint8)
    labels = rng.integers(0, 10, 4 * batch_size, np.int32)
    config = trainer.config_of(model, batch_size=batch_size, augment=False)
    made = trainer.make(config, Dataset(images, labels, images, labels), LEARNING_RATE)
    state = made.state
    order = made.order(state)

    def turn() -> Any:
        nonlocal state
        state, metrics, _ = made.train(state, made.splits[0], order, steps)
        return jax.block_until_ready((state, metrics))

    return turn


def stock_flax(model: str, batch_size: int, steps: int) -> Callable[[], Any]:
    """Returns a function that runs steps with Flax's own layers, one dispatch per step."""
    import jax
    import optax

    from benchmarks import stock_flax as stock

    images = jax.random.normal(jax.random.key(0), (batch_size, *IMAGE_SHAPES[model]))
    labels = jax.random.randint(jax.random.key(1), (batch_size,), 0, 10)
    network = stock.make_network(model)
    optimizer = optax.chain(
        optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(LEARNING_RATE, MOMENTUM)
    )
    variables = jax.jit(lambda: network.init(jax.random.key(0), images[:1], train=False))()
    opt_state = optimizer.init(variables["params"])
    step = stock.make_step(network, optimizer)

    def turn() -> Any:
        nonlocal variables, opt_state
        for _ in range(steps):
            variables, opt_state, loss = step(variables, opt_state, images, labels)
        return jax.block_until_ready((variables, loss))

    return turn


def pytorch(model: str, batch_size: int, steps: int) -> Callable[[], Any]:
    """Returns a function that runs steps of PyTorch in channels-last layout."""
    import torch

    from benchmarks import pytorch as peer

    torch.manual_seed(0)
    height, width, channels = IMAGE_SHAPES[model]
    images = torch.randn(batch_size, channels, height, width)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,))
    network: Any = peer.make_network(model)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True
    )

    def turn() -> Any:
        for _ in range(steps):
            loss = peer.train(network, optimizer, images, labels)
        return loss.item()

    return turn


def main() -> None:
    """Measures each network and prints its table."""
    parser = argparse.ArgumentParser(
        description="Compares one training step on a CPU with stock Flax and PyTorch."
    )
    parser.add_argument("--models", default=",".join(STEPS), help="networks, comma-separated")
    parser.add_argument("--rounds", type=int, default=5, help="turns per contender")
    parser.add_argument("--batch_size", type=int, default=128, help="images per step")
    options = parser.parse_args()
    torch = installed("torch")
    print(environment("jax", "flax", "optax", *torch), flush=True)
    if not torch:
        print("PyTorch is not installed, so it is left out.", flush=True)
    for model in options.models.split(","):
        arguments = {"model": model, "batch_size": options.batch_size, "steps": STEPS[model]}
        makers = {"loganneal_jax": ours, "stock Flax": stock_flax}
        if torch:
            makers["PyTorch"] = pytorch
        seconds = measure(
            {name: Contender(make, arguments, STEPS[model]) for name, make in makers.items()},
            rounds=options.rounds,
        )
        print(f"\n{model}, batch {options.batch_size}, {options.rounds} rounds\n", flush=True)
        print(table(seconds, unit="ms per step", scale=1e3), flush=True)


if __name__ == "__main__":
    main()
