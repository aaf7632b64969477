"""Trains one model: python -m experiments.train --config=configs/NAME.py [--workdir=DIR].

Any field of the config can be set with --config.FIELD=VALUE. The same command on the same workdir
goes on from the newest checkpoint.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

import loganneal_jax
from experiments import build, checkpoint, cli, guard, parallel, step, telemetry
from experiments.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept; runs/NAME by default.")


def main() -> None:
    """Trains as the flags say."""
    config = CONFIG.value
    if config is None:
        raise UserError("--config is missing; pass --config=configs/NAME.py")
    workdir = epath.Path(WORKDIR.value or f"runs/{cli.config_name()}")
    experiment = build.build(config)
    telemetry.claim(workdir, config)
    summary = telemetry.finished(workdir)
    verb = "was finished before, in"
    if summary is None:
        summary = train(config, experiment, workdir)
        verb = "wrote"
    print(
        f"test accuracy {summary['test_accuracy']:.2%} (best {summary['best_test_accuracy']:.2%}) "
        f"after {summary['epochs']:g} epochs, {summary['steps']} steps, in "
        f"{summary['seconds']:.0f} s; {verb} {workdir}"
    )


def train(config: ConfigDict, experiment: build.Experiment, workdir: epath.Path) -> dict[str, Any]:
    """Trains to the end, from the newest checkpoint in `workdir` if there is one.

    Args:
      config: the run's config.
      experiment: what was built from it.
      workdir: directory of the run.

    Returns:
      What it wrote to `summary.json`.
    """
    dataset, normalize = build.load(config, experiment)
    train_step, eval_step = build.make_steps(config, experiment, normalize)
    train_steps = parallel.compile_training(
        parallel.training(
            train_step, batch_size=config.batch_size, steps_per_epoch=experiment.steps_per_epoch
        )
    )
    evaluate = jax.jit(parallel.evaluation(eval_step, batch_size=config.eval_batch_size))
    train_split, test_split = parallel.to_device(dataset)
    learning_rates = np.asarray(loganneal_jax.tabulate(experiment.schedule, experiment.num_steps))
    init_state = partial(
        step.init_state,
        model=experiment.model,
        optimizer=experiment.optimizer,
        image_shape=experiment.dataset.image_shape,
    )
    key = jax.random.key(config.seed)

    with (
        guard.ctrl_c_between_steps() as stop_if_pressed,
        checkpoint.open_manager(workdir, max_to_keep=config.checkpoint.max_to_keep) as manager,
    ):
        restored = checkpoint.restore_latest(manager, jax.eval_shape(init_state, key))
        state, history = restored or (jax.jit(init_state)(key), [])
        first_step = int(state.step)
        with telemetry.Telemetry(
            workdir, num_steps=experiment.num_steps, step=first_step, history=history
        ) as reports:
            epochs = parallel.pieces(first_step, experiment.num_steps, experiment.steps_per_epoch)
            for start, stop in epochs:
                started = time.monotonic()
                state, train_metrics = _train_epoch(
                    train_steps,
                    state,
                    train_split,
                    parallel.pieces(start, stop, config.log_every_steps),
                    learning_rates,
                    reports,
                    stop_if_pressed,
                )
                test_metrics = jax.device_get(evaluate(state, test_split))
                record = {
                    "step": stop,
                    "epoch": stop / experiment.steps_per_epoch,
                    "learning_rate": float(learning_rates[stop - 1]),
                    **_scalars("train", train_metrics),
                    **_scalars("test", test_metrics),
                    "seconds": round(time.monotonic() - started, 3),
                }
                history.append(record)
                reports.epoch(record)
                epoch = -(-stop // experiment.steps_per_epoch)
                if stop == experiment.num_steps or epoch % config.checkpoint.every_epochs == 0:
                    checkpoint.save(manager, stop, state, history)
    summary = _summary(config, experiment, state, history)
    telemetry.write_summary(workdir, summary)
    return summary


def _train_epoch(
    train_steps: parallel.TrainSteps,
    state: step.TrainState,
    split: parallel.Split,
    intervals: Iterator[tuple[int, int]],
    learning_rates: np.ndarray,
    reports: telemetry.Telemetry,
    stop_if_pressed: Callable[[], None],
) -> tuple[step.TrainState, step.Metrics]:
    """Runs one epoch's intervals, reading each one's metrics while the next one runs."""
    epoch_metrics = jax.device_get(step.Metrics.empty())
    unread: list[tuple[int, step.Metrics]] = []

    def read_oldest() -> step.Metrics:
        stop, on_device = unread.pop(0)
        metrics = jax.device_get(on_device)
        learning_rate = float(learning_rates[stop - 1])
        scalars = _scalars("interval", metrics)
        guard.check_finite(scalars["interval_loss"], step=stop, learning_rate=learning_rate)
        reports.interval(stop, {**scalars, "interval_learning_rate": learning_rate})
        return metrics

    for start, stop in intervals:
        stop_if_pressed()
        state, on_device = train_steps(state, split, stop - start)
        unread.append((stop, on_device))
        if len(unread) > 1:
            epoch_metrics = epoch_metrics.merge(read_oldest())
    return state, epoch_metrics.merge(read_oldest())


def _scalars(name: str, metrics: step.Metrics) -> dict[str, float]:
    return {f"{name}_{key}": float(value) for key, value in metrics.compute().items()}


def _summary(
    config: ConfigDict,
    experiment: build.Experiment,
    state: step.TrainState,
    history: checkpoint.History,
) -> dict[str, Any]:
    """What is left of a run when it is over; the speed is the median epoch's, with evaluation."""
    steps = [record["step"] for record in history]
    images_per_second = statistics.median(
        (stop - start) * config.batch_size / record["seconds"]
        for start, stop, record in zip([0, *steps], steps, history, strict=False)
    )
    return {
        "test_accuracy": history[-1]["test_accuracy"],
        "test_loss": history[-1]["test_loss"],
        "best_test_accuracy": max(record["test_accuracy"] for record in history),
        "best_test_loss": min(record["test_loss"] for record in history),
        "epochs": history[-1]["epoch"],
        "steps": experiment.num_steps,
        "seconds": round(sum(record["seconds"] for record in history), 3),
        "images_per_second": round(images_per_second, 1),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "params_sha256": checkpoint.tree_sha256(state.params),
        **telemetry.environment(),
    }


if __name__ == "__main__":
    cli.run(main)
