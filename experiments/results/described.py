"""What `summary.json` says about a run or a sweep: its task, its metrics, and its environment."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.errors import UserError

DIRECTIONS = ("max", "min")
# The point that tuning chose, by the `tune.selection` of a sweep.
SELECTIONS = {
    "best": "the first of the best in the order of the grid",
    "one_standard_error": "the middle one of all points whose mean is within one standard error of "
    "the best",
}
# Environment fields that can change a result. An older summary has only some of them.
ENVIRONMENT = (
    *("device", "platform", "device_count", "process_count", "versions", "cpu_model"),
    *("cpu_features", "affinity", "threads", "jax_config", "xla_flags", "python_optimized"),
    "commit",
)


class Metric(NamedTuple):
    """A metric of a task, as `summary.json` describes it.

    Attributes:
      name: such as "loss".
      direction: "max" if higher is better, "min" if lower is better.
      percent: whether the metric is a fraction, which reports show in percent.
    """

    name: str
    direction: str
    percent: bool

    @property
    def label(self) -> str:
        """The name in running text."""
        return self.name.replace("_", " ")

    @property
    def scale(self) -> float:
        """The factor from a value to the number that reports show."""
        return 100.0 if self.percent else 1.0


class Task(NamedTuple):
    """What a run or a sweep learned. Results of different tasks are never compared.

    Attributes:
      name: name of the task.
      metrics: metric name -> metric.
      objective: name of the metric that ranks trials.
    """

    name: str
    metrics: Mapping[str, Metric]
    objective: str

    def __str__(self) -> str:
        metrics = ", ".join(
            f"{metric.name} ({metric.direction}{', percent' if metric.percent else ''})"
            for metric in self.metrics.values()
        )
        return f"task {self.name}, metrics {metrics}, objective {self.objective}"


def read_json(file: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
      UserError: the file cannot be read, or does not hold a JSON object.
    """
    try:
        content = json.loads(file.read_text())
        if not isinstance(content, dict):
            raise TypeError(f"expected an object, found {content!r}")
        return content
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise broken(file, error) from error


def read_summary(file: Path, kind: str) -> dict[str, Any]:
    """Reads a `summary.json` and checks the fields that a report uses.

    Args:
      file: the file.
      kind: "run" or "sweep".

    Returns:
      The summary.

    Raises:
      UserError: the file cannot be read, or a field is missing, of another type, or impossible.
    """
    summary = read_json(file)
    check_summary(file, kind, summary)
    return summary


def check_summary(file: Path, kind: str, summary: Mapping[str, Any]) -> None:
    """Checks the fields of a summary that a report uses.

    Args:
      file: its file, for errors.
      kind: "run" or "sweep".
      summary: the summary.

    Raises:
      UserError: a field is missing, of another type, or impossible.
    """
    for name, (is_valid, allowed) in (FIELDS | FIELDS_OF_KIND[kind]).items():
        if name not in summary:
            raise broken(file, KeyError(name))
        if not is_valid(summary[name]):
            raise impossible(f"{file}: {name}", summary[name], allowed)
    for name, (is_valid, allowed) in OPTIONAL_FIELDS.items():
        if name in summary and not is_valid(summary[name]):
            raise impossible(f"{file}: {name}", summary[name], allowed)


def task_of(file: Path, summary: Mapping[str, Any]) -> Task:
    """Returns the task that a summary describes.

    Args:
      file: the file of the summary, for errors.
      summary: the summary.

    Returns:
      The task.

    Raises:
      UserError: a metric is not described, or the objective is not among the metrics.
    """
    try:
        metrics = {
            name: Metric(name, described["direction"], described["percent"])
            for name, described in summary["metrics"].items()
        }
        for metric in metrics.values():
            if metric.direction not in DIRECTIONS:
                allowed = ", ".join(DIRECTIONS)
                raise ValueError(f"direction {metric.direction!r}, not one of {allowed}")
            if not isinstance(metric.percent, bool):
                raise ValueError(f"percent {metric.percent!r}, neither true nor false")
        return Task(summary["task"], metrics, metrics[summary["objective"]].name)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise broken(file, error) from error


def chance_of(
    file: Path, summary: Mapping[str, Any], data: str, metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """Returns the chance levels of the metrics that have one.

    Args:
      file: the file of the summary, for errors.
      summary: the summary. That of a sweep has the levels of each data set; older ones have none.
      data: name of the data set.
      metrics: metric name -> metric.

    Returns:
      Metric name -> chance level.

    Raises:
      UserError: a level is not a number, or a fraction is not between 0 and 1.
    """
    levels = {name: of.get("chance") for name, of in summary["metrics"].items()}
    if "chance" in summary:
        levels = summary["chance"].get(data) or {}
    found = {name: levels[name] for name in metrics if levels.get(name) is not None}
    for name, level in found.items():
        if not _is_number(level) or (metrics[name].percent and not 0 <= level <= 1):
            allowed = "a fraction from 0 to 1" if metrics[name].percent else "a finite number"
            raise impossible(f"{file}: chance level of {name}", level, allowed)
    return found


def broken(file: Path, error: BaseException) -> UserError:
    """Returns the error for a file that cannot be used at all."""
    reason = " ".join(str(error).split())
    return UserError(
        f"{file} is unreadable, truncated, or lacks a field: {type(error).__name__} {reason}"
    )


def impossible(what: str, value: Any, allowed: str) -> UserError:
    """Returns the error for a value that no run writes."""
    return UserError(
        f"{what} is {value!r}, but must be {allowed}; restore the file, or run its command again "
        "with another --workdir"
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < math.inf


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_versions(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(of, str) for of in value.values())


def _is_changes(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(change, dict)
        and isinstance(change.get("step"), int)
        and isinstance(change.get("changed"), dict)
        and all(isinstance(pair, list) and len(pair) == 2 for pair in change["changed"].values())
        for change in value
    )


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(of, dict) for of in value.values())


Check = tuple[Callable[[Any], bool], str]
TEXT: Check = (_is_text, "a text")
COUNT: Check = (_is_count, "an integer of at least 1")
FIELDS: dict[str, Check] = {
    "seconds": (lambda value: _is_number(value) and value >= 0, "a number of at least 0"),
    "device": TEXT,
    "device_count": COUNT,
    "versions": (_is_versions, "an object of texts"),
    "task": TEXT,
    "metrics": (_is_nested, "an object of objects"),
    "objective": TEXT,
}
FIELDS_OF_KIND: dict[str, dict[str, Check]] = {
    "run": {
        "epochs": (lambda value: _is_number(value) and value > 0, "a number above 0"),
        "steps": COUNT,
        "data": TEXT,
        "model": TEXT,
    },
    "sweep": {"command": TEXT, "trials": COUNT},
}
OPTIONAL_FIELDS: dict[str, Check] = {
    "command": TEXT,
    "chance": (_is_nested, "an object of objects"),
    "floors": (_is_nested, "an object of objects"),
    "settings": (_is_nested, "an object of objects"),
    "selection": (
        lambda value: isinstance(value, str) and value in SELECTIONS,
        " or ".join(SELECTIONS),
    ),
    "environment_changes": (
        _is_changes,
        'a list of objects with an integer "step" and "changed", an object of pairs',
    ),
}
