"""Makes a report from finished runs and sweeps: report.md, its tables as CSV, and its figures."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from experiments.errors import UserError
from experiments.results import (
    environments,
    failures,
    floors,
    intervals,
    methods,
    pictures,
    tables,
)
from experiments.results.described import SELECTIONS, Metric
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
# With more runs than this, each has a row in the table of their configs, and not a column.
SIDE_BY_SIDE = 4
PHASE_NAMES = {"final": "the final trials", "tune": "tuning"}


def write(
    directories: Sequence[Path],
    out: Path,
    *,
    baseline: str | None = None,
    labels: Sequence[str] = (),
) -> int:
    """Reads results and writes their report.

    Args:
      directories: directories of runs and sweeps.
      out: directory of the report, created if necessary.
      baseline: method to compare with. Defaults to `tables.default_baseline`.
      labels: a name for each single run, or none.

    Returns:
      The number of tables and figures.

    Raises:
      UserError: the results cannot be used, or `out` cannot be written. No file is written if the
        results cannot be used.
    """
    files = make(read(directories, labels), baseline=baseline)
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
    parts = ["# Results\n"]
    if len(results.runs) > 1 and set(rows.source) == results.runs.keys():
        parts.append(_config_differences(results))
    parts += [_how(objective, set(rows.data), chance), _sources(results.sources)]
    sections = list(rows.groupby(["data", "split"]))
    names = [data if split == "test" else f"{data} {split}" for (data, split), _ in sections]
    models = [sorted(set(of.model)) for _, of in sections]
    named = [f"{name} {model}" for name, of in zip(names, models, strict=True) for model in of]
    free = iter(_stems([*names, *named]))
    stems = [next(free) for _ in names]
    stems_of_models = [{model: next(free) for model in of} for of in models]
    for ((data, split), of_section), stem, stem_of in zip(
        sections, stems, stems_of_models, strict=True
    ):
        of_trials = trials[(trials.data == data) & (trials.split == split)]
        compared_with = _baseline(data, of_trials, baseline)
        parts.append(_header(data, split, of_section, results))
        linked = []
        for picture in pictures.of_section(
            data, split, of_section, of_trials, results, compared_with
        ):
            start = stem if picture.model is None else stem_of[picture.model]
            file = f"{start}_{picture.name}.png"
            files[file] = picture.png
            linked.append(f"{picture.caption}\n\n![{picture.title}]({file})\n")
        parts.append(linked[0])
        if data not in chance and of_trials.failed.any():
            parts.append(_worst_remark(of_trials, objective))
        rules = {of.get("selection", "best") for of in results.parts(of_section).values()}
        made = _tables(split, of_trials, objective, compared_with, rules)
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
        parts += linked[1:]
    files["report.md"] = "\n".join(parts).encode()
    return files


def _stems(names: Iterable[str]) -> list[str]:
    """Returns the beginnings of file names, which differ even where case does not count.

    >>> _stems(["a b", "a/b", "A_B"])
    ['a_b', 'a_b-2', 'A_B-3']
    """
    stems: list[str] = []
    taken: set[str] = set()
    for name in names:
        stem = re.sub(r"[^\w.+-]+", "_", name).rstrip("_") or "_"
        numbered = (f"{stem}-{number}" if number > 1 else stem for number in range(1, 10**6))
        stems.append(next(each for each in numbered if each.casefold() not in taken))
        taken.add(stems[-1].casefold())
    return stems


def _baseline(data: str, trials: pd.DataFrame, given: str | None) -> str:
    """Returns the method to compare with, which must be one of the data set."""
    methods = tables.in_order(trials.setting[trials.phase == "final"])
    if given is not None and given not in methods:
        raise UserError(
            f"--baseline={given} is not a method of {data}; choose from {', '.join(methods)}"
        )
    return given or tables.default_baseline(methods)


def _tables(
    split: str,
    trials: pd.DataFrame,
    objective: Metric,
    baseline: str,
    rules: Collection[str] = ("best",),
) -> list[tuple[str, str, pd.DataFrame]]:
    """Returns the short name, caption, and content of every table of a data set."""
    elsewhere = [field for field in swept_fields(trials) if trials[field].isna().all()]
    trials = trials.drop(columns=elsewhere)
    final = trials[trials.phase == "final"]
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
    if final.setting.nunique() > 1:
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
            f"chosen point, {' or '.join(SELECTIONS[rule] for rule in sorted(rules))}. No other "
            f"table includes tuning trials.{_failed_everywhere(trials)}"
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


def _config_differences(results: Results) -> str:
    """Lists the fields in which the configs of single runs differ, as Markdown."""
    fields = methods.differing(results.runs.values(), ignored=re.compile("name"))
    names = results.rows.groupby("source").setting.first()
    table = pd.DataFrame(
        {
            source: [names[source], *(methods.text(config.get(field)) for field in fields)]
            for source, config in results.runs.items()
        },
        index=["method", *fields],
    )
    if len(results.runs) > SIDE_BY_SIDE:
        table = table.T
    corner = "run" if len(results.runs) > SIDE_BY_SIDE else "field"
    shown = tables.markdown(table.reset_index(names=corner))
    remark = "" if fields else "The configs agree in every field.\n\n"
    return f"## Differences between the configs\n\n{remark}{shown}"


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


def _header(data: str, split: str, rows: pd.DataFrame, results: Results) -> str:
    lengths = sorted(set(rows[rows.phase == "final"].groupby(TRIAL).size()))
    epochs = " or ".join(map(str, lengths))
    last = " or ".join(str(failures.last_epochs(length)) for length in lengths)
    heading = data if split == "test" else f"{data}, validation"
    lines = [f"## {heading}", f"Epochs per trial: {epochs}. Epochs in the last tenth: {last}."]
    if split != "test":
        lines.append(
            "**These are not test results**: data.validation_examples holds out a part of the "
            "training split, and the trials were evaluated on it."
        )
    parts = results.parts(rows)
    objective = results.objective
    for meaning, values in floors.of_data(parts, data, objective.name).items():
        shown = " and ".join(tables.shown(value, objective) for value in values)
        lines.append(f"For comparison, the {meaning} has the {objective.label} {shown}.")
    lines += environments.remarks(parts)
    return "\n\n".join(lines) + "\n"
