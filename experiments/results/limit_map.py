"""Maps by how much each schedule exceeds the limit, over many linear regressions.

A problem is a spectrum, a level of noise, a batch size, and a number of steps. On each, every
schedule gets its own best peak, and a search finds the best of all schedules: the limit.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.results.limit import LOWEST_START, Rates, rates_of_schedule
from experiments.tasks.compiled_risk import excess_risks, knot_steps, optimal_rates_at_knots
from experiments.tasks.expected_risk import Problem, power_law

PEAKS = np.geomspace(1e-5, 1e2, 85)
REFINEMENTS = 3  # finer grids between the neighbors of the best peak
REFINED = 11  # peaks of each, with these neighbors
CYCLES = 5
WITH_CYCLES = ("log (paper)", "log (normalized)", "cosine (restarts)")
WARMUP = 0.05  # of the run, in the schedules with a warmup
WARMUP_INIT = 0.1  # of the peak
MIN_STEPS = 2 * CYCLES  # a cycle has two steps
EXACT_STEPS = 128  # up to which every step of the limit is free
KNOTS = 64  # of the limit of longer runs
COLUMNS = (
    *("dimensions", "exponent", "noise", "batch_size", "steps", "method", "warmup"),
    *("peak", "risk", "excess", "limit", "spread"),
)
KEY = list(COLUMNS[:5])


class Point(NamedTuple):
    """A problem of the map.

    Attributes:
      dimensions: number of eigenvalues of the inputs' covariance.
      exponent: decay of these eigenvalues.
      noise: standard deviation of the labels' noise.
      batch_size: examples per step.
      steps: steps of the run.
    """

    dimensions: int
    exponent: float
    noise: float
    batch_size: int
    steps: int

    def problem(self) -> Problem:
        """Returns the regression, without the length of the run."""
        return Problem(power_law(self.dimensions, self.exponent), self.noise, self.batch_size)

    def time_constants(self) -> float:
        """Returns the length of the run in time constants of its slowest direction.

        They are those of a constant rate of 2 / ((1 + 1/B) l_1 + (sum over all l) / B), with the
        eigenvalues l and the batch size B. This is about the largest stable rate.

        >>> round(Point(100, 0.5, 0.1, 16, 1000).time_constants())
        90
        """
        eigenvalues, _, batch_size = self.problem()
        curvature = (1 + 1 / batch_size) * eigenvalues[0] + eigenvalues.sum() / batch_size
        return float(self.steps * 2 / curvature * eigenvalues[-1])


def schedules(num_steps: int, warmup: float) -> dict[str, Rates]:
    """Returns the methods of the map, which decay to 0 if they can.

    Args:
      num_steps: steps of the run, at least `MIN_STEPS`.
      warmup: fraction of the run in which the rate rises from a tenth of the peak; 0 for none.

    Returns:
      Name -> function from peaks to learning rates.
    """
    warmup_steps = round(warmup * num_steps)
    length = (num_steps - warmup_steps) // CYCLES
    cycles = {"init_decay_steps": length, "restart_interval": length}

    def of(name: str, **options: Any) -> Rates:
        return rates_of_schedule(
            name,
            num_steps,
            warmup_steps=warmup_steps,
            warmup_init_fraction=WARMUP_INIT,
            **options,
        )

    return {
        "log (paper)": of("cyclical_log_annealing", variant="paper", **cycles),
        "log (normalized)": of("cyclical_log_annealing", **cycles),
        "log (one cycle)": of("log_annealing"),
        "cosine": of("cosine"),
        "cosine (restarts)": of("cyclical_cosine", **cycles),
        "sigmoid": of("sigmoid"),
        "wsd": of("trapezoid", cooldown="1-sqrt"),
        "linear": of("linear"),
        "constant": of("constant"),
        "inverse sqrt": of("inverse_sqrt", timescale=max(1, num_steps // 8)),
        "polynomial": of("polynomial", power=2.0),
        "exponential": of("exponential", end_fraction=0.01),
    }


def write_rows(points: Iterable[Point], path: Path) -> pd.DataFrame:
    """Computes the problems that a file does not contain yet, and adds them to it one by one.

    Args:
      points: the problems.
      path: a CSV file, which need not exist.

    Returns:
      The rows of these problems, with the columns `COLUMNS`.
    """
    points = list(points)
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=list(COLUMNS))
    known = set(table[KEY].itertuples(index=False, name=None))
    missing = [point for point in points if tuple(point) not in known]
    for rows in compute(missing):
        table = pd.concat([table, rows]) if len(table) else rows
        unfinished = path.with_suffix(".tmp")
        table.to_csv(unfinished, index=False, float_format="%.10g")
        unfinished.replace(path)
    table = pd.read_csv(path)
    wanted = {tuple(point) for point in points}
    keys = table[KEY].itertuples(index=False, name=None)
    return table[[key in wanted for key in keys]].reset_index(drop=True)


def compute(points: Sequence[Point]) -> Iterator[pd.DataFrame]:
    """Yields the rows of each problem; those of the same length come together.

    Args:
      points: the problems.

    Yields:
      One row for each method with and without warmup, with the columns `COLUMNS`.
    """
    for num_steps in dict.fromkeys(point.steps for point in points):
        methods = {
            (name, warmup): rates_of
            for warmup in (0.0, WARMUP)
            for name, rates_of in schedules(num_steps, warmup).items()
        }
        grid = np.stack([rates_of(PEAKS) for rates_of in methods.values()])
        for point in points:
            if point.steps == num_steps:
                yield _rows(point, methods, grid)


def _rows(point: Point, methods: dict[tuple[str, float], Rates], grid: np.ndarray) -> pd.DataFrame:
    problem = point.problem()
    peaks, risks = best_peaks(list(methods.values()), problem, grid)
    limit, spread = _limit(point, methods, peaks, risks)
    names, warmups = zip(*methods, strict=True)
    given = {name: [value] * len(names) for name, value in point._asdict().items()}
    found = {"peak": peaks, "risk": risks, "excess": risks / limit - 1}
    ends = {"limit": [limit] * len(names), "spread": [spread] * len(names)}
    return pd.DataFrame(given | {"method": names, "warmup": warmups} | found | ends)


def best_peaks(
    methods: Sequence[Rates], problem: Problem, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the peak of each method with the lowest expected excess risk.

    Args:
      methods: functions from peaks to learning rates.
      problem: the regression.
      grid: float64 [methods, peaks, steps], the learning rates at `PEAKS`.

    Returns:
      The peaks and their risks, float64 [methods].

    Raises:
      ValueError: a best peak is at an edge of the grid.
    """
    rows = np.arange(len(methods))
    peaks = np.tile(PEAKS, (len(methods), 1))
    risks = _risks(grid, problem)
    best = np.argmin(risks, axis=1)
    if np.isin(best, (0, len(PEAKS) - 1)).any():
        raise ValueError(f"a best peak is not within {PEAKS[0]:.3g}..{PEAKS[-1]:.3g}")
    for _ in range(REFINEMENTS):
        peaks = np.geomspace(peaks[rows, best - 1], peaks[rows, best + 1], REFINED, axis=1)
        tables = zip(methods, peaks, strict=True)
        risks = _risks(np.stack([rates_of(row) for rates_of, row in tables]), problem)
        # Rounding may make an end the best, which is a neighbor of the best peak before.
        best = np.argmin(risks, axis=1).clip(1, REFINED - 2)
    return peaks[rows, best], risks[rows, best]


def _risks(rates: np.ndarray, problem: Problem) -> np.ndarray:
    """Returns the risks [methods, peaks] of learning rates [methods, peaks, steps]."""
    return excess_risks(rates.reshape(-1, rates.shape[-1]), problem).reshape(rates.shape[:-1])


def _limit(
    point: Point, methods: dict[tuple[str, float], Rates], peaks: np.ndarray, risks: np.ndarray
) -> tuple[float, float]:
    """Returns the risk of the limit, and by which fraction the searches differ."""
    names = list(methods)
    without_cycles = [row for row, (name, _) in enumerate(names) if name not in WITH_CYCLES]
    best = min(without_cycles, key=lambda row: risks[row])
    starts = [
        np.maximum(methods[names[row]](peaks[row]), LOWEST_START * peaks[row])
        for row in dict.fromkeys((best, names.index(("linear", 0.0))))
    ]
    free = point.steps <= EXACT_STEPS
    knots = knot_steps(point.steps, point.steps if free else KNOTS)
    found = optimal_rates_at_knots(starts, point.problem(), knots)
    return found.risk, found.spread
