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
# Folders of docs/results/data with exploratory comparisons of three methods.
OTHER_OPTIMIZERS = ("shakespeare_lion", "shakespeare_muon")


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
    "cifar10": Comparison(
        "[CIFAR-10](cifar10.md), residual network with attention, accuracy in points", FIVE
    ),
    "shakespeare": Comparison(
        "[tiny Shakespeare](tiny_shakespeare.md), 2,000 steps, loss in nats", FIVE
    ),
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


def of_readme() -> list[str]:
    """Returns the claims of README.md about the tasks of the protocol."""
    cifar10, shakespeare = (
        of_comparison.worse_by(name, FIVE) for name in ("cifar10", "shakespeare")
    )
    return [
        never_better(),
        f"five cycles are worse by {cifar10} percentage points",
        f"they are worse by {shakespeare} nats",
    ]


def never_better() -> str:
    """Returns a sentence about all comparisons with cosine in networks."""
    found = [
        of_comparison.is_better(name, ours)
        for name in (*COMPARISONS, *OTHER_OPTIMIZERS, "fair_mnist_nn2", "mnist_lenet4")
        for ours in (FIVE, ONE, "log (paper)")
        if ours in stored.load(name).methods
    ]
    return if_true(
        not any(found),
        "In no network that we trained does log annealing end better than cosine annealing",
    )


def claims() -> list[str]:
    """Returns the claims of docs/results/README.md."""
    of_map = regression_claims.load()
    five, one = (of_map.against(method) for method in (FIVE, ONE))
    fair, lenet4 = stored.load("fair_mnist_nn2"), stored.load("mnist_lenet4")
    printed = fair.difference("log (paper)", COSINE)
    lost = lenet4.lost("log (paper)")
    cifar10, shakespeare, short, lion, muon = (
        of_comparison.worse_by(name, FIVE)
        for name in ("cifar10", "shakespeare", "shakespeare_500", *OTHER_OPTIMIZERS)
    )
    early = of_comparison.early_contrast("cifar10", FIVE).removeprefix("+")
    corrected = holm(
        np.array([of_comparison.p_value(name, each.primary) for name, each in COMPARISONS.items()])
    )
    return [
        never_better(),
        f"five cycles are worse than cosine by {cifar10} percentage points, and the formula as "
        f"printed is worse by {of_comparison.worse_by('cifar10', 'log (paper)')}",
        f"five cycles are worse by {shakespeare} nats after 2,000 steps, and by {short} after 500",
        f"by {lion} with Lion and by {muon} with Muon",
        "One decay of log annealing loses less on CIFAR-10, "
        + of_comparison.worse_by("cifar10", ONE),
        f"after {of_comparison.EARLY_EPOCH} of 15 epochs on CIFAR-10, five cycles are ahead of "
        f"cosine by {early} points",
        if_true(
            bool(corrected.max() < 0.05),
            "All five primary contrasts are significant after Holm's correction",
        ),
        if_true((five > 0).all(), f"on any of {len(five)} problems, where results are exact"),
        if_true(
            (one[of_map.long] < 0).all(),
            "one decay of log annealing beats cosine if the noise does not vanish and the run is "
            "long",
        ),
        "is higher than that of cosine by "
        + of_comparison.contrast("teacher", ONE).removeprefix("+"),
        f"the formula as printed is {worse(printed)} points worse than cosine",
        f"On {word(int(lost.sum()))} of {word(len(lost))} seeds, the printed formula destroyed a "
        "convolutional network",
    ]
