"""Whole epochs of MNIST on a CPU, input pipeline included, beside PyTorch; and how the cost grows.

    pip install -e '.[benchmarks]' -c constraints.txt
    TFDS_DATA_DIR=... python -m benchmarks.epoch [--models=nn2,lenet4] [--rounds=5]

An epoch draws an order, gathers 468 batches of 128 uint8 images, normalises and trains on them, in
float32, with SGD, momentum 0.9 and weight decay. Ours does that in the dispatches of a run, fifty
steps each. PyTorch has the images in memory, channels last, and gathers batches of them, or takes
them one by one from a DataLoader. The second table is ours alone: images a second of runs of
several lengths and of several data sets, of NN-2 on random images.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from benchmarks.side_by_side import Contender, environment, measure, table, timed
from benchmarks.train_step import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY

if TYPE_CHECKING:
    from experiments.data.datasets import Dataset

BATCH_SIZE = 128
LENGTHS = ((1, 5_000), (20, 5_000), (1, 50_000), (20, 50_000))  # epochs and images


def mnist() -> "Dataset":
    """The real data set, from where tensorflow-datasets has it."""
    from experiments.data import datasets

    return datasets.load(datasets.describe("mnist", data_dir=None, image_size=None))


def runner(model: str, dataset: "Dataset") -> Callable[[int], None]:
    """A function that trains so many epochs more, as `experiments.train` does."""
    import jax

    from benchmarks import trainer
    from experiments import parallel

    config = trainer.config_of(model, batch_size=BATCH_SIZE, augment=False)
    made = trainer.make(config, dataset, LEARNING_RATE)
    steps = len(dataset.train_labels) // BATCH_SIZE
    state = made.state

    def run(epochs: int) -> None:
        nonlocal state
        for _ in range(epochs):
            order = made.order(state)
            for start, stop in parallel.pieces(0, steps, config.log_every_steps):
                state, metrics, _ = made.train(state, made.splits[0], order, stop - start)
        jax.block_until_ready((state, metrics))

    return run


def ours(model: str) -> Callable[[], float]:
    """Epochs of `experiments.train`."""
    run = runner(model, mnist())
    return timed(lambda: run(1))


def pytorch(model: str, loader: bool) -> Callable[[], float]:
    """Epochs of PyTorch, which gathers batches or has a DataLoader do it."""
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
    by_loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(images, labels), BATCH_SIZE, shuffle=True, drop_last=True
    )

    def epoch() -> None:
        batches: Iterable[Any] = by_loader if loader else peer.batches(images, labels, BATCH_SIZE)
        for batch, own_labels in batches:
            loss = peer.train(network, optimizer, (batch.float() - mean) / std, own_labels)
        loss.item()

    return timed(epoch)


def growth(rounds: int) -> str:
    """A Markdown table of images a second by epochs and images of a run, which take turns."""
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
    rows = ["| epochs | images | images/s, median (least to most) |", "|---|---|---|"]
    for (epochs, number), values in speeds.items():
        rows.append(
            f"| {epochs} | {number:,} | {statistics.median(values):,.0f} "
            f"({min(values):,.0f} to {max(values):,.0f}) |"
        )
    return "\n".join(rows)


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description="Epochs of MNIST beside PyTorch, on a CPU.")
    parser.add_argument("--models", default="nn2,lenet4", help="names, separated by commas")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    options = parser.parse_args()
    print(environment("jax", "flax", "optax", "torch"), flush=True)
    for model in options.models.split(","):
        seconds = measure(
            {
                "loganneal_jax": Contender(ours, {"model": model}),
                "PyTorch": Contender(pytorch, {"model": model, "loader": False}),
                "PyTorch, DataLoader": Contender(pytorch, {"model": model, "loader": True}),
            },
            rounds=options.rounds,
        )
        print(f"\n{model}, {options.rounds} rounds\n", flush=True)
        print(table(seconds, unit="s an epoch"), flush=True)
    print(f"\nGrowth, nn2, {options.rounds} rounds\n", flush=True)
    print(growth(options.rounds), flush=True)


if __name__ == "__main__":
    main()
