"""Compares one training step on a CPU with stock Flax and PyTorch, in one run.

    pip install -e '.[benchmarks]' -c constraints.txt
    python -m benchmarks.train_step [--models=resnet18,lenet4,...] [--rounds=5]

A step is forward pass, backward pass, and update on a batch of 128: SGD, momentum 0.9, and weight
decay. loganneal_jax runs the program of `experiments.train`, which also gathers and normalizes the
batch, in float32 and in bfloat16 (`model.dtype`). Stock Flax runs a compiled step with Flax's own
layers in float32. PyTorch keeps images and kernels in channels-last layout, and runs in float32 and
under autocast to bfloat16, eagerly and with `torch.compile`. The last line of a table compares the
faster dtype of loganneal_jax with the fastest mode of PyTorch.

`cifar10_cpu` is the network of `configs/cifar10_cpu.py`; the others have full width and no
attention. `--checkout=DIRECTORY` also times the code of an older commit in another checkout, in
float32.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.side_by_side import (
    Contender,
    Measured,
    environment,
    fastest,
    installed,
    measure,
    memory_table,
    ratio,
)

IMAGE_SHAPES = {
    "resnet18": (32, 32, 3),
    "resnet34": (32, 32, 3),
    "lenet4": (28, 28, 1),
    "nn2": (28, 28, 1),
    "vgg16": (32, 32, 3),
    "cifar10_cpu": (32, 32, 3),
}
# Steps per turn, so that a turn takes a few seconds.
STEPS = {
    "resnet18": 5,
    "resnet34": 5,
    "lenet4": 50,
    "nn2": 500,
    "vgg16": 5,
    "cifar10_cpu": 15,
}
STOCK_FLAX = ("resnet18", "resnet34", "lenet4", "nn2")  # networks of benchmarks/stock_flax.py
MOMENTUM, WEIGHT_DECAY, LEARNING_RATE = 0.9, 5e-4, 0.01


def ours(
    model: str, batch_size: int, steps: int, dtype: str, checkout: str | None = None
) -> Callable[[], Any]:
    """Returns a function that runs steps of `experiments.train` in one dispatch.

    Args:
      model: a key of `STEPS`.
      batch_size: images per step.
      steps: number of steps.
      dtype: `model.dtype`.
      checkout: directory of another checkout whose code to run, or None for this one.

    Returns:
      The function.
    """
    if checkout:
        sys.path.insert(0, checkout)
        # The benchmark's own modules were imported from this checkout.
        for name in [
            name for name in sys.modules if name.split(".")[0] in ("benchmarks", "configs")
        ]:
            del sys.modules[name]

    import jax
    import numpy as np

    from benchmarks import trainer
    from experiments.data.datasets import Dataset

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4 * batch_size, *IMAGE_SHAPES[model]), np.uint8)
    labels = rng.integers(0, 10, 4 * batch_size, np.int32)
    if model == "cifar10_cpu":
        from configs import cifar10_cpu

        config = cifar10_cpu.get_config()
        config.batch_size = batch_size
        config.data.augment = False
    else:
        config = trainer.config_of(model, batch_size=batch_size, augment=False)
    config.model.dtype = dtype
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


def pytorch(
    model: str, batch_size: int, steps: int, bfloat16: bool, compiled: bool
) -> Callable[[], Any]:
    """Returns a function that runs steps of PyTorch in channels-last layout.

    Args:
      model: a key of `STEPS`.
      batch_size: images per step.
      steps: number of steps.
      bfloat16: whether to run under autocast to bfloat16.
      compiled: whether to compile the network.

    Returns:
      The function.
    """
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

    compiled_network = torch.compile(network) if compiled else network

    def turn() -> Any:
        for _ in range(steps):
            loss = peer.train(compiled_network, optimizer, images, labels, bfloat16=bfloat16)
        return loss.item()

    return turn


def pytorch_modes() -> dict[str, dict[str, bool]]:
    """Returns the options of each mode of PyTorch, by its name in a table."""
    return {
        f"PyTorch, {dtype}, {how}": {"bfloat16": dtype == "bfloat16", "compiled": how == "compiled"}
        for dtype, how in itertools.product(("float32", "bfloat16"), ("eager", "compiled"))
    }


def verdict(measured: Measured) -> str:
    """Returns a sentence that compares our faster dtype with PyTorch's fastest mode."""
    ours, peers = (
        {name: values for name, values in measured.seconds.items() if name.startswith(prefix)}
        for prefix in ("loganneal_jax", "PyTorch")
    )
    our, their = fastest(ours), fastest(peers)
    speed = ratio(measured.seconds[our], measured.seconds[their])
    return f"{our} is {speed:.2f} times as fast as {their}."


def main() -> None:
    """Measures each network and prints its table."""
    parser = argparse.ArgumentParser(
        description="Compares one training step on a CPU with stock Flax and PyTorch."
    )
    parser.add_argument("--models", default=",".join(STEPS), help="comma-separated networks")
    parser.add_argument("--rounds", type=int, default=5, help="turns per contender")
    parser.add_argument("--batch_size", type=int, default=128, help="images per step")
    parser.add_argument("--peers", default="stock Flax,PyTorch", help="comma-separated peers")
    parser.add_argument("--checkout", help="directory of an older checkout to time as well")
    options = parser.parse_args()
    peers = options.peers.split(",")
    torch = installed("torch") if "PyTorch" in peers else []
    print(environment("jax", "flax", "optax", *torch), flush=True)
    if "PyTorch" in peers and not torch:
        print("PyTorch is not installed, so it is left out.", flush=True)
    for model in options.models.split(","):
        steps = STEPS[model]
        given = {"model": model, "batch_size": options.batch_size, "steps": steps}
        contenders = {
            f"loganneal_jax, {dtype}": Contender(ours, {**given, "dtype": dtype}, steps)
            for dtype in ("float32", "bfloat16")
        }
        if options.checkout:
            older = {**given, "dtype": "float32", "checkout": options.checkout}
            contenders["older checkout, float32"] = Contender(ours, older, steps)
        if "stock Flax" in peers and model in STOCK_FLAX:
            contenders["stock Flax"] = Contender(stock_flax, given, steps)
        if torch:
            for name, mode in pytorch_modes().items():
                contenders[name] = Contender(pytorch, {**given, **mode}, steps, may_fail=True)
        measured = measure(contenders, rounds=options.rounds)
        print(f"\n{model}, batch {options.batch_size}, {options.rounds} rounds\n", flush=True)
        print(memory_table(measured, unit="ms per step", scale=1e3), flush=True)
        if torch:
            print(f"\n{verdict(measured)}", flush=True)


if __name__ == "__main__":
    main()
