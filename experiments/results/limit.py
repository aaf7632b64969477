"""Compares every schedule with the best of all schedules, on linear regression without sampling."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import scipy.optimize
from jax.typing import ArrayLike
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

import loganneal_jax
from experiments.tasks.expected_risk import Optimum, Problem, excess_risk, optimal_rates

Rates = Callable[[ArrayLike], np.ndarray]  # peak values [...] -> learning rates [..., steps]

GRID = np.geomspace(1e-3, 10.0, 61)
MAX_EXTENSIONS = 8  # of the grid, by its own width
STARTS = ("constant", "cosine", "log annealing, normalized")
DRAWN = ("log annealing, normalized", "cosine", "constant")
LOWEST_START = 1e-3  # of the peak, because the search needs positive rates
INCHES = (3.6, 9.5)
COLORS = ("#1d4ed8", "#ea580c", "#15803d")


class Fit(NamedTuple):
    """A schedule at its own best peak.

    Attributes:
      peak: the peak learning rate.
      risk: the expected excess risk after the last step.
      rates: float64 [steps].
    """

    peak: float
    risk: float
    rates: np.ndarray


class Comparison(NamedTuple):
    """The schedules on one problem.

    Attributes:
      limit: the best of all schedules.
      fits: name -> the schedule at its best peak.
    """

    limit: Optimum
    fits: Mapping[str, Fit]

    def excess(self, name: str) -> float:
        """Returns by which fraction the risk of a schedule exceeds the limit."""
        return self.fits[name].risk / self.limit.risk - 1


def schedules(num_steps: int) -> dict[str, Rates]:
    """Returns the schedules of the library that have a peak and fit a run, by name.

    All decay to 0 if they can, so that only the peak is left to tune.

    Args:
      num_steps: steps of the run, at least 8.

    Returns:
      Name -> function from peaks to learning rates.
    """
    quarter, eighth = num_steps // 4, num_steps // 8

    def of(name: str, **options: Any) -> Rates:
        return rates_of_schedule(name, num_steps, **options)

    cycles = {"init_decay_steps": quarter, "restart_interval": quarter}
    return {
        "constant": of("constant"),
        "cosine": of("cosine"),
        "cosine, 4 cycles": of("cosine_restarts", num_cycles=4),
        "exponential to 1%": of("exponential", end_fraction=0.01),
        "inverse square root": of("inverse_sqrt", timescale=eighth),
        "inverse time": of("inverse_time", time_steps=eighth, decay_rate=1.0),
        "linear": of("linear"),
        "log annealing, normalized": of("log_annealing"),
        "log annealing, normalized, 4 cycles": of("cyclical_log_annealing", **cycles),
        "log annealing, paper": of("log_annealing", variant="paper"),
        "log annealing, paper, 4 cycles": of("cyclical_log_annealing", variant="paper", **cycles),
        "one cycle": of("one_cycle"),
        "polynomial, power 2": of("polynomial", power=2.0),
        "repeated sigmoid, 2 cycles": of("repeated_sigmoid"),
        "rex": of("rex"),
        "sigmoid": of("sigmoid"),
        "staircase at 50% and 75%": of("staircase", boundaries=[2 * quarter, 3 * quarter]),
        "tanh": of("tanh"),
        "trapezoid": of("trapezoid"),
        "trapezoid, 1-sqrt": of("trapezoid", cooldown="1-sqrt"),
        "triangular, 4 cycles": of("triangular", half_cycle_steps=eighth),
        "warmup of 10%, then cosine": of("cosine", warmup_steps=num_steps // 10),
    }


def rates_of_schedule(
    name: str,
    num_steps: int,
    *,
    warmup_steps: int = 0,
    warmup_init_fraction: float = 0.0,
    **options: Any,
) -> Rates:
    """Returns a compiled function from peaks to the learning rates of a schedule.

    Args:
      name: of the schedule, for `loganneal_jax.make_schedule`.
      num_steps: steps of the run.
      warmup_steps: steps of its linear warmup.
      warmup_init_fraction: first value of the warmup, as a fraction of the peak.
      **options: of `loganneal_jax.make_schedule`.

    Returns:
      The function.
    """

    @jax.jit
    def rates(peaks: jax.Array) -> jax.Array:
        def of_peak(peak: jax.Array) -> jax.Array:
            start = {"warmup_init_value": warmup_init_fraction * peak} if warmup_steps else {}
            schedule = loganneal_jax.make_schedule(
                name,
                peak_value=peak,
                total_steps=num_steps,
                warmup_steps=warmup_steps,
                **start,
                **options,
            )
            return loganneal_jax.tabulate(schedule, num_steps)

        return jax.vmap(of_peak)(peaks)

    return lambda peaks: np.asarray(
        rates(np.atleast_1d(np.asarray(peaks, np.float32))), np.float64
    ).reshape(*np.shape(peaks), num_steps)


def best_peak(rates_of: Rates, problem: Problem) -> Fit:
    """Returns a schedule at the peak with the lowest expected excess risk.

    A grid finds the neighborhood, and grows as long as the best peak is at its edge. Brent's method
    then searches between the neighbors of the best peak.

    Args:
      rates_of: the schedule.
      problem: the regression.

    Returns:
      The fit.

    Raises:
      ValueError: the best peak is outside every grid.
    """

    def risk_of(log_peak: float) -> float:
        return float(excess_risk(rates_of(np.exp(log_peak)), problem))

    grid = GRID
    for _ in range(MAX_EXTENSIONS):
        risks = excess_risk(rates_of(grid), problem)
        best = int(np.argmin(risks))
        if 0 < best < len(grid) - 1:
            break
        factor = GRID[-1] / GRID[0]
        grid = grid / factor if best == 0 else grid * factor
    else:
        raise ValueError(f"the best peak is not within {grid[0]:.3g}..{grid[-1]:.3g}")
    bounds = np.log(grid[best - 1]), np.log(grid[best + 1])
    found = scipy.optimize.minimize_scalar(
        risk_of, bounds=bounds, method="bounded", options={"xatol": 1e-5}
    )
    peak = float(np.exp(found.x)) if found.fun < risks[best] else float(grid[best])
    return Fit(peak, min(float(found.fun), float(risks[best])), rates_of(peak))


def compare(problems: Mapping[str, Problem], num_steps: int) -> dict[str, Comparison]:
    """Tunes every schedule, and finds the best of all schedules.

    Args:
      problems: regressions by name.
      num_steps: steps of a run.

    Returns:
      Name of the problem -> comparison.
    """
    rates_by_name = schedules(num_steps)
    comparisons = {}
    for name, problem in problems.items():
        fits = {each: best_peak(rates_of, problem) for each, rates_of in rates_by_name.items()}
        best = min(fits, key=lambda each: fits[each].risk)
        starts = [
            np.maximum(fits[each].rates, LOWEST_START * fits[each].peak)
            for each in dict.fromkeys((best, *STARTS))
        ]
        comparisons[name] = Comparison(optimal_rates(starts, problem), fits)
    return comparisons


def table(comparisons: Mapping[str, Comparison]) -> str:
    """Returns a Markdown table with one row per schedule, the best on average first.

    Args:
      comparisons: name of the problem -> comparison.

    Returns:
      By how many percent the risk of each schedule exceeds the limit, with the best peak; and in
      the first row, the risk of the limit.
    """
    rows = {
        name: {"limit": f"{compared.limit.risk:.5g}"}
        | {
            each: f"+{100 * compared.excess(each):.2f}% ({fit.peak:.3g})"
            for each, fit in compared.fits.items()
        }
        for name, compared in comparisons.items()
    }
    return pd.DataFrame(rows).loc[["limit", *_in_order(comparisons)]].to_markdown()


def write(comparisons: Mapping[str, Comparison], directory: Path) -> None:
    """Writes the table to `limit.md`, and the figure to `limit.png`.

    Args:
      comparisons: name of the problem -> comparison.
      directory: an existing directory.
    """
    (directory / "limit.md").write_text(table(comparisons) + "\n")
    draw(comparisons).savefig(directory / "limit.png")


def draw(comparisons: Mapping[str, Comparison]) -> Figure:
    """Draws the learning rates of the limit and of a few schedules, and the excess of all.

    Args:
      comparisons: name of the problem -> comparison.

    Returns:
      A figure with one column per problem.
    """
    width, height = INCHES
    figure = Figure(figsize=(width * len(comparisons), height), dpi=110, layout="constrained")
    grid = figure.subplots(2, len(comparisons), sharex="row", sharey="row", squeeze=False)
    names = _in_order(comparisons)
    for (name, compared), rates, excess in zip(comparisons.items(), *grid, strict=True):
        rates.set_title(name, fontsize=11)
        _draw_rates(rates, compared)
        percent = [100 * compared.excess(each) for each in names]
        excess.plot(percent, names, "o", color=COLORS[0], markersize=5)
        excess.set_xscale("log")
        excess.xaxis.set_major_formatter("{x:g}%")
        excess.xaxis.set_minor_formatter(NullFormatter())
        excess.grid(color="#e5e7eb")
        excess.set_xlabel("excess risk over the limit", fontsize=9)
        for axis in (rates, excess):
            axis.spines[["top", "right"]].set_visible(False)
            axis.tick_params(labelsize=9)
    grid[0, 0].set_ylabel("learning rate", fontsize=9)
    # Log annealing spikes far above all others.
    top = max(compared.limit.rates.max() for compared in comparisons.values())
    grid[0, 0].set_ylim(0, 1.3 * top)
    grid[1, 0].invert_yaxis()
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=10)
    return figure


def _draw_rates(axis: Axes, compared: Comparison) -> None:
    axis.plot(compared.limit.rates, color="black", linewidth=2, label="limit")
    for name, color in zip(DRAWN, COLORS, strict=True):
        axis.plot(compared.fits[name].rates, color=color, linewidth=1.2, label=name)
    axis.set_xlabel("step", fontsize=9)


def _in_order(comparisons: Mapping[str, Comparison]) -> Sequence[str]:
    """Returns the schedules by the geometric mean of their risks."""
    names = next(iter(comparisons.values())).fits

    def mean(name: str) -> float:
        risks = [compared.fits[name].risk for compared in comparisons.values()]
        return float(np.mean(np.log(risks)))

    return sorted(names, key=mean)
