"""What docs/results/ceiling.md says of the searches and of their stored trials."""

import io

import numpy as np
import pandas as pd

from configs.sweeps.ceiling import KNOTS, PEAKS, SEARCHED
from docs.results import ceiling, stored
from docs.results.comparison_tables import with_interval
from docs.results.stored import if_true
from experiments.results import learning_rates, style, tables

LOG = "log (normalized)"
HEIGHT_INCHES = 2.6
DRAWN = (SEARCHED, "cosine", "wsd", LOG)
GENERATIONS = (1, 2, 5, 10, 15, 20, 25, 30)


def difference(task: str, theirs: str) -> str:
    """Returns the error of the searched schedule minus that of a method, with its interval."""
    sweep = stored.load(f"ceiling_{task}")
    return with_interval(sweep.scores(SEARCHED) - sweep.scores(theirs), sign="+")


def progress() -> str:
    """Returns the validation errors of some generations of each search."""
    rows = []
    for generation in GENERATIONS:
        row = {"generation": f"{generation}"}
        for task in ceiling.TASKS:
            scores = ceiling.read(task)[generation - 1]
            row[f"`{task}`, median"] = f"{np.median(scores):.4f}"
            row[f"`{task}`, best"] = f"{scores.min():.4f}"
        rows.append(row)
    return tables.markdown(pd.DataFrame(rows)).rstrip()


def share_of_the_gap(task: str) -> float:
    """Returns how much of the way from log (normalized) to the searched schedule cosine covers."""
    log, cosine, best = (
        stored.load(f"ceiling_{task}").scores(method).mean() for method in (LOG, "cosine", SEARCHED)
    )
    return float((log - cosine) / (log - best))


def claims() -> list[str]:
    """Returns the claims of docs/results/ceiling.md."""
    long, short = ceiling.TASKS
    knots = np.array(KNOTS[short])
    runs = ceiling.GENERATIONS * ceiling.CANDIDATES * len(ceiling.SEEDS)
    by_mean = sorted(
        PEAKS[short], key=lambda method: stored.load(f"ceiling_{short}").scores(method).mean()
    )
    return [
        f"the difference is {difference(long, 'cosine')}",
        f"better than cosine by {better_by(short, 'cosine')}",
        f"than linear decay by {better_by(short, 'linear')}",
        f"log (normalized) is above the ceiling by {better_by(long, LOG)} on the long task and by "
        f"{better_by(short, LOG)} on the short one",
        if_true(by_mean[:2] == [SEARCHED, "linear"], "the best of the named methods"),
        f"a search takes {runs:,} runs",
        f"stays within a factor of {2.0 ** -knots[:-1].min():.2f} until the last seventh",
        f"falls to 1/{2.0 ** -knots[-1]:.0f} of the peak",
        f"cosine covers {share_of_the_gap(long):.0%} of the way",
        f"it covers {share_of_the_gap(short):.0%}",
        if_true(
            all(_mean(f"ceiling_{task}", name) == _mean(task, name) for task, name in _named()),
            "have all printed digits in common with those of the comparison",
        ),
        f"The final runs of the two tasks took {seconds(long)} and {seconds(short)} s",
    ]


def _named() -> list[tuple[str, str]]:
    """Returns every task with each of its named methods."""
    return [
        (task, method) for task, peaks in PEAKS.items() for method in peaks if method != SEARCHED
    ]


def _mean(name: str, method: str) -> str:
    return with_interval(stored.load(name).scores(method))


def better_by(task: str, theirs: str) -> str:
    """Returns how much lower the error of the searched schedule is than that of a method."""
    return stored.worse(difference(task, theirs))


def seconds(task: str) -> str:
    """Returns how long the final runs took."""
    return f"{stored.load(f'ceiling_{task}').summary['seconds']:.0f}"


def png() -> bytes:
    """Returns the figure: the learning rates of some methods on both tasks."""
    figure = style.make_figure(HEIGHT_INCHES)
    for axis, task in zip(figure.subplots(1, len(ceiling.TASKS)), ceiling.TASKS, strict=True):
        for place, method in enumerate(DRAWN):
            sweep = stored.load(f"ceiling_{task}")
            rates = learning_rates.of_method(sweep.epochs(method), sweep.config(method))
            axis.plot(
                rates.epochs / rates.epochs[-1],
                rates.values,
                color=style.PALETTE[place],
                linewidth=1.8 if method == SEARCHED else 1.2,
                label=method,
            )
        axis.set_title(task, fontsize=style.NORMAL)
        axis.set_xlabel("share of the run", fontsize=style.NORMAL)
        axis.grid(color=style.GRID, linewidth=0.6)
        style.tidy(axis)
    figure.axes[0].set_ylabel("learning rate", fontsize=style.NORMAL)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(DRAWN), fontsize=style.SMALL
    )
    with io.BytesIO() as picture:
        figure.savefig(picture, format="png")
        return picture.getvalue()
