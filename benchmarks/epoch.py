"""Compares epochs of MNIST on a CPU with PyTorch, including the input pipeline.

    pip install -e '.[benchmarks]' -c constraints.txt
    TFDS_DATA_DIR=... python -m benchmarks.epoch [--models=nn2,lenet4] [--rounds=5]

An epoch draws an order, gathers 468 batches of 128 uint8 images, normalizes them, and trains: SGD,
momentum 0.9, and weight decay. loganneal_jax runs fifty steps per dispatch, as `experiments.train`
does, in float32 and in bfloat16. PyTorch keeps the images in memory in channels-last layout, and
runs in the modes of `benchmarks.train_step` on batches that it gathers. In float32, it also uses a
DataLoader, which collects the images one by one. The last table shows
how the speed of loganneal_jax depends on the number of epochs and images, for NN-2 on random
images.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from benchmarks.side_by_side import Contender, environment, installed, measure, memory_table
from benchmarks.train_step import (
    LEARNING_RATE,
    MOMENTUM,
    WEIGHT_DECAY,
    pytorch_modes,
    verdict,
)

if TYPE_CHECKING:
    from experiments.data.datasets import Dataset

BATCH_SIZE = 128
LENGTHS = ((1, 5_000), (20, 5_000), (1, 50_000), (20, 50_000))  # epochs and images


def mnist() -> "Dataset":
    """Loads MNIST, which tensorflow-datasets has prepared."""
    from experiments.data import datasets

    return datasets.load(datasets.describe("mnist", data_dir=None, image_size=None))


def runner(model: str, dataset: "Dataset", dtype: str = "float32") -> Callable[[int], Any]:
    """Returns a function that continues training for a number of epochs.

    Args:
      model: name of the network.
      dataset: uint8 images of ten classes.
      dtype: `model.dtype`.

    Returns:
      A function that trains in the same dispatches as `experiments.train`.
    """
    import jax

    from benchmarks import trainer
    from experiments.program.steps import pieces

    config = trainer.config_of(model, batch_size=BATCH_SIZE, augment=False)
    config.model.dtype = dtype
    made = trainer.make(config, dataset, LEARNING_RATE)
    state = made.state

    def run(epochs: int) -> Any:
        nonlocal state
        for _ in range(epochs):
            order = made.order(state)
            for start, stop in pieces(0, made.batches.steps_per_epoch, config.log_every_steps):
                state, metrics, _ = made.train(state, made.splits[0], order, stop - start)
        return jax.block_until_ready((state, metrics))

    return run


def ours(model: str, dtype: str) -> Callable[[], Any]:
    """Returns a function that trains an epoch as `experiments.train` does."""
    run = runner(model, mnist(), dtype)
    return lambda: run(1)


def pytorch(model: str, loader: bool, bfloat16: bool, compiled: bool) -> Callable[[], Any]:
    """Returns a function that trains an epoch in PyTorch.

    Args:
      model: name of the network.
      loader: whether a DataLoader collects the batches; otherwise they are gathered from memory.
      bfloat16: whether to run under autocast to bfloat16.
      compiled: whether to compile the network.

    Returns:
      The function.
    """
    import torch

    from benchmarks import pytorch as peer

    torch.manual_seed(0)
    dataset = mnist()
    images = torch.from_numpy(dataset.train_images).permute(0, 3, 1, 2)
    labels = torch.from_numpy(dataset.train_labels).long()
    mean, std = images.float().mean(), images.float().std()
    network: Any = peer.make_network(model)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True
    )
    data_loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(images, labels), BATCH_SIZE, shuffle=True, drop_last=True
    )

    compiled_network = torch.compile(network) if compiled else network

    def epoch() -> Any:
        batches: Iterable[Any] = data_loader if loader else peer.batches(images, labels, BATCH_SIZE)
        for batch, batch_labels in batches:
            normalized = (batch.float() - mean) / std
            loss = peer.train(
                compiled_network, optimizer, normalized, batch_labels, bfloat16=bfloat16
            )
        return loss.item()

    return epoch


def growth(rounds: int) -> str:
    """Measures runs of several lengths in turn.

    Args:
      rounds: number of runs of each length.

    Returns:
      A Markdown table of images per second, by number of epochs and images.
    """
    import numpy as np

    from experiments.data.datasets import Dataset

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50_000, 28, 28, 1), np.uint8)
    labels = rng.integers(0, 10, 50_000, np.int32)
    runners = {}
    for number in sorted({number for _, number in LENGTHS}):
        data = Dataset(images[:number], labels[:number], images[:1000], labels[:1000])
        runners[number] = runner("nn2", data)
        runners[number](1)
    speeds: dict[tuple[int, int], list[float]] = {length: [] for length in LENGTHS}
    for _ in range(rounds):
        for epochs, number in LENGTHS:
            started = time.perf_counter()
            runners[number](epochs)
            trained = epochs * (number // BATCH_SIZE) * BATCH_SIZE
            speeds[epochs, number].append(trained / (time.perf_counter() - started))
    rows = ["| epochs | images | images/s, median (min to max) |", "|---|---|---|"]
    for (epochs, number), values in speeds.items():
        rows.append(
            f"| {epochs} | {number:,} | {statistics.median(values):,.0f} "
            f"({min(values):,.0f} to {max(values):,.0f}) |"
        )
    return "\n".join(rows)


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description="Compares epochs of MNIST on a CPU with PyTorch.")
    parser.add_argument("--models", default="nn2,lenet4", help="comma-separated networks")
    parser.add_argument("--rounds", type=int, default=5, help="turns per contender")
    options = parser.parse_args()
    torch = installed("torch")
    print(environment("jax", "flax", "optax", *torch), flush=True)
    if not torch:
        print("PyTorch is not installed, so it is left out.", flush=True)
    for model in options.models.split(","):
        contenders = {
            f"loganneal_jax, {dtype}": Contender(ours, {"model": model, "dtype": dtype})
            for dtype in ("float32", "bfloat16")
        }
        if torch:
            given = {"model": model, "loader": False}
            for name, mode in pytorch_modes().items():
                contenders[name] = Contender(pytorch, {**given, **mode}, may_fail=True)
            loading = {"model": model, "loader": True, "bfloat16": False, "compiled": False}
            contenders["PyTorch, float32, eager, DataLoader"] = Contender(pytorch, loading)
        measured = measure(contenders, rounds=options.rounds)
        print(f"\n{model}, {options.rounds} rounds\n", flush=True)
        print(memory_table(measured, unit="s per epoch"), flush=True)
        if torch:
            print(f"\n{verdict(measured)}", flush=True)
    print(f"\nSpeed by length of the run, nn2, {options.rounds} rounds\n", flush=True)
    print(growth(options.rounds), flush=True)


if __name__ == "__main__":
    main()
