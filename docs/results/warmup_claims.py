"""What docs/results/teacher.md says of four methods with three warmups."""

import pandas as pd

from configs.sweeps.comparison import WARMUP
from configs.sweeps.warmup import METHODS, TASKS, WARMUPS, name
from docs.results import stored
from docs.results.comparison_tables import is_worse, with_interval
from docs.results.stored import if_true, worse
from experiments.results import tables

LOG, COSINE = "log (normalized)", "cosine"


def data(task: str) -> str:
    """Returns the folder of docs/results/data of a task."""
    return f"warmup_{task}"


def table(task: str) -> str:
    """Returns one row per method, with its peak and result at each warmup."""
    sweep = stored.load(data(task))
    rows = []
    for method in METHODS:
        row = {"method": method}
        for warmup in WARMUPS:
            setting = name(method, warmup)
            mean = with_interval(sweep.scores(setting))
            row[f"{warmup:.0%} warmup"] = f"{mean} at {sweep.peak(setting)}"
        rows.append(row)
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def log_minus_cosine(task: str, warmup: float) -> str:
    """Returns log (normalized) minus cosine with the same warmup, with its interval."""
    return _difference(task, (LOG, warmup), (COSINE, warmup))


def change(task: str, method: str, warmup: float) -> str:
    """Returns what a warmup changes, compared with the usual one."""
    return _difference(task, (method, warmup), (method, WARMUP))


def _difference(task: str, ours: tuple[str, float], theirs: tuple[str, float]) -> str:
    sweep = stored.load(data(task))
    return with_interval(sweep.scores(name(*ours)) - sweep.scores(name(*theirs)), sign="+")


def claims() -> list[str]:
    """Returns the claims of docs/results/teacher.md about the warmup."""
    long, short = TASKS
    sweeps = [stored.load(data(task)) for task in TASKS]
    without, usual, long_warmup = WARMUPS
    return [
        if_true(
            all(_is_higher(task, warmup) for task in TASKS for warmup in WARMUPS),
            "higher than that of cosine at every length of the warmup, on both tasks",
        ),
        f"worse by {gap(long, without)} without warmup, {gap(long, usual)} with the usual one, and "
        f"{gap(long, long_warmup)} with the long one",
        if_true(
            not is_worse(data(long), name(LOG, long_warmup), name(COSINE, long_warmup)),
            "whose interval includes zero",
        ),
        f"falls from {gap(short, without)} without warmup to "
        f"{gap(short, long_warmup)} with the long one",
        f"lowers the error of log (normalized) by {worse(change(short, LOG, long_warmup))}",
        f"of wsd by {worse(change(short, 'wsd', long_warmup))}",
        f"cosine changes by {change(short, COSINE, without)} without warmup, and by "
        f"{change(short, COSINE, long_warmup)} with the long one",
        if_true(
            all(
                _mean(data(task), method) == _mean(task, method)
                for task in TASKS
                for method in METHODS
            ),
            "has the results of the tables above in every printed digit",
        ),
        f"The {sum(len(sweep.trials) for sweep in sweeps)} trials took "
        f"{sum(sweep.summary['seconds'] for sweep in sweeps) / 60:.0f} minutes",
        f"{sum(sweep.tuned.failed.sum() for sweep in sweeps)} of "
        f"{sum(len(sweep.tuned) for sweep in sweeps)} tuning trials of this sweep failed",
        if_true(
            not any(sweep.final.failed.any() for sweep in sweeps),
            "none of its final trials did",
        ),
    ]


def gap(task: str, warmup: float) -> str:
    """Returns by how much log (normalized) is worse than cosine, with its interval."""
    return log_minus_cosine(task, warmup).removeprefix("+")


def _is_higher(task: str, warmup: float) -> bool:
    """Returns whether log (normalized) has a higher mean error than cosine."""
    sweep = stored.load(data(task))
    ours, theirs = (sweep.scores(name(method, warmup)) for method in (LOG, COSINE))
    return bool(ours.mean() > theirs.mean())


def _mean(folder: str, method: str) -> str:
    return with_interval(stored.load(folder).scores(method))
