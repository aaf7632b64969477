"""What the pages of the comparison say of its stored trials, with every number recomputed."""

import numpy as np

from docs.results import comparison_tables as of_comparison
from docs.results import stored
from docs.results import teacher as task
from docs.results.comparison_tables import with_interval
from docs.results.stored import if_true, word
from experiments.results.robust import interquartile_mean

FIVE, ONE, COSINE = "log (normalized)", "log (one cycle)", "cosine"


def teacher() -> list[str]:
    """Returns the claims of docs/results/teacher.md."""
    inside, outside = "teacher", "teacher_short"
    long, short = stored.load(inside), stored.load(outside)
    p_one, p_five = (of_comparison.p_value(inside, ours) for ours in (ONE, FIVE))
    diverged = long.tuned.failed.sum()
    linear = of_comparison.contrast(outside, "linear")
    variance = np.var(task.examples(task.NUM_TEST, 0.0, seed=1)["y"])
    return [
        f"its outputs have a variance of {variance:.2f}",
        f"worse than cosine by {of_comparison.contrast(inside, ONE).removeprefix('+')}",
        f"Five cycles are worse by {of_comparison.contrast(inside, FIVE).removeprefix('+')}",
        f"p = {p_one:.3f} for one cycle, and p = {p_five:.3f} for five",
        if_true(
            of_comparison.is_worse(inside, ONE),
            "the interval of log (one cycle) minus cosine lies above zero",
        ),
        if_true(
            of_comparison.best_first(inside)[0] == COSINE,
            "No method has a lower mean than cosine",
        ),
        f"one cycle is worse by {of_comparison.contrast(outside, ONE).removeprefix('+')}",
        if_true(
            of_comparison.best_first(outside)[0] == "linear",
            f"Only linear decay is better than cosine there, by {linear.removeprefix('-')}",
        ),
        f"Exponential decay is worse than cosine too, by "
        f"{of_comparison.contrast(inside, 'exponential').removeprefix('+')}",
        f"The result has {word(len(long.of(COSINE)))} seeds",
        f"{diverged} of {len(long.tuned)} tuning trials of the long task failed",
        if_true(not long.final.failed.any(), "no final trial failed"),
        f"The long task took {long.summary['seconds'] / 60:.1f} minutes",
        f"the short one {short.summary['seconds'] / 60:.1f}",
    ]


def shakespeare() -> list[str]:
    """Returns the claims of docs/results/tiny_shakespeare.md."""
    long, short = "shakespeare", "shakespeare_500"
    lion, muon = "shakespeare_lion", "shakespeare_muon"
    five = {
        name: of_comparison.contrast(name, FIVE).removeprefix("+")
        for name in (long, short, lion, muon)
    }
    linear, wsd = (
        of_comparison.contrast(long, ours).removeprefix("-") for ours in ("linear", "wsd")
    )
    one = of_comparison.scores(long, ONE)
    unstable = one > np.median(one) + 0.2
    middle = interquartile_mean([one]).value
    sweeps = [stored.load(name) for name in (long, short, lion, muon)]
    return [
        f"five cycles is higher than that of cosine by {five[long]} nats",
        f"With Lion it is higher by {five[lion]}, and with Muon by {five[muon]}",
        f"After 500 steps, it is higher by {five[short]}",
        if_true(
            all(of_comparison.is_worse(name, ONE) for name in (long, short)),
            "One decay of log annealing is also worse than cosine",
        ),
        f"The exact sign-flip test gives p = {of_comparison.p_value(long, FIVE):.3f}",
        if_true(
            all(of_comparison.is_better(long, ours) for ours in ("linear", "wsd")),
            f"are better than cosine, by {linear} and {wsd}",
        ),
        if_true(
            stored.load(long).peak(ONE) == max(map(stored.load(long).peak, _methods(long))),
            f"chose the highest peak, {stored.load(long).peak(ONE)}",
        ),
        f"{word(int(unstable.sum()))} of ten seeds end more than 0.2 nats above the median",
        if_true(
            middle > interquartile_mean([of_comparison.scores(long, COSINE)]).value,
            "The interquartile mean leaves them out, and is higher than that of cosine, too",
        ),
        if_true(
            all(
                of_comparison.scores(muon, method).max() < of_comparison.scores(long, method).min()
                for method in _methods(muon)
            ),
            "Muon is better than AdamW with every schedule",
        ),
        f"{five[long]} with AdamW, {five[lion]} with Lion, and {five[muon]} with Muon",
        if_true(not any(sweep.final.failed.any() for sweep in sweeps), "no trial failed"),
        f"{len(sweeps[1].trials)} trials of 500 steps took "
        f"{sweeps[1].summary['seconds'] / 60:.0f} minutes of one core",
        f"The {len(sweeps[0].trials)} trials of 2,000 steps with AdamW took "
        f"{sweeps[0].summary['seconds']:.0f} s",
    ]


def cifar10() -> list[str]:
    """Returns the claims of docs/results/cifar10.md."""
    name, again = "cifar10", "cifar10_five_cycles"
    sweep, cycles = stored.load(name), stored.load(again)
    five, one, paper = (
        of_comparison.contrast(name, ours).removeprefix("-") for ours in (FIVE, ONE, "log (paper)")
    )
    early = of_comparison.early_contrast(name, FIVE).removeprefix("+")
    early_one = of_comparison.early_contrast(name, ONE).removeprefix("+")
    first_tuned = with_interval(sweep.scores(FIVE) - sweep.scores(COSINE), sign="+")
    return [
        f"Five cycles are worse than cosine by {five} percentage points",
        f"one decay is worse by {one}",
        f"the formula as printed is worse by {paper}",
        f"p = {of_comparison.p_value(name, FIVE):.3f}",
        if_true(of_comparison.best_first(name)[0] == COSINE, "No method is better than cosine"),
        f"After {of_comparison.EARLY_EPOCH} epochs, five cycles are ahead of cosine by {early} "
        "points",
        f"One decay is ahead by {early_one}",
        f"The target is {100 * of_comparison.target(sweep):.2f}%",
        if_true(
            cycles.peak(FIVE) == sweep.peak(FIVE),
            f"Both tunings chose a peak of {sweep.peak(FIVE)}",
        ),
        f"its final trials on the GPU differ from cosine by {first_tuned}",
        "mean accuracies of "
        f"{cycles.scores(FIVE).mean():.2f}% and {sweep.scores(FIVE).mean():.2f}%",
        f"{sweep.tuned.failed.sum()} of {len(sweep.tuned)} tuning trials failed",
        if_true(
            not sweep.final.failed.any() and not cycles.final.failed.any(), "no final trial failed"
        ),
        f"All {len(sweep.trials)} trials took {sweep.summary['seconds']:.0f} s",
        f"The {len(cycles.trials)} trials that were run again took "
        f"{cycles.summary['seconds'] / 60:.0f} minutes of one core",
    ]


def _methods(name: str) -> list[str]:
    return stored.load(name).methods
