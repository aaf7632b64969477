"""The summary of a finished run: its results, its speed, and where it was computed."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from experiments.build.experiment import Experiment
from experiments.runtime import hashes
from experiments.runtime.progress import Progress
from experiments.runtime.telemetry import finite
from experiments.tasks.task import Floor


def of_run(
    experiment: Experiment, finished: Progress, floors: Mapping[str, Floor]
) -> dict[str, Any]:
    """Returns the summary of a finished run; its speed is that of the median epoch.

    Args:
      experiment: the experiment, before any rollback.
      finished: its progress after the last step.
      floors: what metrics are compared with, by name of the metric.

    Returns:
      JSON values by name.
    """
    history = finished.history
    steps = [record["step"] for record in history]
    examples_per_second = statistics.median(
        (stop - start) * experiment.batches.batch_size / max(record["seconds"], 0.001)
        for start, stop, record in zip([0, *steps], steps, history, strict=False)
    )
    records = [finite(record) for record in history]
    results: dict[str, float | None] = {}
    for split in ["test", *(f"test_{average}" for average in experiment.averaging.names)]:
        for name, metric in experiment.task.metrics.items():
            column = f"{split}_{name}"
            # An average has no value before it begins.
            values = [value for record in records if (value := record.get(column)) is not None]
            results[column] = records[-1].get(column)
            results[f"best_{column}"] = metric.best(values) if values else None
    return {
        **results,
        "diverged": any(_lost(experiment, record) for record in history),
        "epochs": history[-1]["epoch"],
        "steps": steps[-1],
        "extended_from_epochs": experiment.config["schedule"]["total_epochs"],
        "seconds": round(sum(record["seconds"] for record in history), 3),
        "examples_per_second": round(examples_per_second, 1),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(finished.state.params)),
        "params_sha256": hashes.tree_sha256(finished.state.params),
        "rollbacks": finished.rollbacks,
        **({} if experiment.task.stream is None else {"damaged_examples": len(finished.damaged)}),
        **({"best_checkpoint": finished.best} if experiment.checkpoints.keep_best else {}),
        "task": experiment.config["task"]["name"],
        **experiment.task.description(),
        "floors": {name: floor._asdict() for name, floor in floors.items()},
        **finished.environment,
        "environment_changes": finished.environment_changes,
    }


def warn_of_divergence(experiment: Experiment, history: Sequence[Mapping[str, float]]) -> None:
    """Warns about metrics that are not finite, although every loss and parameter is.

    Args:
      experiment: the experiment.
      history: one record per finished epoch.
    """
    for record in history:
        lost = _lost(experiment, record)
        if lost:
            print(
                f"warning: the run finished, but diverged: {', '.join(lost)} at step "
                f"{record['step']} is not finite; summary.json says diverged, and files have null",
                file=sys.stderr,
            )
            return


def _lost(experiment: Experiment, record: Mapping[str, float]) -> list[str]:
    """Returns the metrics of the last weights that are not finite."""
    names = [name for name, value in finite(record).items() if value is None]
    of_averages = {
        f"test_{average}_{metric}"
        for average in experiment.averaging.names
        for metric in experiment.task.metrics
    }
    return [name for name in names if name not in of_averages]
