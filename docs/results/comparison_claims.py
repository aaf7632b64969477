"""What the pages of the comparison say of its stored trials, with every number recomputed."""

import numpy as np

from docs.results import comparison_tables as of_comparison
from docs.results import stored
from docs.results import teacher as task
from docs.results.stored import if_true, word
from experiments.results.intervals import mean_interval

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
            _lies_above_zero(inside, ONE),
            "the interval of log (one cycle) minus cosine lies above zero",
        ),
        if_true(
            of_comparison.best_first(long)[0] == COSINE,
            "No method has a lower mean than cosine",
        ),
        f"one cycle is worse by {of_comparison.contrast(outside, ONE).removeprefix('+')}",
        if_true(
            of_comparison.best_first(short)[0] == "linear",
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


def _lies_above_zero(name: str, ours: str) -> bool:
    """Returns whether the interval of a method minus cosine lies above zero."""
    sweep = stored.load(name)
    mean, half_width = mean_interval(sweep.scores(ours) - sweep.scores(COSINE))
    return bool(mean > half_width)


def shakespeare() -> list[str]:
    """Returns the claims of docs/results/tiny_shakespeare.md."""
    name = "shakespeare_500"
    sweep = stored.load(name)
    five, one = (of_comparison.contrast(name, ours) for ours in (FIVE, ONE))
    linear, wsd = (
        of_comparison.contrast(name, ours).removeprefix("-") for ours in ("linear", "wsd")
    )
    best = of_comparison.best_first(sweep)
    validation = sweep.tuned.pivot_table("last", "setting", of_comparison.PEAK)
    unlucky = int(np.argmax(sweep.scores(COSINE)))
    unstable = [
        method
        for method in sweep.methods
        if sweep.scores(method)[unlucky] > np.median(sweep.scores(method)) + 0.2
    ]
    others = np.delete(sweep.scores(FIVE) - sweep.scores(COSINE), unlucky)
    return [
        f"higher than that of cosine by {five.removeprefix('+')} nats",
        f"p = {of_comparison.p_value(name, FIVE):.3f}",
        f"One decay is worse by {one.removeprefix('+')}",
        if_true(best[-2:] == [ONE, FIVE], "They are the last two of eight methods"),
        if_true(best[:2] == ["linear", "wsd"], f"by {linear} and {wsd}"),
        f"At a peak of {sweep.peak(COSINE)}, training is close to its limit of stability",
        if_true(
            validation[0.016].sub(validation.drop(columns=0.016).max(axis=1), axis=0).min() > 0,
            "the peak of 0.016 is worse than all others for every method",
        ),
        f"With seed {unlucky}, cosine ends at {sweep.scores(COSINE)[unlucky]:.2f}",
        "Without this seed, the primary contrast is "
        + of_comparison.with_interval(others, sign="+"),
        f"{word(len(unstable))} methods chose a peak at which this seed ends more than 0.2 nats "
        "above the median",
        if_true(not sweep.final.failed.any(), "no trial failed"),
        f"{len(sweep.trials)} trials took {sweep.summary['seconds'] / 60:.0f} minutes",
    ]
