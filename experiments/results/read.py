"""Reads finished runs and sweeps into one table with one row per trial and epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from experiments.errors import UserError
from experiments.results import integrity, methods, shards
from experiments.results.described import (
    Metric,
    Task,
    broken,
    chance_of,
    check_summary,
    read_json,
    read_summary,
    task_of,
)
from experiments.results.methods import Config, Unit
from experiments.results.rows import (
    CELL,
    TRIAL,
    averaged,
    curves,
    of_run,
    of_sweep,
    swept_fields,
)

SPLITS = ("test", "validation")
HELD_OUT = "data.validation_examples"
Cell = tuple[str, str, str]  # data set, model, and setting


class Results(NamedTuple):
    """The results of runs and sweeps of one task.

    Attributes:
      rows: one row per trial and epoch, sorted. Its columns are `TRIAL`, `split` (the split that
        the final trials of the method are evaluated on), the swept fields (NaN where a field was
        not swept), `curves`, `averaged` (NaN without a value), `diverged`, and `source`. `setting`
        is the name of the method, whose final trials agree in every field but the seed.
      sources: one row per directory, or per shard of a sweep that was merged, with the columns
        `source`, `kind`, `command`, `trials`, `seconds`, `device`, and `versions`.
      metrics: metric name -> metric.
      objective: the metric that ranks trials.
      chance: metric name -> data set -> chance level, where there is one.
      configs: data set, split, model, and method -> config of its final trials, or None if an
        older sweep does not store it exactly.
      runs: directory -> config of each single run by dotted field, in the order given.
      summaries: source of a row -> name of each of its parts -> summary of that part. A directory
        is one part; a sweep that was merged from shards has one per shard.
    """

    rows: pd.DataFrame
    sources: pd.DataFrame
    metrics: Mapping[str, Metric]
    objective: Metric
    chance: Mapping[str, Mapping[str, float]]
    configs: Mapping[tuple[str, str, str, str], Config | None]
    runs: Mapping[str, Config]
    summaries: Mapping[str, Mapping[str, Mapping[str, Any]]]

    def parts(self, rows: pd.DataFrame) -> dict[str, Mapping[str, Any]]:
        """Returns the summaries of all parts of the directories that rows come from, by name."""
        sources = sorted(set(rows.source))
        return {part: of for source in sources for part, of in self.summaries[source].items()}


class _Directory(NamedTuple):
    """One directory: its rows, its summary, its task, and the config of each setting.

    Attributes:
      file: the file of its summary.
      parts: name -> summary of each of its parts, as in `Results.summaries`.
      configs: data set, model, and setting -> config by dotted field.
      exact: whether the configs are exactly those of the trials. An older sweep does not store
        which fields follow others, such as an end value that is a hundredth of the peak.
    """

    kind: str
    file: Path
    rows: pd.DataFrame
    summary: dict[str, Any]
    parts: dict[str, dict[str, Any]]
    task: Task
    configs: dict[Cell, Config]
    exact: bool


def read(directories: Sequence[Path], labels: Sequence[str] = ()) -> Results:
    """Reads any mix of runs and sweeps, in any order.

    Args:
      directories: the directories of single runs and sweeps, at least one.
      labels: a name for the method of each single run, in the order of the directories, or none.

    Returns:
      The results, independent of the order of the directories but for `runs`.

    Raises:
      UserError: a directory is not a finished run or sweep, a file is truncated or malformed, the
        directories differ in task, a trial appears twice, or trials cannot share a table; or the
        labels do not match the directories.
    """
    if len(set(directories)) < len(directories):
        twice = next(each for each in directories if list(directories).count(each) > 1)
        raise UserError(f"{twice} is given twice; pass each directory once")
    of_shards = [directory for directory in sorted(directories) if shards.is_shard(directory)]
    found = {
        str(directory): _read_directory(directory)
        for directory in sorted(directories)
        if directory not in of_shards
    }
    for merged in shards.merge(of_shards):
        found[merged.source] = _read_merged(merged)
    if labels:
        _label(found, [str(directory) for directory in directories], labels)
    _check_tasks({source: directory.task for source, directory in found.items()})
    task = next(iter(found.values())).task
    rows = pd.concat(
        [directory.rows.assign(source=source) for source, directory in found.items()],
        ignore_index=True,
    )
    chance = _chance(found, task.metrics)
    only_runs = all(of.kind == "run" for of in found.values())
    rows, configs = _with_methods(rows, found, is_comparison=only_runs and not labels)
    swept = swept_fields(rows)
    rows = rows.sort_values([*TRIAL, *swept, "source", "step"], ignore_index=True)
    columns = rows.columns
    numbers = [*swept, *curves(task.metrics, columns), *averaged(columns, task.metrics)]
    rows = rows[[*TRIAL, "split", *numbers, "diverged", "source"]]
    _check_trials(rows, may_differ_in_length=only_runs)
    return Results(
        rows=rows,
        sources=pd.DataFrame(
            [
                _source(name, of.kind, summary)
                for of in found.values()
                for name, summary in of.parts.items()
            ]
        ),
        metrics=task.metrics,
        objective=task.metrics[task.objective],
        chance=chance,
        configs=configs,
        runs={
            str(directory): next(iter(found[str(directory)].configs.values()))
            for directory in directories
            if directory not in of_shards and found[str(directory)].kind == "run"
        },
        summaries={source: directory.parts for source, directory in found.items()},
    )


def _label(found: dict[str, _Directory], sources: Sequence[str], labels: Sequence[str]) -> None:
    """Puts the label of each single run in the place of the name of its schedule."""
    if len(labels) != len(sources) or not all(labels):
        raise UserError(
            f"--labels={','.join(labels)} has {len(labels)} names, but there are {len(sources)} "
            "results; pass one name for each"
        )
    for source, label in zip(sources, labels, strict=True):
        if source not in found or found[source].kind != "run":
            raise UserError(
                f"--labels is for single runs, but {source} is a sweep, whose settings have names"
            )
        directory = found[source]
        ((data, model, _), config), *_ = directory.configs.items()
        found[source] = directory._replace(
            rows=directory.rows.assign(setting=label), configs={(data, model, label): config}
        )


def _read_directory(directory: Path) -> _Directory:
    kinds = {"sweep": directory / "trials.csv", "run": directory / "metrics.jsonl"}
    kind = next((kind for kind, file in kinds.items() if file.exists()), None)
    lacking = "neither trials.csv (sweep) nor metrics.jsonl (run)"
    if kind is None and not (directory / "config.json").exists():
        raise UserError(f"{directory} is not the directory of a run or a sweep: it has {lacking}")
    file = directory / "summary.json"
    if kind is None or not file.exists():
        lacking = lacking if kind is None else "no summary.json"
        raise UserError(f"{directory} is unfinished: it has {lacking}; run its command again")
    integrity.check(directory)
    summary = read_summary(file, kind)
    parts = {str(directory): summary}
    config = read_json(directory / "config.json")
    if kind == "sweep":
        try:
            text = kinds["sweep"].read_text()
        except (OSError, ValueError) as error:
            raise broken(kinds["sweep"], error) from error
        configs = directory / "config.json"
        return _of_sweep((kinds["sweep"], configs, file), text, config, summary, parts)
    task = task_of(file, summary)
    fields = methods.flatten(config)
    rows = of_run(directory, fields, summary, task.metrics)
    data, model, setting = rows[CELL].iloc[0]
    cells: dict[Cell, Config] = {(data, model, setting): fields}
    return _Directory(kind, file, rows, summary, parts, task, cells, exact=True)


def _read_merged(merged: shards.Merged) -> _Directory:
    for summary in (merged.summary, *merged.parts.values()):
        check_summary(merged.file, "sweep", summary)
    files = (merged.file, merged.file, merged.file)
    return _of_sweep(files, merged.table, merged.config, merged.summary, merged.parts)


def _of_sweep(
    files: tuple[Path, Path, Path],
    text: str,
    config: Mapping[str, Any],
    summary: dict[str, Any],
    parts: dict[str, dict[str, Any]],
) -> _Directory:
    """Reads a sweep from its table, config, and summary; `files` are theirs, for errors."""
    table_file, config_file, file = files
    task = task_of(file, summary)
    try:
        base = methods.flatten(config["base"])
        swept = [axis["field"] for axis in config["grid"]]
        settings = {setting["name"]: dict(setting) for setting in config["settings"]}
        rows = of_sweep(table_file, text, swept, summary, task.metrics)
        points = rows[rows.phase == "final"].drop_duplicates(CELL).set_index(CELL)[swept]
        cells: dict[Cell, Config] = {
            cell: {**base, **settings[cell[2]], **point.to_dict()}
            for cell, point in points.iterrows()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise broken(config_file, error) from error
    stored = summary.get("settings")
    if stored is None:
        return _Directory("sweep", file, rows, summary, parts, task, cells, exact=False)
    unknown = sorted({setting for _, _, setting in cells} - stored.keys())
    if unknown:
        raise broken(file, KeyError(f"settings.{unknown[0]}"))
    cells = {cell: {**base, **stored[cell[2]]} for cell in cells}
    return _Directory("sweep", file, rows, summary, parts, task, cells, exact=True)


def _source(source: str, kind: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": source,
        "kind": kind,
        "command": summary.get("command", ""),
        "trials": summary.get("trials", 1) if kind == "sweep" else 1,
        "seconds": summary["seconds"],
        "device": f"{summary['device_count']} × {summary['device']}",
        "versions": ", ".join(f"{name} {of}" for name, of in summary["versions"].items()),
    }


def _with_methods(
    rows: pd.DataFrame, found: Mapping[str, _Directory], *, is_comparison: bool
) -> tuple[pd.DataFrame, dict[tuple[str, str, str, str], Config | None]]:
    """Adds the split of each trial, and puts printable names and its method into its row."""
    units = {}
    configs: dict[Unit, Config] = {}
    for source, directory in found.items():
        for (data, model, setting), config in directory.configs.items():
            split = SPLITS[bool(config.get(HELD_OUT))]
            shown = (methods.printable(data), split, methods.printable(model))
            unit = units[source, data, model, setting] = Unit(source, *shown, setting)
            configs[unit] = config
    names = methods.named(configs, are_runs=is_comparison)
    of_row = [units[cell] for cell in rows[["source", *CELL]].itertuples(index=False, name=None)]
    rows = rows.assign(
        data=[unit.data for unit in of_row],
        model=[unit.model for unit in of_row],
        split=[unit.split for unit in of_row],
        setting=[names[unit] for unit in of_row],
    )
    of_method: dict[tuple[str, str, str, str], Config | None] = {}
    for unit, config in configs.items():
        key = (*unit[1:4], names[unit])
        of_method[key] = config if found[unit.source].exact else of_method.get(key)
    return rows, of_method


def _chance(
    found: Mapping[str, _Directory], metrics: Mapping[str, Metric]
) -> dict[str, dict[str, float]]:
    """Returns the chance levels: metric name -> data set -> level."""
    levels: dict[str, dict[str, float]] = {name: {} for name in metrics}
    given_by: dict[tuple[str, str], str] = {}
    for source, directory in found.items():
        for data in sorted(set(directory.rows.data)):
            for name, level in chance_of(directory.file, directory.summary, data, metrics).items():
                other = given_by.setdefault((name, data), source)
                if levels[name].setdefault(methods.printable(data), level) != level:
                    raise UserError(
                        f"the chance level of {name} on {data} is {level:g} in {source}, but "
                        f"{levels[name][methods.printable(data)]:g} in {other}, so they are not "
                        "the same data set; report them separately"
                    )
    return levels


def _check_tasks(tasks: Mapping[str, Task]) -> None:
    """Raises an error if the directories differ in task, metrics, or objective."""
    (first, expected), *others = tasks.items()
    for directory, task in others:
        if task != expected:
            raise UserError(
                f"a report covers one task, but {first} has {expected}, and {directory} has {task}"
            )


def _check_trials(rows: pd.DataFrame, *, may_differ_in_length: bool) -> None:
    """Raises an error if a trial appears twice, or if trials cannot share a table.

    Single runs may differ in length, because the report begins with what differs between them. The
    trials of one method must not.
    """
    swept = swept_fields(rows)
    # Tuning trials of different directories are never pooled, so only final trials can be the same.
    final = rows[rows.phase == "final"]
    for (data, _, model, setting, seed), trial in final.groupby(
        ["data", "split", "model", "setting", "seed"]
    ):
        sources = sorted(trial.source.unique())
        if len(sources) > 1:
            raise UserError(
                f"{data}, {model}, {setting}, seed {seed} appears twice, in "
                f"{' and in '.join(sources)}"
            )
    lengths = rows.groupby([*TRIAL, "split", *swept, "source"], dropna=False, as_index=False).size()
    table_of = ["phase", "data", "split", *(["model", "setting"] if may_differ_in_length else [])]
    for (_, data, *_), table in lengths.groupby(table_of):
        epochs = table.groupby("size").source.first()
        if len(epochs) > 1:
            found = ", ".join(f"{length} in {source}" for length, source in epochs.items())
            raise UserError(
                f"trials of {data} have different numbers of epochs and cannot share a table: "
                f"{found}"
            )
