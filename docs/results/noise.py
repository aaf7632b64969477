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
from docs.results.stored import DATA, ROOT, word
from experiments.results import style, tables

NAME = "teacher"
METHODS = ("cosine", "constant", "log (one cycle)", "log (normalized)")
CSV = ROOT / DATA / "noise.csv"
COLUMNS = ("method", "seed", "step", "learning_rate", "noise_scale")
STEPS_BETWEEN = 1024
EXAMPLES = 2**16
FIVE = "log (normalized)"
FIRST_STEP = 4096  # until then, the network finds its hidden units
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


def correlation(method: str) -> float:
    """Returns the correlation of the logarithms of the rate and the noise scale, after the start.

    Args:
      method: one of `METHODS`. Its values are the medians over the seeds.
    """
    scales, rates = (median_by_step(method, name) for name in ("noise_scale", "learning_rate"))
    late = scales.index >= FIRST_STEP
    return float(np.corrcoef(np.log(scales[late]), np.log(rates[late]))[0, 1])


def drops() -> np.ndarray:
    """Returns the factors by which the scale of log (normalized) falls at its restarts."""
    scales, rates = (median_by_step(FIVE, name) for name in ("noise_scale", "learning_rate"))
    late = scales.index >= FIRST_STEP
    scales, rates = scales[late].to_numpy(), rates[late].to_numpy()
    before = np.flatnonzero(np.diff(rates) > 0)
    return scales[before] / scales[before + 1]


def claims() -> list[str]:
    """Returns what docs/results/teacher.md says of the recorded scales."""
    last = {method: median_by_step(method, "noise_scale").iloc[-1] for method in METHODS}
    first = median_by_step("cosine", "noise_scale").loc[STEPS_BETWEEN:].iloc[0]
    below = min(load()[load().step > 0].noise_scale)
    cosine, one, five = map(correlation, ("cosine", "log (one cycle)", FIVE))
    return [
        f"With cosine, it rises from {first:,.0f} after 1,024 steps to {last['cosine']:,.0f}",
        f"With a constant rate, it ends at {last['constant']:,.0f}",
        f"is {cosine:.2f} for cosine, {one:.2f} for one cycle, and {five:.2f} for five",
        f"At the {word(len(drops()))} restarts, the noise scale falls by factors of "
        f"{drops().min():.0f} to {drops().max():.0f}",
        f"the smallest scale after the first step is {below:.0f}",
    ]


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
