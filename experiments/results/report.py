"""Makes a report from finished runs and sweeps: report.md, its tables as CSV, and its figures."""

import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.errors import UserError
from experiments.results import (
    environments,
    failures,
    figures,
    floors,
    intervals,
    learning_rates,
    tables,
)
from experiments.results.described import Metric
from experiments.results.learning_rates import Rates
from experiments.results.read import Results, read
from experiments.results.rows import AVERAGES, TRIAL, averaged, swept_fields

HOW = (
    "The value of a trial is its {label} on the split that its heading names, averaged over the "
    "last tenth of its epochs (at least one). Only the tables of best values pick an epoch by its "
    "{label} on that split. A method's trials have the same config except for the seed. "
    f"**Intervals are over seeds**: each is the {intervals.CONFIDENCE:.0%} Student t interval for "
    "the mean of a method's trials on one data set and one model. It does not generalize to other "
    f"data sets or models. With fewer than {intervals.FEWEST_TRIALS} trials there is no interval: "
    'two trials show their range. "-" marks a cell without trials.\n\n'
    "**A trial failed** if it diverged, which means that its loss or parameters became infinite or "
    "NaN, or if it ended no better than chance. {margin} A failed trial counts in all means and "
    "differences with {score}. A cell without a failure rate has no failed trials.\n"
)
# Tuning rows shown per method. A search has hundreds, and its CSV contains them all.
TUNING_ROWS = 10
PHASE_NAMES = {"final": "the final trials", "tune": "tuning"}


def write(directories: Sequence[Path], out: Path, *, baseline: str | None = None) -> int:
    """Reads results and writes their report.

    Args:
      directories: directories of runs and sweeps.
      out: directory of the report, created if necessary.
      baseline: method to compare with. Defaults to `tables.default_baseline`.

    Returns:
      The number of tables and figures.

    Raises:
      UserError: the results cannot be used, or `out` cannot be written. No file is written if the
        results cannot be used.
    """
    files = make(read(directories), baseline=baseline)
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (out / name).write_bytes(content)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}") from error
    return len(files) - 1


def make(results: Results, *, baseline: str | None = None) -> dict[str, bytes]:
    """Makes all files of a report.

    Args:
      results: the results to report.
      baseline: method to compare with. Defaults to `tables.default_baseline`.

    Returns:
      File name -> content, with `report.md` last.

    Raises:
      UserError: a data set has no trials of the baseline.
    """
    rows, objective = results.rows, results.objective
    chance = results.chance[objective.name]
    trials = failures.per_trial(rows, objective, chance)
    files: dict[str, bytes] = {}
    parts = ["# Results\n", _how(objective, set(rows.data), chance), _sources(results.sources)]
    sections = list(rows.groupby(["data", "split"]))
    stems = _stems(data if split == "test" else f"{data} {split}" for (data, split), _ in sections)
    for ((data, split), of_section), stem in zip(sections, stems, strict=True):
        of_trials = trials[(trials.data == data) & (trials.split == split)]
        parts.append(_header(data, split, of_section, results))
        if data not in chance and of_trials.failed.any():
            parts.append(_worst_remark(of_trials, objective))
        made = _tables(data, split, of_trials, objective, baseline)
        made += _averaged(split, of_section, of_trials, objective, chance)
        for kind, caption, table in made:
            files[f"{stem}_{kind}.csv"] = table.to_csv(index=False).encode()
            shown = table
            if kind == "tuning":
                shown = table[(table["rank"].astype(int) <= TUNING_ROWS) | (table.chosen == "yes")]
            if len(shown) < len(table):
                caption += (
                    f" This table shows the {TUNING_ROWS} best points of each method, out of "
                    f"{len(table)} rows."
                )
            parts.append(f"{caption} ([CSV]({stem}_{kind}.csv))\n\n{tables.markdown(shown)}")
        for file, caption, picture in _figures(data, split, of_section, of_trials, results):
            files[f"{stem}_{file}.png"] = picture
            parts.append(f"{caption}({stem}_{file}.png)\n")
    files["report.md"] = "\n".join(parts).encode()
    return files


def _figures(
    data: str, split: str, rows: pd.DataFrame, trials: pd.DataFrame, results: Results
) -> list[tuple[str, str, bytes]]:
    """Returns the short name, the caption up to the link, and the picture of each figure."""
    final = rows[rows.phase == "final"]
    final_trials = trials[trials.phase == "final"]
    rates: dict[tuple[str, str], Rates] = {
        (model, method): learning_rates.of_method(
            of_method, results.configs[data, split, model, method]
        )
        for (model, method), of_method in final.groupby(["model", "setting"])
    }
    at_ends = tables.in_order(learning_rates.missing(rates))
    below = "Below: the learning rate of every step."
    if at_ends:
        below = (
            "Below: the learning rate of every step, except for methods whose schedule cannot be "
            f"rebuilt from the stored config, which have that of the end of each epoch: "
            f"{', '.join(at_ends)}."
        )
    made = []
    # A task without a metric called "loss" shows the objective on both splits.
    for part, metric in (
        ("test", results.objective),
        ("train", results.metrics.get("loss", results.objective)),
    ):
        shown = split if part == "test" else part
        level = results.chance[metric.name].get(data)
        found = floors.of_data(_parts(rows, results), data, metric.name)
        figure = figures.draw(final, final_trials, part, metric, rates, chance=level, floors=found)
        picture = io.BytesIO()
        with warnings.catch_warnings():
            # A letter that the font lacks is drawn as a box.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure.savefig(picture, format="png")
        caption = (
            f"**{shown.capitalize()} {metric.label}**: mean over trials, with its interval, or the "
            f"range of two trials.{_diverged_remark(final, metric, level)}{_cut(metric)} {below}"
            f"\n\n![{shown} {metric.label}, {data}]"
        )
        made.append((f"{part}_{metric.name}", caption, picture.getvalue()))
    return made


def _stems(names: Iterable[str]) -> list[str]:
    """Returns the beginnings of file names, which differ even where case does not count.

    >>> _stems(["a b", "a/b", "A_B"])
    ['a_b', 'a_b-2', 'A_B-3']
    """
    stems: list[str] = []
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^\w.+-]", "_", name)
        numbered = (f"{stem}-{number}" if number > 1 else stem for number in range(1, 10**6))
        stems.append(next(each for each in numbered if each.casefold() not in taken))
        taken.add(stems[-1].casefold())
    return stems


def _tables(
    data: str, split: str, trials: pd.DataFrame, objective: Metric, baseline: str | None
) -> list[tuple[str, str, pd.DataFrame]]:
    """Returns the short name, caption, and content of every table of a data set."""
    elsewhere = [field for field in swept_fields(trials) if trials[field].isna().all()]
    trials = trials.drop(columns=elsewhere)
    final = trials[trials.phase == "final"]
    methods = tables.in_order(final.setting)
    if baseline is not None and baseline not in methods:
        raise UserError(
            f"--baseline={baseline} is not a method of {data}; choose from {', '.join(methods)}"
        )
    baseline = baseline or tables.default_baseline(methods)
    tuned = (trials.phase == "tune").any()
    label = objective.label
    percent = ", in percent" if objective.percent else ""
    high = objective.direction == "max"
    average_caption = (
        f"**Mean {split} {label} of the last tenth of epochs**{percent}, with its interval over "
        f"trials. {'Higher' if high else 'Lower'} is better."
    )
    if swept_fields(final):
        average_caption += " Below each model are the values of the swept fields"
        average_caption += ", chosen on the validation split." if tuned else "."
    best_caption = (
        f"**Best {split} {label}**{percent}: the {'highest' if high else 'lowest'} value over all "
        f"epochs of all trials; a failed trial has its score instead. It is chosen on the {split} "
        "split, so it improves with the number of trials."
    )
    made = [
        ("average", average_caption, tables.average(final, objective)),
        ("best", best_caption, tables.best(final, objective)),
        (
            "trials",
            "**Failure rate**: how many trials failed, out of how many, and how many of them "
            "diverged.",
            tables.failure_rates(final),
        ),
    ]
    if len(methods) > 1:
        caption = (
            f"**Difference from {baseline}** in {split} {label}"
            f"{', in percentage points' if objective.percent else ''}, over the seeds that both "
            f"methods have. A {'positive' if high else 'negative'} difference is better than "
            f"{baseline}. Each row gives how many of these trials failed, the interval over seeds, "
            "p of the paired t test, and p after Holm's correction for all tests in this table. "
            f"There is no test with fewer than {intervals.FEWEST_TRIALS} seeds, or if all "
            "differences are equal."
        )
        made.append(("differences", caption, tables.differences(final, objective, baseline)))
    if tuned:
        caption = (
            f"**Tuning**: mean validation {label} of the last tenth of epochs{percent}, for every "
            "point that was tried. Points with equal means share a rank. The final trials use the "
            "chosen point, the first of the best in the order of the grid. No other table includes "
            f"tuning trials.{_failed_everywhere(trials)}"
        )
        made.append(("tuning", caption, tables.tuning(trials, objective)))
    return made


def _averaged(
    split: str,
    rows: pd.DataFrame,
    trials: pd.DataFrame,
    objective: Metric,
    chance: Mapping[str, float],
) -> list[tuple[str, str, pd.DataFrame]]:
    """Returns the table of averaged weights of a data set, if there are any."""
    final = rows[rows.phase == "final"]
    trials_of = {"last": trials[trials.phase == "final"]}
    for average in AVERAGES:
        column = f"test_{average}_{objective.name}"
        if column not in averaged(final.columns, {objective.name: objective}):
            continue
        kept = final.groupby(["model", "setting"])[column].transform(lambda of: of.notna().any())
        if kept.any():
            trials_of[average] = failures.per_trial(final[kept], objective, chance, average=average)
    if len(trials_of) == 1:
        return []
    caption = (
        f"**Averaged weights**: mean {split} {objective.label} of the last tenth of epochs"
        f"{', in percent' if objective.percent else ''}, for the last weights and their averages, "
        "and the difference from the last weights over seeds. An average counts from the first "
        "epoch in which it exists."
    )
    return [("weights", caption, tables.averaged(trials_of, objective))]


def _how(objective: Metric, data: set[str], chance: Mapping[str, float]) -> str:
    """Explains how a report counts, including what a failed trial scores."""
    margin = (
        ""
        if not chance
        else (
            f"For {objective.label}, that is "
            + (
                f"less than {failures.MARGIN:.0%} of the way from chance to perfect."
                if objective.percent and objective.direction == "max"
                else "a value that is not better than the chance level."
            )
        )
    )
    levels = ", ".join(
        f"{tables.shown(level, objective)} on {name}" for name, level in sorted(chance.items())
    )
    score = f"the chance level ({levels})" if chance else ""
    if data - chance.keys():
        score += (", or " if score else "") + (
            "the worst value of the other trials of its table where no chance level is known"
        )
    return HOW.format(label=objective.label, margin=margin, score=score).replace("  ", " ")


def _worst_remark(trials: pd.DataFrame, objective: Metric) -> str:
    """Names the scores of failed trials of a data set without a chance level."""
    scores = trials[trials.failed].groupby("phase")["last"].first()
    values = " and ".join(
        f"{tables.shown(score, objective)} in {PHASE_NAMES[phase]}"
        for phase, score in scores.dropna().items()
    )
    lost = "Failed trials have no score, because all trials failed."
    return (f"Failed trials score the worst value: {values}." if values else lost) + "\n"


def _failed_everywhere(trials: pd.DataFrame) -> str:
    """Names the methods whose tuning chose among failures."""
    tuned = trials[trials.phase == "tune"]
    lost = tuned.groupby(["model", "setting"]).failed.all()
    names = [f"{method} ({model})" for (model, method), failed in lost.items() if failed]
    if not names:
        return ""
    return (
        f" **Every trial failed at every point**, so the choice is arbitrary: {', '.join(names)}."
    )


def _diverged_remark(rows: pd.DataFrame, metric: Metric, chance: float | None) -> str:
    if not rows.diverged.any():
        return ""
    score = "the worst value in the figure" if chance is None else "the chance level"
    return f" From where a trial diverged, it counts with {score}."


def _cut(metric: Metric) -> str:
    """Returns what the caption of a figure says about an axis that does not show all means."""
    if metric.direction == "min":
        return ""
    return " The axis is cut to where the curves end; the figure names methods that end below it."


def _sources(sources: pd.DataFrame) -> str:
    """Lists the directories that the report covers, as Markdown."""
    shown = pd.DataFrame(
        {
            "results": sources.source,
            "kind": sources.kind,
            "trials": sources.trials.map(str),
            "seconds": sources.seconds.map("{:.0f}".format),
            "device": sources.device,
            "command": sources.command.replace("", tables.EMPTY),
        }
    )
    versions = [
        f"Versions ({', '.join(group.source) if len(group) < len(sources) else 'all'}): {of}.\n"
        for of, group in sources.groupby("versions")
    ]
    total = f"{sources.trials.sum()} trials in {sources.seconds.sum():.0f} seconds.\n"
    return "\n".join(["## Sources\n", tables.markdown(shown), total, *versions])


def _parts(rows: pd.DataFrame, results: Results) -> dict[str, Mapping[str, Any]]:
    """Returns the summaries of all parts of the directories that rows come from, by name."""
    sources = sorted(set(rows.source))
    return {part: of for source in sources for part, of in results.summaries[source].items()}


def _header(data: str, split: str, rows: pd.DataFrame, results: Results) -> str:
    epochs = rows[rows.phase == "final"].groupby(TRIAL).size().iloc[0]
    last = failures.last_epochs(epochs)
    heading = data if split == "test" else f"{data}, validation"
    lines = [f"## {heading}", f"Epochs per trial: {epochs}. Epochs in the last tenth: {last}."]
    if split != "test":
        lines.append(
            "**These are not test results**: data.validation_examples holds out a part of the "
            "training split, and the trials were evaluated on it."
        )
    parts = _parts(rows, results)
    objective = results.objective
    for meaning, values in floors.of_data(parts, data, objective.name).items():
        shown = " and ".join(tables.shown(value, objective) for value in values)
        lines.append(f"For comparison, the {meaning} has the {objective.label} {shown}.")
    lines += environments.remarks(parts)
    return "\n\n".join(lines) + "\n"
