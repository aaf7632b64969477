"""Computes the learning rate of every step of a method, so that figures show spikes at restarts."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.results.methods import Config

SECTION = "schedule."
MAX_STEPS = 10_000_000
COLUMNS = 400  # about one per pixel of a panel
# Relative to the highest rate. Stored rates are float32, and XLA rounds differently on each device.
TOLERANCE = 1e-5


class Rates(NamedTuple):
    """The learning rates of a method.

    Attributes:
      epochs: position of each value, `[n]`.
      values: learning rates, `[n]`.
      every_step: whether the values show every step, and not only the ends of epochs.
    """

    epochs: np.ndarray
    values: np.ndarray
    every_step: bool


def of_method(trials: pd.DataFrame, config: Config | None) -> Rates:
    """Returns the learning rates of the trials of a method, which share one schedule.

    Args:
      trials: rows of the final trials, with the columns `epoch`, `step`, and `learning_rate`.
      config: the config of the trials by dotted field, or None if it is not known exactly.

    Returns:
      The rates of every step, if the schedule can be rebuilt from the config and agrees with the
      rates that the trials stored. Otherwise, the stored rates, at the ends of epochs.
    """
    stored = trials.groupby("step").agg({"epoch": "first", "learning_rate": "mean"})
    steps, epochs = stored.index.to_numpy(dtype=int), stored.epoch.to_numpy()
    rates = stored.learning_rate.to_numpy()
    values = None if config is None else _rebuilt(config, steps, epochs)
    finite = np.isfinite(rates)
    if values is None or not np.allclose(
        values[steps - 1][finite], rates[finite], rtol=0, atol=TOLERANCE * np.abs(values).max()
    ):
        return Rates(epochs, rates, every_step=False)
    positions, values = envelope(values)
    return Rates(positions * epochs[-1] / steps[-1], values, every_step=True)


def _rebuilt(config: Config, steps: np.ndarray, epochs: np.ndarray) -> np.ndarray | None:
    """Returns the rate of every step, or None if today's code cannot build the schedule."""
    # They import jax, which takes seconds, and which nothing else in a report needs.
    from experiments.build.schedules import Run
    from experiments.build.stored import learning_rates

    if steps[-1] > MAX_STEPS:
        return None
    fields = {
        name.removeprefix(SECTION): value
        for name, value in config.items()
        if name.startswith(SECTION)
    }
    run = Run(round(steps[0] / epochs[0]), int(steps[-1]))
    try:
        return learning_rates(fields, run)
    # An older version stored other fields, or the schedule is the user's own and has changed. The
    # figure then says that it shows the ends of epochs.
    except Exception:
        return None


def envelope(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reduces a long curve to the lowest and highest value of each column of a figure.

    Args:
      values: `[num_steps]`.

    Returns:
      The steps that are kept, in order, and their values. A short curve is returned whole.

    >>> steps, _ = envelope(np.zeros(10_000))
    >>> len(steps) <= 2 * COLUMNS
    True
    """
    if len(values) <= 2 * COLUMNS:
        return np.arange(len(values)), values
    edges = np.linspace(0, len(values), COLUMNS + 1).astype(int)
    kept = set()
    for start, stop in itertools.pairwise(edges):
        column = values[start:stop]
        kept |= {start + int(np.argmin(column)), start + int(np.argmax(column))}
    steps = np.array(sorted(kept))
    return steps, values[steps]


def missing(rates: Mapping[str, Rates]) -> list[str]:
    """Returns the methods whose rates are known at the ends of epochs only."""
    return sorted(method for method, of in rates.items() if not of.every_step)
