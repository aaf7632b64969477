"""Measures the gradient-noise scale during training, beside the learning rate.

    taskset -c 0 python -m docs.results.noise

Trains the ten final seeds of four methods on the long task of the teacher, at their tuned peaks.
Every 1,024 steps, it computes the gradient of each of 65,536 training examples, and writes the
simple noise scale of McCandlish et al. 2018 (equation 2.9) to docs/results/data/noise.csv:

    noise scale = trace(covariance of the gradients) / |mean gradient|^2

In a batch of this size, the noise of the mean gradient is as large as the mean gradient itself.
Everything else here reads that file.
"""

import csv
import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from docs.results import stored, teacher
from docs.results.stored import DATA, ROOT
from experiments.results import style, tables

NAME = "teacher"
METHODS = ("cosine", "constant", "log (one cycle)", "log (normalized)")
CSV = ROOT / DATA / "noise.csv"
COLUMNS = ("method", "seed", "step", "learning_rate", "noise_scale")
STEPS_BETWEEN = 1024
EXAMPLES = 2**16
HEIGHT_INCHES = 3.0


def record() -> None:
    """Trains the trials, and writes the file."""
    from configs.sweeps import comparison
    from experiments.build.sweeps import read_sweep
    from experiments.program import parallel, switches
    from experiments.sweeping import trials

    switches.pin()
    sweep = read_sweep(comparison.get_config(NAME))
    mesh = trials.make_mesh()
    replicated = trials.replicated(mesh)
    rows = []
    for method in METHODS:
        peak = {"schedule.peak_value": float(stored.load(NAME).peak(method))}
        experiments = sweep.experiments(method, peak, sweep.seeds)
        programs = trials.make_programs(experiments[0], mesh, trials.one_after_another)
        split = parallel.to_devices(experiments[0].task.load().train, replicated)
        some = jax.tree.map(lambda array: array[:EXAMPLES], split)
        scales = jax.jit(
            lambda params, some: jax.lax.map(lambda one: noise_scale(one, some), params)
        )
        block = trials.make_block(experiments)
        rates = np.asarray(block.learning_rates)
        state = programs.init(block)
        orders = programs.order(state)  # the run is one epoch
        for step in range(0, experiments[0].num_steps, STEPS_BETWEEN):
            for index, scale in enumerate(np.asarray(scales(state.params, some))):
                values = (f"{rates[index, step]:.6g}", f"{scale:.6g}")
                rows.append((method, sweep.seeds[index], step, *values))
            state, _ = programs.train(
                state, block, split, orders, parallel.count(STEPS_BETWEEN, replicated)
            )
    with CSV.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def noise_scale(params: optax.Params, examples: dict[str, jax.Array]) -> jax.Array:
    """Returns the simple noise scale of the squared error, in examples.

    Args:
      params: parameters of the student.
      examples: `x`, float32 [examples, inputs]; `y`, float32 [examples].
    """

    def error(params: optax.Params, x: jax.Array, y: jax.Array) -> jax.Array:
        return (teacher.Network().apply({"params": params}, x) - y) ** 2

    gradients = jax.vmap(jax.grad(error), (None, 0, 0))(params, examples["x"], examples["y"])
    flat = jnp.concatenate(
        [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(gradients)], axis=1
    )
    trace = flat.var(0, ddof=1).sum()
    # The mean of some examples has noise of its own.
    squared_norm = (flat.mean(0) ** 2).sum() - trace / len(flat)
    return trace / squared_norm


@functools.cache
def load() -> pd.DataFrame:
    """Returns the recorded scales."""
    return pd.read_csv(CSV)


def median_by_step(method: str, column: str) -> pd.Series:
    """Returns the median over the seeds of a column, by step."""
    return load()[load().method == method].groupby("step")[column].median()


def table() -> str:
    """Returns the noise scale and the learning rate in quarters of the run, one row per method."""
    rows = []
    for method in METHODS:
        scales, rates = (median_by_step(method, name) for name in COLUMNS[-2:][::-1])
        row = {"method": method}
        for quarter in range(5):
            step = scales.index[min(quarter * len(scales) // 4, len(scales) - 1)]
            row[f"step {step:,}"] = f"{scales[step]:,.0f} at {rates[step]:.3g}"
        rows.append(row)
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def png() -> bytes:
    """Returns the figure: the noise scale and the learning rate of all methods by step."""
    figure = style.make_figure(HEIGHT_INCHES)
    scales, rates = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for place, method in enumerate(METHODS):
        color = style.PALETTE[place]
        scales.plot(median_by_step(method, "noise_scale"), color=color, label=method)
        rates.plot(median_by_step(method, "learning_rate"), color=color)
    scales.set_ylabel("noise scale (examples)", fontsize=style.NORMAL)
    rates.set_ylabel("learning rate", fontsize=style.NORMAL)
    rates.set_xlabel("step", fontsize=style.NORMAL)
    scales.legend(fontsize=style.SMALL)
    for axis in (scales, rates):
        axis.set_yscale("log")
        axis.grid(color=style.GRID, linewidth=0.6)
        style.tidy(axis)
    with io.BytesIO() as picture:
        figure.savefig(picture, format="png")
        return picture.getvalue()


if __name__ == "__main__":
    record()
