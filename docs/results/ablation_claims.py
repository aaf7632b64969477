"""What docs/results/ablation.md says of its stored trials, with every number recomputed."""

import numpy as np
import pandas as pd

from docs.results import comparison_tables as of_comparison
from docs.results import stored
from docs.results.comparison_tables import with_interval
from docs.results.stored import if_true
from experiments.results import failures, tables

NAME = "ablation"
LOG, COSINE = "log", "cosine"
KNOBS = {
    "log": "5 cycles, first step 1, end value 1% of the peak",
    "log, 2 cycles": "2 cycles",
    "log, 10 cycles": "10 cycles",
    "log, doubling": "3 cycles, each twice as long as the one before",
    "log, decaying": "each peak half of the one before",
    "log, first step 10": "first step 10",
    "log, end 0": "end value 0",
    "log, end 0.0004": "end value 0.0004",
    "log, coupled": "weight decay in the gradient (Adam)",
    "paper": "the formula as printed, 5 cycles",
    "paper, base 2": "base 2",
    "paper, base 10": "base 10",
    "cosine": "one decay, end value 1% of the peak",
    "cosine, 5 cycles": "5 cycles",
    "cosine, doubling": "3 cycles, each twice as long as the one before",
    "cosine, decaying": "5 cycles, each peak half of the one before",
    "cosine, end 0": "end value 0",
    "cosine, coupled": "weight decay in the gradient (Adam)",
}


def reference(method: str) -> str:
    """Returns the method of the same family whose knobs have not been turned."""
    return method.split(",")[0]


def results() -> str:
    """Returns one row per method, in the order of `KNOBS`."""
    sweep = stored.load(NAME)
    rows = []
    for method, knob in KNOBS.items():
        scores, base = sweep.scores(method), reference(method)
        change = "" if method == base else with_interval(scores - sweep.scores(base), sign="+")
        averaged = averages(method, "ema")
        rows.append(
            {
                "family": base,
                "knob": knob,
                "peak": sweep.peak(method),
                "test loss": with_interval(scores),
                "change": change,
                "of averaged weights": f"{averaged.mean():.3f}",
            }
        )
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def averages(method: str, average: str) -> np.ndarray:
    """Returns the scores of an average of the weights by seed."""
    sweep = stored.load(NAME)
    objective = sweep.objective
    trials = failures.per_trial(
        sweep.epochs(method), objective, sweep.results.chance[objective.name], average=average
    )
    return trials.sort_values("seed")["last"].to_numpy()


def tuning() -> str:
    """Returns the validation loss of each peak, one row per method."""
    return of_comparison.tuning(NAME)


def change(method: str, base: str) -> str:
    """Returns the test loss of a method minus that of another one, with its interval."""
    sweep = stored.load(NAME)
    return with_interval(sweep.scores(method) - sweep.scores(base), sign="+")


def claims() -> list[str]:
    """Returns the claims of docs/results/ablation.md."""
    sweep = stored.load(NAME)
    ours = [method for method in KNOBS if reference(method) != COSINE]
    averaged, snapshots = (
        with_interval(averages(method, average) - sweep.scores(method), sign="+")
        for method, average in (("paper", "ema"), (LOG, "snapshot"))
    )
    first_step = change("log, first step 10", LOG)
    coupled = [change(f"{base}, coupled", base).removeprefix("+") for base in (LOG, COSINE)]
    return [
        if_true(
            not any(of_comparison.is_better(NAME, method, COSINE) for method in ours),
            "No knob makes log annealing better than cosine",
        ),
        "five cycles of cosine are worse than one decay by "
        + change("cosine, 5 cycles", COSINE).removeprefix("+"),
        "An end value of 0.0004 lowers the loss of log annealing by "
        + change("log, end 0.0004", LOG).removeprefix("-"),
        f"base 10 changes the printed formula by {change('paper, base 10', 'paper')}",
        f"first step of 10 changes the loss of log annealing by {first_step}",
        f"the loss changes by {change('log, 2 cycles', LOG)} with 2 cycles",
        f"by {change('log, 10 cycles', LOG)} with 10",
        f"by {change('log, doubling', LOG)} with cycles that double",
        f"peaks that halve raise the loss by {change('log, decaying', LOG).removeprefix('+')}",
        f"raises the loss by {coupled[0]} with log annealing, and by {coupled[1]} with cosine",
        f"changes the loss of the printed formula by {averaged}",
        f"The mean of the weights at the ends of the cycles is worse, by {snapshots.lstrip('+')}",
        f"one seed of cosine ends at {sweep.scores(COSINE).max():.2f}",
        if_true(not sweep.trials.failed.any(), "No trial failed"),
        f"The {len(sweep.trials)} trials took {sweep.summary['seconds'] / 60:.0f} minutes of one "
        "core",
    ]
