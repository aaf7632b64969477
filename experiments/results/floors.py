"""What the metrics of runs and sweeps are compared with: the best value, or a reference."""

import math
from collections.abc import Mapping
from typing import Any

from experiments.results.described import impossible
from experiments.results.methods import printable


def of_data(
    summaries: Mapping[str, Mapping[str, Any]], data: str, metric: str
) -> dict[str, list[float]]:
    """Returns what a metric is compared with on a data set.

    Args:
      summaries: directory -> its summary. That of a run has a floor of each metric; that of a sweep
        has them for each data set. Older ones have none.
      data: printable name of the data set.
      metric: name of the metric.

    Returns:
      Meaning -> values, more than one if directories differ.

    Raises:
      UserError: a value is not a finite number, or its meaning is not a text.
    """
    found: dict[str, set[float]] = {}
    for source, summary in summaries.items():
        floors: Any = summary.get("floors", {})
        if "trials" in summary:
            floors = next((of for name, of in floors.items() if printable(name) == data), {})
        if metric not in floors:
            continue
        floor: Any = floors[metric] if isinstance(floors[metric], dict) else {}
        value, meaning = floor.get("value"), floor.get("meaning")
        if type(value) not in (int, float) or not math.isfinite(value):
            raise impossible(f"{source}: floor of {metric}", value, "a finite number")
        if not isinstance(meaning, str):
            raise impossible(f"{source}: meaning of the floor of {metric}", meaning, "a text")
        found.setdefault(printable(meaning), set()).add(value)
    return {meaning: sorted(values) for meaning, values in found.items()}
