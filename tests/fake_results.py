"""Writes what a run and a sweep leave, with made-up numbers."""

import csv
import json

import numpy as np

ENVIRONMENT = {
    "device": "made-up CPU",
    "platform": "cpu",
    "device_count": 1,
    "versions": {"python": "3.11.7", "jax": "0.10.2"},
}
CURVES = (
    "epoch",
    "step",
    "learning_rate",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "test_accuracy",
)
STEPS_PER_EPOCH = 7


def trial(accuracies, **fields):
    """The rows of one trial, a dict an epoch, with these test accuracies; None is diverged."""
    diverged = False
    rows = []
    for epoch, accuracy in enumerate(accuracies, 1):
        diverged |= accuracy is None
        loss = "" if diverged else 2.0 / epoch
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
                "train_loss": loss,
                "train_accuracy": 0.5,
                "test_loss": loss,
                "test_accuracy": "" if diverged else accuracy,
                "diverged": diverged,
                **fields,
            }
        )
    return rows


def curve(level, epochs, generator):
    """Test accuracies that rise to about a level."""
    noise = generator.normal(0, 0.002, size=epochs)
    return [
        float(min(1, x)) for x in level * (1 - 0.5 * np.exp(-np.arange(1, epochs + 1) / 2)) + noise
    ]


def write_sweep(directory, trials):
    """A sweep's directory, of trials made by `trial`."""
    directory.mkdir(parents=True)
    rows = [row for rows in trials for row in rows]
    with (directory / "trials.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    write_summary(directory, command="python -m experiments.sweep x", trials=len(trials))
    (directory / "config.json").write_text("{}\n")
    return directory


def write_run(directory, accuracies, *, schedule="sig+", optimizer="sgd", seed=0, **fields):
    """A single run's directory, with these test accuracies."""
    directory.mkdir(parents=True)
    rows = trial(accuracies)
    lines = [{name: row[name] for name in CURVES} | {"seconds": 1.0} for row in rows]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {
        "seed": seed,
        "data": {"name": fields.get("data", "mnist")},
        "model": {
            "name": fields.get("model", "nn2"),
            "width_multiplier": fields.get("width_multiplier", 1.0),
        },
        "optimizer": {"name": optimizer},
        "schedule": {"name": schedule},
    }
    (directory / "config.json").write_text(json.dumps(config))
    write_summary(directory, epochs=float(len(rows)), steps=rows[-1]["step"])
    return directory


def write_summary(directory, **fields):
    summary = {**fields, "seconds": 60.0, **ENVIRONMENT}
    (directory / "summary.json").write_text(json.dumps(summary))
