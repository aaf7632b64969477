"""Reads the stored trials, and formats their means and differences as pages print them."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.results import failures, learning_rates, read, tables
from experiments.results.described import Metric

ROOT = Path(__file__).parents[2]
DATA = Path("docs/results/data")  # relative to ROOT, as reports print it
WORDS = (
    *("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen"),
    *("sixteen", "seventeen", "eighteen", "nineteen"),
)


class Sweep(NamedTuple):
    """The stored trials of a sweep with one data set and one model.

    Attributes:
      results: its trials by epoch.
      trials: its trials, each with its score, as returned by `failures.per_trial`.
      objective: the metric that ranks trials.
      plan: `config.json`, the config of the sweep.
      summary: `summary.json`.
    """

    results: read.Results
    trials: pd.DataFrame
    objective: Metric
    plan: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def final(self) -> pd.DataFrame:
        """The final trials."""
        return self.trials[self.trials.phase == "final"]

    @property
    def tuned(self) -> pd.DataFrame:
        """The tuning trials."""
        return self.trials[self.trials.phase == "tune"]

    @property
    def methods(self) -> list[str]:
        """Names of all methods, in the order of the tables."""
        return tables.in_order(self.final.setting)

    def of(self, method: str) -> pd.DataFrame:
        """Returns the final trials of a method by seed."""
        return self.final[self.final.setting == method].sort_values("seed", ignore_index=True)

    def scores(self, method: str) -> np.ndarray:
        """Returns the scores of a method by seed, on the scale that is printed."""
        return self.objective.scale * self.of(method)["last"].to_numpy()

    def lost(self, method: str) -> np.ndarray:
        """Returns which trials of a method failed, by seed."""
        return self.of(method).failed.to_numpy()

    def mean(self, method: str) -> str:
        """Returns the mean of a method with its interval."""
        return tables.average_cell(self.of(method), self.objective)

    def difference(self, ours: str, theirs: str) -> str:
        """Returns one method minus another, with its interval over seeds."""
        return difference(self, ours, self, theirs)

    @property
    def minutes(self) -> str:
        """How long the sweep took, rounded to five minutes."""
        return f"{5 * round(self.summary['seconds'] / 300)} min"

    def epochs(self, method: str) -> pd.DataFrame:
        """Returns the rows of the final trials of a method, one per trial and epoch."""
        rows = self.results.rows
        return rows[(rows.phase == "final") & (rows.setting == method)]

    def config(self, method: str) -> read.Config:
        """Returns the config of the final trials of a method by dotted field."""
        key = self.epochs(method)[["data", "split", "model", "setting"]].iloc[0]
        return self.results.configs[tuple(key)] or {}

    def peak(self, method: str) -> str:
        """Returns the peak learning rate of the final trials of a method."""
        return f"{self.config(method)['schedule.peak_value']:g}"

    def rates(self, method: str) -> np.ndarray:
        """Returns the learning rates of a method: the extremes of each column of a figure."""
        return learning_rates.of_method(self.epochs(method), self.config(method)).values


@functools.cache
def load(name: str) -> Sweep:
    """Returns the sweep in a folder of docs/results/data."""
    results = read.read([ROOT / DATA / name])
    objective = results.objective
    trials = failures.per_trial(results.rows, objective, results.chance[objective.name])
    plan, summary = (
        json.loads((ROOT / DATA / name / file).read_text())
        for file in ("config.json", "summary.json")
    )
    return Sweep(results, trials, objective, plan, summary)


def difference(sweep: Sweep, ours: str, other: Sweep, theirs: str) -> str:
    """Returns a method of one sweep minus a method of another, with its interval over seeds."""
    pair = [sweep.of(ours).assign(setting="ours"), other.of(theirs).assign(setting="theirs")]
    table = tables.differences(pd.concat(pair), sweep.objective, "theirs")
    return table.difference[0]


def worse(text: str) -> str:
    """Returns the size of a negative difference; a positive one keeps its sign.

    >>> worse("-0.25 ± 0.15"), worse("+0.25 ± 0.15")
    ('0.25 ± 0.15', '+0.25 ± 0.15')
    """
    return text.removeprefix("-")


def if_true(condition: bool, text: str) -> str:
    """Returns a sentence without a computed number, or one that no page has if it is false.

    >>> if_true(2 < 1, "Two is less than one")
    'no longer true: Two is less than one'
    """
    return text if condition else f"no longer true: {text}"


def word(number: int) -> str:
    """Returns a number up to nineteen as prose spells it.

    >>> word(0), word(5), word(15)
    ('none', 'five', 'fifteen')
    """
    return WORDS[number]
