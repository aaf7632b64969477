"""The tables of docs/results/mnist.md, from the stored trials of MNIST."""

import numpy as np
import pandas as pd

from docs.results import stored
from docs.results.stored import Sweep
from experiments.results import failures, tables

# Forms of log annealing by the names of the page, and whether their peak was tuned.
FORMS = {
    "as printed, five cycles": "log (paper)",
    "normalized, five cycles": "log (normalized)",
    "as printed, searched": "log (searched)",
}
RIVALS = {
    "cosine": "cosine",
    "cosine with restarts": "cosine (restarts)",
    "sig": "sig",
    "sig+": "sig+",
    "trapezoid": "trap",
}
LENET4 = {
    "log annealing as printed": "log (paper)",
    "log annealing, normalized": "log (normalized)",
    "cosine": "cosine",
    "cosine with restarts": "cosine (restarts)",
    "sig+": "sig+",
    "trapezoid": "trap",
    "warmup-stable-decay": "wsd",
}
# Nakamura et al. 2021 (Electronics 10, 2029), table 2: mean test accuracy on MNIST in percent, in
# the order of `tables.METHODS`.
PAPER = {
    "NN-2": "97.87 98.26 97.90 98.44 98.55 98.52 98.20 98.19 98.53 98.57 98.58 98.55",
    "LeNet-4": "98.97 99.23 99.05 99.22 99.30 99.31 99.30 99.27 99.33 99.40 99.42 99.40",
}


def differences() -> str:
    """Returns the differences of log annealing from other schedules with NN-2."""
    fair, equal = stored.load("fair_mnist_nn2"), stored.load("mnist_nn2")
    rows = [
        (form, f"tuned, {fair.peak(ours)}", *_differences(fair, ours))
        for form, ours in FORMS.items()
    ]
    rows += [
        (form, equal.peak(ours), *_differences(equal, ours))
        for form, ours in FORMS.items()
        if ours in equal.methods
    ]
    return _markdown(["log annealing", "peak", *(f"vs. {name}" for name in RIVALS)], rows)


def _differences(sweep: Sweep, ours: str) -> list[str]:
    return [sweep.difference(ours, theirs) for theirs in RIVALS.values()]


def lenet4() -> str:
    """Returns the accuracy of each seed with LeNet-4; that of a failed trial is bold."""
    sweep, rivals = stored.load("mnist_lenet4"), ("cosine", "sig+")
    rows = [
        (
            name,
            ", ".join(accuracies(sweep, ours)),
            *("" if ours == theirs else sweep.difference(ours, theirs) for theirs in rivals),
        )
        for name, ours in LENET4.items()
    ]
    return _markdown(["", "accuracy, five seeds", *(f"vs. {theirs}" for theirs in rivals)], rows)


def accuracies(sweep: Sweep, method: str) -> list[str]:
    """Returns the measured accuracy of each trial, also of one that failed and scores chance."""
    epochs = sweep.epochs(method).sort_values(["seed", "epoch"])
    texts = []
    for failed, (_, of) in zip(sweep.of(method).failed, epochs.groupby("seed"), strict=True):
        last = of.test_accuracy.to_numpy()[-failures.last_epochs(len(of)) :]
        texts.append(tables.shown(np.mean(last), sweep.objective))
        if failed:
            texts[-1] = f"**{texts[-1]}**"
    return texts


def beside_the_paper(network: str, ours: str, name: str) -> str:
    """Returns the accuracies of the paper's twelve methods, from the paper and from a sweep."""
    sweep = stored.load(ours)
    rows = [
        ("paper, 100 epochs", *PAPER[network].split()),
        (name, *(sweep.mean(method) for method in tables.METHODS)),
    ]
    return _markdown([network, *tables.METHODS], rows)


def _markdown(header: list[str], rows: list[tuple[str, ...]]) -> str:
    return tables.markdown(pd.DataFrame(rows, columns=header)).rstrip()
