"""What the page of linear regression says of its map, with every number recomputed."""

import functools
from typing import NamedTuple

import numpy as np
import pandas as pd

from docs.results.stored import DATA, ROOT, if_true, word
from experiments.results import limit_map
from experiments.results.limit import rates_of_schedule
from experiments.results.limit_map import KEY, PEAKS, REFINED, REFINEMENTS, WARMUP, Point
from experiments.results.limit_map_report import LOG, best_warmups, ratios, tables, winners

STEPS = (100, 1000, 10_000)
PROTOCOL = (*LOG, "cosine", "sigmoid", "wsd", "linear", "constant")  # the methods of protocol.md
LONG = 27  # time constants; no problem has between 17 and 27
# The limits of Newton's method in all 1,000 rates, by `expected_risk.optimal_rates`, for batch size
# 1: exponent, noise -> risk.
EXACT = {
    (1.0, 0.1): 0.010847142259597565,
    (1.0, 1.0): 0.11433132020808971,
    (2.0, 0.1): 0.012019627133401404,
    (2.0, 1.0): 0.03417753327690947,
}


class Map(NamedTuple):
    """The stored map.

    Attributes:
      rows: one for each problem, method, and warmup.
      best: one for each problem and method, with the better warmup.
      problems: one for each problem, with its values as index.
      lengths: the time constants of each problem.
    """

    rows: pd.DataFrame
    best: pd.DataFrame
    problems: pd.DataFrame
    lengths: pd.Series

    @property
    def long(self) -> pd.Index:
        """The problems with many time constants."""
        return self.lengths[self.lengths >= LONG].index

    def against(self, method: str, baseline: str = "cosine") -> pd.Series:
        """Returns by which fraction the risk of a method exceeds that of another."""
        return ratios(self.best, method, baseline) - 1


@functools.cache
def load() -> Map:
    """Returns the stored map."""
    rows = pd.read_csv(ROOT / DATA / "linear_regression" / "map.csv")
    problems = rows.drop_duplicates(KEY).set_index(KEY)
    lengths = [Point(*key).time_constants() for key in problems.index]
    return Map(rows, best_warmups(rows), problems, pd.Series(lengths, problems.index))


def percent(value: float, digits: int = 0) -> str:
    """Returns a fraction in percent.

    >>> percent(12.345), percent(0.0123, 1)
    ('1,234%', '1.2%')
    """
    return f"{100 * value:,.{digits}f}%"


def methods() -> str:
    """Returns the table of all methods, the best on average first."""
    stored = load()
    wins = winners(stored.best)["method"].value_counts()
    medians = stored.rows.groupby(["method", "warmup"])["excess"].median().unstack()
    excess = stored.best.groupby("method")["excess"]
    table = pd.DataFrame(
        {
            "lowest risk on": wins.reindex(medians.index, fill_value=0).map("{} problems".format),
            "median excess, no warmup": medians[0.0].map(percent),
            "median excess, warmup": medians[WARMUP].map(percent),
            "largest excess": excess.max().map(percent),
        }
    )
    in_order = table.loc[excess.median().sort_values().index].reset_index()
    return in_order.to_markdown(index=False, disable_numparse=True)


def of_the_map(section: str) -> str:
    """Returns a table that the command writes, by the start of the line above it."""
    text = tables(load().rows)
    return text[text.index(section) :].split("\n\n")[1].rstrip()


def claims() -> list[str]:
    """Returns the claims of the page."""
    return [*_protocol(), *_one_cycle(), *_five_cycles(), *_others(), *_limits(), end_value()]


def _protocol() -> list[str]:
    stored = load()
    noises = sorted(set(stored.rows["noise"]))
    step = np.log(PEAKS[1] / PEAKS[0]) * (2 / (REFINED - 1)) ** REFINEMENTS
    return [
        f"maps the schedules over {len(stored.problems)} problems",
        ", ".join(f"{noise:g}" for noise in noises),
        f"in the first {percent(WARMUP)} of the run from a tenth of the peak",
        f"A grid of {len(PEAKS)} peaks from {PEAKS[0]:.5f} to {PEAKS[-1]:.0f} is refined "
        f"{word(REFINEMENTS)} times, to steps of {percent(step, 2)}",
    ]


def _one_cycle() -> list[str]:
    stored = load()
    one = stored.against("log (one cycle)")
    long, short = one[stored.long], one.drop(stored.long)
    wins = winners(stored.best).set_index(KEY)["method"]
    allowed = winners(stored.best[stored.best["method"].isin(PROTOCOL)]).set_index(KEY)["method"]
    wins, allowed = wins == "log (one cycle)", allowed == "log (one cycle)"
    exponential = stored.against("exponential", "log (one cycle)")[stored.long]
    better, worse = exponential[exponential < 0], exponential[exponential > 0]
    few = short[short < 0]
    by = f"by {percent(-long.max())} to {percent(-long.min())} (median {percent(-long.median())})"
    return [
        f"Log (one cycle) has the lowest risk on {wins.sum()} of them",
        if_true(
            (long < 0).all(),
            f"It beats cosine on all {len(long)} problems with at least {LONG} time constants, "
            + by,
        ),
        f"than with cosine; on the map, {by}",
        f"It is the best of the eight methods of the protocol on {allowed[stored.long].sum()} of "
        f"these, and the best of all twelve on {wins[stored.long].sum()}",
        f"It is better on {len(better)} of the {len(long)}, by {percent(-better.max(), 1)} to "
        f"{percent(-better.min())}",
        f"On the other {len(worse)}, the noise is at least {_noise(worse):g}",
        f"Of the other {len(short)} problems, it beats cosine on {len(few)}, by "
        f"{percent(-few.max(), 1)} to {percent(-few.min())}",
        f"In these, the noise is at least {_noise(few):g}",
        f"it has up to {1 + short.max():.0f} times the risk of cosine",
    ]


def _noise(values: pd.Series) -> float:
    """Returns the lowest noise of some problems."""
    return values.index.get_level_values("noise").min()


def _five_cycles() -> list[str]:
    stored = load()
    five = stored.against("log (normalized)")
    long = five[stored.long]
    medians = [percent(five.xs(steps, level="steps").median()) for steps in STEPS]
    cycles = stored.against("log (normalized)", "log (one cycle)")
    longest = stored.lengths[cycles < 0].max()
    return [
        if_true(
            (five > 0).all(),
            f"Log (normalized) is worse than cosine on all {len(five)} problems, by "
            f"{percent(five.min())} to {percent(five.max())}",
        ),
        "The median is {}, {}, and {} for 100, 1,000, and 10,000 steps".format(*medians),
        f"five cycles are {percent(long.min())} to {percent(long.max())} worse than cosine",
        f"on the map, five cycles are {percent(long.min())} to {percent(long.max())} worse",
        f"Five cycles of log (normalized) beat one on {(cycles < 0).sum()} problems, all with "
        f"fewer than {np.ceil(longest):.0f} time constants",
    ]


def _others() -> list[str]:
    stored = load()
    paper, constant = stored.against("log (paper)"), stored.against("constant")
    restarts = stored.against("cosine (restarts)")
    return [
        f"It beats cosine on {(paper < 0).sum()} problems, and on "
        f"{((paper < 0) & (constant < 0)).sum()} of these, so does a constant rate",
        f"The two are on the same side of cosine on {((paper < 0) == (constant < 0)).sum()} "
        "problems",
        f"Cosine with five restarts beats cosine with one decay on {(restarts < 0).sum()} "
        f"problems, by at most {percent(-restarts.min())}",
        f"It lowers the risk of cosine on {_warmup('cosine')}",
        f"It lowers that of log (one cycle) on {_warmup('log (one cycle)')}",
    ]


def _warmup(method: str) -> str:
    rows = load().rows
    risks = rows[rows["method"] == method].pivot(index=KEY, columns="warmup", values="risk")
    gain = 1 - risks[WARMUP] / risks[0.0]
    return f"{(gain > 0).sum()} problems, by at most {percent(gain.max())}"


def _limits() -> list[str]:
    stored = load()
    spread = stored.problems["spread"]
    apart = spread[spread > 1e-3]
    knots = stored.problems.xs(1, level="batch_size").xs(1000, level="steps")["limit"]
    knots = knots.droplevel("dimensions")
    excess = max(knots[problem] / risk - 1 for problem, risk in EXACT.items())
    return [
        f"The searches from two starts end within 0.1% of each other on "
        f"{len(spread) - len(apart)} problems",
        f"On the other {len(apart)}, the difference is at most {percent(apart.max(), 1)}",
        if_true(
            set(apart.index.get_level_values("batch_size")) == {16},
            "All of the latter have batches of 16",
        ),
        if_true((stored.rows["excess"] > 0).all(), "No method is below the limit"),
        f"the knots are less than {percent(excess, 4)} above the limit of all 1,000 rates",
        "with exponent 2, noise 0.03, and 100 steps, the rates exceed 40, and 64 knots end about a "
        "third above the limit",  # checked by tests/docs/test_linear_regression.py
    ]


@functools.cache
def end_value() -> str:
    """Returns the claim about runs that end at a hundredth of the peak."""
    methods = [
        rates_of_schedule(name, 1000, end_fraction=0.01) for name in ("log_annealing", "cosine")
    ]
    grid = np.stack([rates_of(PEAKS) for rates_of in methods])
    gains = []
    for noise in sorted(set(load().rows["noise"])):
        problem = Point(100, 0.5, noise, 16, 1000).problem()
        _, (log, cosine) = limit_map.best_peaks(methods, problem, grid)
        gains.append(1 - log / cosine)
    return f"it is still better by {percent(min(gains))} to {percent(max(gains))} with such an end"
