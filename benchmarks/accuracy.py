"""Trains ResNet-18 in bfloat16 on CIFAR-10, and reports its accuracy and the time to reach it.

    python -m benchmarks.gpu --part=accuracy [--data_dir=DIR] [--epochs=200]

One run in batches of 512 is evaluated after every epoch. Times begin after compilation, before the
first step.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks import trainer
from experiments.data import datasets
from experiments.errors import UserError
from experiments.program.alarm import SILENT

MODEL, BATCH_SIZE, EVAL_BATCH_SIZE = "resnet18", 512, 1000
THRESHOLDS = (0.94, 0.96)
# Goyal et al. 2017 (arXiv:1706.02677): the learning rate grows with the batch, from 0.1 for 128.
PEAK_LEARNING_RATE, WARMUP_EPOCHS = 0.4, 5


class Epoch(NamedTuple):
    """The result of an epoch.

    Attributes:
      number: number of the epoch, from 1.
      accuracy: accuracy on the test split.
      train_seconds: seconds of training so far.
      seconds: seconds of training and evaluation so far.
    """

    number: int
    accuracy: float
    train_seconds: float
    seconds: float


def train(
    dataset: datasets.Dataset,
    *,
    epochs: int,
    model: str = MODEL,
    batch_size: int = BATCH_SIZE,
    eval_batch_size: int = EVAL_BATCH_SIZE,
    peak_value: float = PEAK_LEARNING_RATE,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Epoch]:
    """Trains with Nesterov momentum, a warmup, and cosine annealing to 0.

    Args:
      dataset: uint8 images of ten classes.
      epochs: number of epochs.
      model: name of the network.
      batch_size: images per step.
      eval_batch_size: images per evaluation batch.
      peak_value: the largest learning rate.
      clock: returns the time in seconds.

    Yields:
      The result of each epoch.

    Raises:
      UserError: a loss or a parameter is infinite or NaN.
    """
    config = trainer.config_of(model, batch_size=batch_size, augment=True)
    config.eval_batch_size = eval_batch_size
    config.model.dtype = "bfloat16"
    config.optimizer.nesterov = True
    steps = len(dataset.train_labels) // batch_size
    warmup = min(WARMUP_EPOCHS, epochs // 2)
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak_value, warmup * steps, epochs * steps)
    made = trainer.make(config, dataset, schedule)
    state, (train_split, test_split) = made.state, made.splits
    # Compile both programs on a copy, because training donates its state.
    order = made.order(state)
    warm, *_ = made.train(jax.tree.map(jnp.copy, state), train_split, order, 1)
    jax.block_until_ready(made.evaluate(warm, test_split))
    del warm
    train_seconds = seconds = 0.0
    for number in range(1, epochs + 1):
        started = clock()
        order = made.order(state)
        state, _, alarm = jax.block_until_ready(made.train(state, train_split, order, steps))
        trained = clock()
        metrics = jax.device_get(made.evaluate(state, test_split)).compute()
        train_seconds += trained - started
        seconds += clock() - started
        if alarm.step != SILENT or not alarm.finite:
            raise UserError(f"training diverged in epoch {number}")
        yield Epoch(number, float(metrics["accuracy"]), train_seconds, seconds)


def milestones(epochs: Iterable[Epoch], thresholds: Sequence[float]) -> Iterator[tuple[str, Epoch]]:
    """Yields the first epoch that reaches each threshold, as soon as it ends, and the last epoch.

    >>> epochs = [Epoch(1, 0.5, 1.0, 1.5), Epoch(2, 0.95, 2.0, 3.0), Epoch(3, 0.9, 3.0, 4.5)]
    >>> [(what, epoch.number) for what, epoch in milestones(epochs, (0.94, 0.96))]
    [('94% reached', 2), ('end', 3)]
    """
    waiting = sorted(thresholds)
    for epoch in epochs:
        while waiting and epoch.accuracy >= waiting[0]:
            yield f"{waiting.pop(0):.0%} reached", epoch
    yield "end", epoch


def report(epochs: Iterable[Epoch], thresholds: Sequence[float] = THRESHOLDS) -> None:
    """Prints a table of the milestones, each row as soon as it is known."""
    print("| | test accuracy | epoch | training, s | training and evaluation, s |")
    print("|---|---|---|---|---|", flush=True)
    for what, epoch in milestones(epochs, thresholds):
        print(
            f"| {what} | {epoch.accuracy:.2%} | {epoch.number} | {epoch.train_seconds:.1f} "
            f"| {epoch.seconds:.1f} |",
            flush=True,
        )


def cifar10(data_dir: str | None, epochs: int) -> None:
    """Trains on CIFAR-10 and prints the report.

    Args:
      data_dir: directory of prepared tensorflow-datasets; None for their default.
      epochs: number of epochs.
    """
    dataset = datasets.load(datasets.describe("cifar10", data_dir=data_dir, image_size=None))
    print(
        f"{MODEL}, batch {BATCH_SIZE}, bfloat16, {epochs} epochs, SGD with Nesterov momentum 0.9 "
        f"and weight decay 5e-4, random crops and flips. Learning rate: warmup to "
        f"{PEAK_LEARNING_RATE} over {min(WARMUP_EPOCHS, epochs // 2)} epochs, then cosine "
        "annealing to 0. One trial, so there is no interval. Times exclude compilation.\n"
    )
    report(train(dataset, epochs=epochs))
