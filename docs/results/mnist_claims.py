"""What README.md and docs say of the stored trials of MNIST, with every number recomputed."""

import itertools
import math

import numpy as np
import pandas as pd

from docs.results import mnist_tables, stored
from docs.results.stored import Sweep, difference, if_true, word, worse
from experiments.results import failures, intervals, tables
from experiments.results.robust import sign_flip_p_value
from experiments.results.rows import swept_fields

LOG, NORMALIZED, SEARCHED = mnist_tables.FORMS.values()
WARM = ("trap", "str+", "sig+", "wsd")  # methods with a warmup of one epoch
PAPER_WARM = [method for method in tables.METHODS if method in WARM]


def of_readme() -> list[str]:
    """Returns the claims of README.md."""
    fair = stored.load("fair_mnist_nn2")
    seeds = word(len(fair.of("cosine")))
    normalized, printed = (fair.difference(ours, "cosine") for ours in (NORMALIZED, LOG))
    return [
        f"On MNIST with a two-layer network and {seeds} seeds",
        f"its normalized variant is {worse(normalized)} percentage points worse than cosine "
        f"annealing, and the formula as printed is {worse(printed)} worse",
    ]


def of_results() -> list[str]:
    """Returns the claims of docs/results/mnist.md."""
    return [
        *_introduction(),
        *_nn2(),
        *_limits(),
        *_lenet4(),
        *_beside_the_paper(),
        *_sweeps(),
    ]


def of_comparing() -> list[str]:
    """Returns the claims of docs/comparing.md."""
    lenet4 = stored.load("mnist_lenet4")
    accuracies = zip(mnist_tables.accuracies(lenet4, LOG), lenet4.lost(LOG), strict=True)
    (constant,) = (accuracy.strip("*") for accuracy, failed in accuracies if failed)
    return [
        f"with its {intervals.CONFIDENCE:.0%} interval (Student's t",
        f"must be at least {failures.MARGIN:.0%} of the way from chance to 1. On MNIST, this limit "
        f"is {100 * _least(lenet4):.1f}%",
        f"always predicts the most frequent digit ({constant}%) failed",
    ]


def _least(sweep: Sweep) -> float:
    """Returns the accuracy below which a trial failed."""
    chance = sweep.results.chance["accuracy"]["mnist"]
    return chance + failures.MARGIN * (1 - chance)


def _introduction() -> list[str]:
    lenet4, fair, equal = (
        stored.load(name) for name in ("mnist_lenet4", "fair_mnist_nn2", "mnist_nn2")
    )
    failed = lenet4.lost(LOG)
    first = _of_failed(lenet4).test_accuracy.to_numpy()[0]
    return [
        if_true(
            first < _least(lenet4),
            f"on {word(int(failed.sum()))} of {word(len(failed))} seeds, it destroyed the "
            "convolutional network in the first epoch",
        ),
        f"Test accuracy of NN-2 with {word(len(fair.methods))} methods, each at the peak that one "
        f"tuning seed chose, with {intervals.CONFIDENCE:.0%} intervals",
        f"Test accuracy of LeNet-4 and NN-2 with {word(len(equal.methods))} methods",
        f"with {intervals.CONFIDENCE:.0%} intervals (Student's t, paired over "
        f"{word(len(fair.of(LOG)))} seeds)",
    ]


def _nn2() -> list[str]:
    fair, equal = stored.load("fair_mnist_nn2"), stored.load("mnist_nn2")
    rates = equal.rates(LOG)
    low, mean, high = (equal.scores(method).mean() for method in ("0.1", LOG, "0.01"))
    diverged = fair.tuned[fair.tuned.diverged]
    peaks = set(zip(diverged.setting, diverged["schedule.peak_value"], strict=True))
    tuned = fair.difference(LOG, "constant")
    one_cycle = [sweep.difference("log (one cycle)", NORMALIZED) for sweep in (fair, equal)]
    better = [sweep.difference("sig+", "cosine") for sweep in (fair, equal)]
    return [
        f"With a peak of {equal.peak(LOG)}, a cycle starts at {rates.max():.3f} and ends at "
        f"{rates.min():.3f}",
        if_true(
            low < mean < high,
            "The accuracy is between those of constant learning rates of 0.1 and 0.01",
        ),
        f"The best peak is low ({fair.peak(LOG)})",
        if_true(
            peaks == {(LOG, 0.2), (SEARCHED, 0.2)},
            "At a peak of 0.2, the schedule diverges, searched or not; no other schedule does",
        ),
        f"it matches a constant learning rate at *its* tuned peak ({tuned})",
        if_true(
            len(set(one_cycle)) == 1,
            f"One long cycle is worse than five by {worse(one_cycle[0])}",
        ),
        f"Sig+ is better by {better[0].removeprefix('+')} with both at their tuned peaks, and by "
        f"{better[1].removeprefix('+')} with both at {equal.peak('cosine')}",
    ]


def _limits() -> list[str]:
    fair, equal, search = (
        stored.load(name) for name in ("fair_mnist_nn2", "mnist_nn2", "log_search")
    )
    common = [method for method in fair.methods if method in equal.methods]
    moved = [
        method for method in common if (equal.peak(method), fair.peak(method)) == ("0.1", "0.05")
    ]
    change = {method: difference(fair, method, equal, method) for method in moved}
    same = [method for method in common if (fair.scores(method) == equal.scores(method)).all()]
    margins = {method: _margin(fair, method) for method in fair.methods}
    (grid,) = fair.plan["grid"]
    peaks = grid["values"]
    base_2, own = (search.scores(method).mean() for method in ("log (paper, base 2)", LOG))
    points = _points(search, LOG)
    seeds = len(fair.of("cosine"))
    held_out = fair.plan["tune"]["validation_examples"]
    return [
        f"{held_out:,} validation images chose them, by margins of "
        f"{min(margins.values()):.2f} to {max(margins.values()):.2f} points over the second best",
        if_true(margins["wsd"] == 0, f"For wsd, the peaks {fair.peak('wsd')} and 0.1 tied"),
        if_true(
            float(fair.peak("sig+")) == max(peaks),
            f"Sig+ chose {fair.peak('sig+')}, the largest peak of the grid",
        ),
        if_true(
            all(text.startswith("-") for text in change.values()),
            f"The {word(len(moved))} schedules that moved from 0.1 to 0.05 all became worse on the "
            f"test split (wsd by {worse(change['wsd'])})",
        ),
        if_true(
            set(same) == {NORMALIZED, "log (one cycle)", "exp", "str", "str+", "trap"},
            f"{word(len(same))} have the same peak and the same seeds, and so the same runs to the "
            "last bit: log (normalized), log (one cycle), exp, str, str+, and trap",
        ),
        f"The searched form had {len(points)} points for {len(set(points))} different "
        f"schedules, and {len(peaks)} peaks after that; cosine had {len(peaks)}",
        f"({base_2:.2f}% and {own:.2f}% in the search)",
        f"Half of the intervals between two methods are wider than ± {_half_width(fair):.2f}",
        f"The exact sign-flip test of {word(seeds)} differences cannot give a p-value below "
        f"{sign_flip_p_value(np.ones(seeds), np.zeros(seeds))}",
    ]


def _margin(sweep: Sweep, method: str) -> float:
    """Returns by how much the best point of a method exceeds the second best in tuning."""
    tuned = sweep.tuned[sweep.tuned.setting == method]
    second, best = sweep.objective.scale * np.sort(tuned["last"])[-2:]
    return best - second


def _half_width(sweep: Sweep) -> float:
    """Returns the median half-width of the intervals of the differences of all pairs."""
    pairs = itertools.combinations(map(sweep.scores, sweep.methods), 2)
    return float(np.median([intervals.mean_interval(ours - theirs)[1] for ours, theirs in pairs]))


def _points(sweep: Sweep, method: str) -> list[bytes]:
    """Returns the learning rates and losses of each tuning trial of a method."""
    rows = sweep.results.rows
    rows = rows[(rows.phase == "tune") & (rows.setting == method)]
    columns = ["learning_rate", "train_loss", "test_loss"]
    return [of[columns].to_numpy().tobytes() for _, of in rows.groupby(swept_fields(rows))]


def _of_failed(sweep: Sweep) -> pd.DataFrame:
    """Returns the epochs of the trial of log annealing as printed that failed."""
    (seed,) = sweep.of(LOG).seed[sweep.lost(LOG)]
    rows = sweep.epochs(LOG)
    return rows[rows.seed == seed]


def _lenet4() -> list[str]:
    sweep = stored.load("mnist_lenet4")
    means = {method: sweep.scores(method).mean() for method in sweep.methods}
    cold = [method for method in sweep.methods if method not in WARM]
    failed = sweep.lost(LOG)
    others = sweep.scores(LOG)[~failed]
    ranges = [np.ptp(sweep.scores(method)[~sweep.lost(method)]) for method in cold]
    rows = sweep.final[sweep.final.setting.isin(mnist_tables.LENET4.values())]
    tests = [tables.differences(rows, sweep.objective, of) for of in ("cosine", "sig+")]
    corrected = pd.concat(tests)["p (Holm)"].astype(float)
    rates = sweep.rates(LOG)
    lost = _of_failed(sweep)
    return [
        f"All schedules use a peak of {sweep.peak('cosine')}",
        if_true(
            min(means[method] for method in WARM) > max(means[method] for method in cold),
            "with a warmup of one epoch (trap, str+, sig+, wsd) are better than all others",
        ),
        if_true(
            rates.max() > 2 * float(sweep.peak(LOG)),
            f"eq. (4) starts at {rates.max():.3f}, more than twice the peak",
        ),
        if_true(
            bool((abs(lost.train_loss - math.log(10)) < 0.01).all()),
            f"in all {word(len(lost))} epochs, its loss is ln 10",
        ),
        f"the accuracy of guessing, {sweep.results.chance['accuracy']['mnist']:.0%}",
        f"read the failure rate, {failed.sum()} of {len(failed)}",
        if_true(
            others.mean() <= means["0.01"],
            f"The other {word(len(others))} seeds are no better than a constant learning rate of "
            f"0.01 ({sweep.mean('0.01')})",
        ),
        f"Trials without a warmup differ by up to {max(ranges):.2f} points between seeds",
        if_true(
            corrected.min() > 1 - intervals.CONFIDENCE,
            "no difference in this table is significant after Holm's correction",
        ),
    ]


def _beside_the_paper() -> list[str]:
    texts = mnist_tables.PAPER["LeNet-4"].split()
    paper = dict(zip(tables.METHODS, map(float, texts), strict=True))
    sweep = stored.load("mnist_lenet4")
    ours = {method: round(sweep.scores(method).mean(), 2) for method in paper}
    below = {method: round(paper[method] - ours[method], 2) for method in paper}
    warm = [below[method] for method in PAPER_WARM]
    return [
        if_true(min(below.values()) > 0, "All methods are worse than in the paper."),
        if_true(
            max(warm) < min(below[method] for method in paper if method not in PAPER_WARM),
            f"The {word(len(warm))} with a warmup are closest, {min(warm):.2f} to {max(warm):.2f} "
            "below it",
        ),
        if_true(
            _best(ours) == _best(paper) == set(PAPER_WARM),
            "They are the best three here and in the paper.",
        ),
    ]


def _best(means: dict[str, float]) -> set[str]:
    return set(sorted(means, key=means.__getitem__)[-len(PAPER_WARM) :])


def _sweeps() -> list[str]:
    """Returns the last columns of the table of what we ran."""
    nn2, lenet4, fair, search = (
        stored.load(name) for name in ("mnist_nn2", "mnist_lenet4", "fair_mnist_nn2", "log_search")
    )
    lost = search.tuned[search.tuned.failed]
    diverged = lost.diverged.sum()
    return [
        f"| {len(nn2.trials)}, {word(nn2.trials.failed.sum())} failed | {nn2.minutes} |",
        f"| {len(lenet4.trials)}, {word(lenet4.trials.failed.sum())} failed | {lenet4.minutes} |",
        f"| {len(fair.trials)}, {fair.tuned.failed.sum()} failed during tuning | {fair.minutes} |",
        f"| {len(search.trials)}, {len(lost)} failed during tuning ({diverged} diverged, "
        f"{len(lost) - diverged} ended at chance) | {search.minutes} |",
    ]
