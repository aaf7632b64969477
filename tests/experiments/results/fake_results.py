"""Writes the files of finished runs and sweeps, with made-up numbers."""

import csv
import json

import numpy as np

ENVIRONMENT = {
    "device": "made-up CPU",
    "platform": "cpu",
    "device_count": 1,
    "versions": {"python": "3.11.7", "jax": "0.10.2"},
}
LOSS = {"direction": "min", "percent": False}
CLASSIFICATION = {
    "task": "classification",
    "metrics": {"accuracy": {"direction": "max", "percent": True}, "loss": LOSS},
    "objective": "accuracy",
}
REGRESSION = {"task": "regression", "metrics": {"loss": LOSS}, "objective": "loss"}
STEPS_PER_EPOCH = 7


def trial(values, *, task=CLASSIFICATION, **fields):
    """Returns the rows of one trial, a dict per epoch, with these test objectives.

    None marks an epoch that diverged. All other losses are 2 / epoch.
    """
    diverged = False
    rows = []
    for epoch, value in enumerate(values, 1):
        diverged |= value is None
        loss = "" if diverged else 2.0 / epoch
        metrics = {name: loss if name == "loss" else 0.5 for name in task["metrics"]}
        tested = {**metrics, task["objective"]: "" if diverged else value}
        rows.append(
            {
                "phase": "final",
                "data": "mnist",
                "model": "nn2",
                "setting": "sig+",
                "seed": 0,
                "epoch": float(epoch),
                "step": epoch * STEPS_PER_EPOCH,
                "learning_rate": 0.1 / epoch,
                **{f"train_{name}": value for name, value in metrics.items()},
                **{f"test_{name}": value for name, value in tested.items()},
                "diverged": diverged,
                **fields,
            }
        )
    return rows


def curve(level, epochs, generator):
    """Returns test accuracies that rise to about a level."""
    noise = generator.normal(0, 0.002, size=epochs)
    return [
        float(min(1, x)) for x in level * (1 - 0.5 * np.exp(-np.arange(1, epochs + 1) / 2)) + noise
    ]


def write_sweep(directory, trials, *, task=CLASSIFICATION, base=None, **summary):
    """Writes a sweep's directory with trials made by `trial`, and more fields of its summary."""
    directory.mkdir(parents=True)
    rows = [row for rows in trials for row in rows]
    with (directory / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    command = "python -m experiments.sweep x"
    write_summary(directory, **{"command": command, "trials": len(trials), **task, **summary})
    config = {
        "base": base or {},
        "settings": [{"name": name} for name in dict.fromkeys(row["setting"] for row in rows)],
        "grid": [{"field": name, "values": []} for name in rows[0] if "." in name],
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def write_run(
    directory,
    values,
    *,
    task=CLASSIFICATION,
    data="mnist",
    model="nn2",
    schedule="sig+",
    optimizer="sgd",
    seed=0,
    config=None,
    **summary,
):
    """Writes a single run's directory with these test objectives.

    `config` has more sections of its config, and `summary` more fields of its summary.
    """
    rows = trial(values, task=task)
    curves = ("epoch", "step", "learning_rate")
    lines = [
        {name: row[name] for name in row if name in curves or name.startswith(("train_", "test_"))}
        for row in rows
    ]
    directory.mkdir(parents=True)
    text = "".join(json.dumps({**line, "seconds": 1.0}) + "\n" for line in lines)
    (directory / "metrics.jsonl").write_text(text)
    # Reports take the names of the data set and the model from summary.json.
    sections = {
        "seed": seed,
        "data": {"name": "unused"},
        "model": {"name": "unused"},
        "optimizer": {"name": optimizer},
        "schedule": {"name": schedule},
        **(config or {}),
    }
    (directory / "config.json").write_text(json.dumps(sections))
    write_summary(
        directory,
        **{
            "epochs": float(len(rows)),
            "steps": rows[-1]["step"],
            "data": data,
            "model": model,
            **task,
            **summary,
        },
    )
    return directory


def write_summary(directory, **fields):
    """Writes summary.json with these fields and the made-up environment."""
    summary = {"seconds": 60.0, **ENVIRONMENT, **fields}
    (directory / "summary.json").write_text(json.dumps(summary))
