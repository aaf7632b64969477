"""What the first page of results says of all stored results, with every number recomputed."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from docs.results import comparison_tables as of_comparison
from docs.results import regression_claims, stored
from docs.results.stored import if_true, word, worse
from experiments.results import tables
from experiments.results.intervals import holm

FIVE, ONE, COSINE = "log (normalized)", "log (one cycle)", "cosine"


class Comparison(NamedTuple):
    """A task of the protocol that has been run.

    Attributes:
      task: how the table names it.
      primary: the method whose difference from cosine is tested.
    """

    task: str
    primary: str


# Folder of docs/results/data -> the task.
COMPARISONS = {
    "shakespeare_500": Comparison(
        "[tiny Shakespeare](tiny_shakespeare.md), 500 steps, loss in nats", FIVE
    ),
    "teacher": Comparison("[teacher and student](teacher.md), long and noisy, error", ONE),
    "teacher_short": Comparison("[teacher and student](teacher.md), short, error", FIVE),
}


def summary() -> str:
    """Returns the table with one row per task."""
    of_map = regression_claims.load()
    five, one = (of_map.against(method) for method in (FIVE, ONE))
    rows = [
        (
            "[linear regression](linear_regression.md), excess risk",
            f"worse on {(five > 0).sum()} of {len(five)} problems",
            f"better on {(one < 0).sum()} of {len(one)} problems",
            "no test: exact, but convex",
        )
    ]
    p_values = [of_comparison.p_value(name, each.primary) for name, each in COMPARISONS.items()]
    corrected = holm(np.array(p_values))
    for (name, (task, primary)), p_value in zip(COMPARISONS.items(), corrected, strict=True):
        contrasts = (of_comparison.contrast(name, method) for method in (FIVE, ONE))
        tested = "five cycles" if primary == FIVE else "one decay"
        rows.append((task, *contrasts, f"{p_value:.2g} ({tested})"))
    fair = stored.load("fair_mnist_nn2")
    rows.append(
        (
            "[MNIST](mnist.md), two-layer network, accuracy in points",
            *(fair.difference(method, COSINE) for method in (FIVE, ONE)),
            "no test: weak, five seeds",
        )
    )
    header = ["task", "five cycles minus cosine", "one decay minus cosine", "p of the primary one"]
    return tables.markdown(pd.DataFrame(rows, columns=header)).rstrip()


def claims() -> list[str]:
    """Returns the claims of docs/results/README.md."""
    of_map = regression_claims.load()
    five, one = (of_map.against(method) for method in (FIVE, ONE))
    fair, lenet4 = stored.load("fair_mnist_nn2"), stored.load("mnist_lenet4")
    printed, normalized = (fair.difference(each, COSINE) for each in ("log (paper)", FIVE))
    lost = lenet4.lost("log (paper)")
    return [
        if_true((five > 0).all(), f"on any of {len(five)} problems, where results are exact"),
        if_true(
            (one[of_map.long] < 0).all(),
            "one decay of log annealing beats cosine if the noise does not vanish and the run is "
            "long",
        ),
        "is higher than that of cosine by "
        + of_comparison.contrast("teacher", ONE).removeprefix("+"),
        "five cycles are worse than cosine by "
        + of_comparison.contrast("shakespeare_500", FIVE).removeprefix("+"),
        f"five cycles are {worse(normalized)} percentage points worse than cosine, and the formula "
        f"as printed is {worse(printed)} worse",
        f"On {word(int(lost.sum()))} of {word(len(lost))} seeds, the printed formula destroyed a "
        "convolutional network",
    ]
