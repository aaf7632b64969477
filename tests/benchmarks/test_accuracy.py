"""The accuracy benchmark, on a small data set that a small network learns."""

import itertools

import numpy as np
import pytest

from benchmarks import accuracy
from experiments.data.datasets import Dataset
from experiments.errors import UserError

OPTIONS = {"model": "nn2", "batch_size": 16, "eval_batch_size": 40}


def bright_images(num_images):
    """Returns images whose class is their brightness, which crops and flips do not change."""
    labels = np.random.default_rng(0).integers(0, 10, num_images, np.int32)
    brightness = (25 * labels).astype(np.uint8)[:, None, None, None]
    images = np.broadcast_to(brightness, (num_images, 28, 28, 1))
    return Dataset(images, labels, images[:100], labels[:100])


def test_report_shows_accuracy_and_times_of_a_run_that_learns(capsys):
    # Each reading of this clock is a second later than the one before.
    clock = itertools.count().__next__
    data = bright_images(256)
    epochs = list(accuracy.train(data, epochs=4, peak_value=0.02, clock=clock, **OPTIONS))
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert [epoch.train_seconds for epoch in epochs] == [1, 2, 3, 4]
    assert [epoch.seconds for epoch in epochs] == [2, 4, 6, 8]
    assert epochs[-1].accuracy > 0.15
    accuracy.report(epochs, thresholds=(0.15, 1.1))
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| 15% reached", "| end"]


def test_divergence_ends_the_run():
    with pytest.raises(UserError, match="training diverged in epoch 1"):
        list(accuracy.train(bright_images(32), epochs=1, peak_value=float("inf"), **OPTIONS))


def test_milestones_are_the_first_epoch_at_each_threshold_and_the_last_epoch():
    epochs = [
        accuracy.Epoch(number, value, 0.0, 0.0)
        for number, value in enumerate((0.5, 0.95, 0.93, 0.97, 0.9), start=1)
    ]
    found = [(name, epoch.number) for name, epoch in accuracy.milestones(epochs, (0.96, 0.94, 1))]
    assert found == [("94% reached", 2), ("96% reached", 4), ("end", 5)]
