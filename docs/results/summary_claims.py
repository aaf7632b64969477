"""What the first page of results says of all stored results, with every number recomputed."""

import pandas as pd

from docs.results import comparison_tables as of_comparison
from docs.results import regression_claims, stored
from docs.results.stored import if_true, word, worse
from experiments.results import tables

FIVE, ONE, COSINE = "log (normalized)", "log (one cycle)", "cosine"
# Folder of docs/results/data -> the task and how sure its results are.
COMPARISONS = {
    "shakespeare_500": "[tiny Shakespeare](tiny_shakespeare.md), 500 steps, loss in nats",
    "teacher": "[teacher and student](teacher.md), long and noisy, error",
    "teacher_short": "[teacher and student](teacher.md), short, error",
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
            "exact, but convex",
        )
    ]
    for name, task in COMPARISONS.items():
        seeds = word(len(stored.load(name).of(COSINE)))
        contrasts = (of_comparison.contrast(name, method) for method in (FIVE, ONE))
        rows.append((task, *contrasts, f"the protocol, {seeds} seeds"))
    fair = stored.load("fair_mnist_nn2")
    rows.append(
        (
            "[MNIST](mnist.md), two-layer network, accuracy in points",
            *(fair.difference(method, COSINE) for method in (FIVE, ONE)),
            "weak: one tuning seed, five seeds",
        )
    )
    header = ["task", "five cycles minus cosine", "one decay minus cosine", "how sure"]
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
