"""Records the training loss of every step, and shows what a restart does to it.

    taskset -c 0 python -m docs.results.restarts

Trains the ten final seeds of log (normalized) and of cosine on 500 steps of tiny Shakespeare, at
their tuned peaks, and writes docs/results/data/restarts.csv. Everything else here reads that file.
"""

import csv
import functools
import io

import numpy as np
import pandas as pd

from docs.results import comparison_tables, stored
from docs.results.stored import DATA, ROOT
from experiments.results import style, tables

NAME = "shakespeare_500"
METHODS = ("log (normalized)", "cosine")
CSV = ROOT / DATA / "restarts.csv"
COLUMNS = ("method", "seed", "step", "learning_rate", "loss")
# Steps relative to a restart; the steps from 0 on are after it.
WINDOWS = ((-10, 0), (0, 5), (5, 10), (10, 20), (20, 40), (40, 80))
HEIGHT_INCHES = 3.0
SMOOTHED = 5  # steps whose mean the figure shows


def record() -> None:
    """Trains the trials, one step at a time, and writes the file."""
    import jax

    from configs.sweeps import comparison
    from experiments.build.sweeps import read_sweep
    from experiments.program import parallel, switches
    from experiments.sweeping import trials

    switches.pin()
    sweep = read_sweep(comparison.get_config(NAME))
    mesh = trials.make_mesh()
    rows = []
    for method in METHODS:
        peak = {"schedule.peak_value": float(stored.load(NAME).peak(method))}
        experiments = [sweep.experiment(method, peak, seed) for seed in sweep.seeds]
        programs = trials.make_programs(experiments[0], mesh, trials.one_after_another)
        replicated = trials.replicated(mesh)
        split = parallel.to_devices(experiments[0].task.load().train, replicated)
        block = trials.make_block(experiments)
        rates = np.asarray(block.learning_rates)
        state = programs.init(block)
        orders = programs.order(state)  # 500 steps are less than an epoch
        for step in range(experiments[0].num_steps):
            state, metrics = programs.train(
                state, block, split, orders, parallel.count(1, replicated)
            )
            losses = trials.means({"train": [jax.device_get(metrics)]})["train_loss"]
            for index, seed in enumerate(sweep.seeds):
                values = (f"{rates[index, step]:.6g}", f"{losses[index]:.6g}")
                rows.append((method, seed, step, *values))
    with CSV.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


@functools.cache
def load() -> pd.DataFrame:
    """Returns the recorded steps."""
    return pd.read_csv(CSV)


def restarts() -> np.ndarray:
    """Returns the steps at which log (normalized) restarts."""
    rates = _mean_by_step(METHODS[0], "learning_rate")
    peaks = np.flatnonzero(rates == rates.max())
    return peaks[1:]


def around() -> np.ndarray:
    """Returns the loss around a restart, the mean over restarts: [seeds, windows]."""
    steps = load()[load().method == METHODS[0]]
    losses = steps.pivot(index="seed", columns="step", values="loss").to_numpy()
    return np.stack(
        [
            np.mean([losses[:, at + low : at + high].mean(1) for at in restarts()], axis=0)
            for low, high in WINDOWS
        ],
        axis=1,
    )


def table() -> str:
    """Returns the training loss in windows around a restart."""
    found = around()
    rows = [
        {
            "steps after the restart": f"{low} to {high - 1}",
            "training loss": f"{found[:, index].mean():.3f}",
            "change": "" if index == 0 else _change(index),
        }
        for index, (low, high) in enumerate(WINDOWS)
    ]
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def claims() -> list[str]:
    """Returns what docs/results/tiny_shakespeare.md says of the recorded steps."""
    rise, fall = _change(1).removeprefix("+"), _change(len(WINDOWS) - 1).removeprefix("-")
    return [
        f"The loss rises by {rise} in the first five steps",
        f"From 40 steps on, it is lower than before the restart, by {fall}",
    ]


def _change(index: int) -> str:
    found = around()
    return comparison_tables.with_interval(found[:, index] - found[:, 0], sign="+")


def png() -> bytes:
    """Returns the figure: the smoothed loss and the learning rate of both methods by step."""
    figure = style.make_figure(HEIGHT_INCHES)
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for place, method in enumerate(METHODS):
        smooth = np.convolve(_mean_by_step(method, "loss"), np.ones(SMOOTHED) / SMOOTHED, "valid")
        color = style.PALETTE[place]
        losses.plot(np.arange(len(smooth)) + SMOOTHED // 2, smooth, color=color, label=method)
        rates.plot(_mean_by_step(method, "learning_rate"), color=color)
    losses.set_ylim(1.9, 3.0)
    losses.set_ylabel("training loss (nats)", fontsize=style.NORMAL)
    rates.set_ylabel("learning rate", fontsize=style.NORMAL)
    rates.set_xlabel("step", fontsize=style.NORMAL)
    losses.legend(fontsize=style.SMALL)
    for axis in (losses, rates):
        axis.grid(color=style.GRID, linewidth=0.6)
        style.tidy(axis)
    with io.BytesIO() as picture:
        figure.savefig(picture, format="png")
        return picture.getvalue()


def _mean_by_step(method: str, column: str) -> np.ndarray:
    steps = load()[load().method == method]
    return steps.groupby("step")[column].mean().to_numpy()


if __name__ == "__main__":
    record()
