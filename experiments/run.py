"""One run from its newest checkpoint to its end, through signals, spikes and rollbacks."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

import loganneal_jax
from experiments import build, checkpoint, guard, parallel, processes, step, telemetry
from experiments.alarm import Alarm, LossLimit
from experiments.errors import Stopped, UserError
from experiments.processes import Asked
from experiments.profile import Profiler
from experiments.window import Window


class Setup(NamedTuple):
    """What a run computes with; its programs are compiled when first called.

    Attributes:
      config: the run's config, with what rollbacks changed.
      strategy: how the devices share a step.
      experiment: what was built from it.
      order: the examples of an epoch in its order.
      train: many steps of an epoch.
      evaluate: the metrics of a split.
      train_split: the training split, on the device.
      test_split: the test split, on the device.
      learning_rates: float32 [steps], on the host.
      limit: the loss of a step that stops the run.
    """

    config: ConfigDict
    strategy: parallel.Strategy
    experiment: build.Experiment
    order: Callable[[step.TrainState], jax.Array]
    train: parallel.TrainSteps
    evaluate: Callable[[step.TrainState, parallel.Split], step.Metrics]
    train_split: parallel.Split
    test_split: parallel.Split
    learning_rates: np.ndarray
    limit: LossLimit


class Progress(NamedTuple):
    """How far a run has come: what a checkpoint holds.

    Attributes:
      state: the state, on the device.
      history: a record of each epoch that is over.
      metrics: sums over the steps of the epoch under way, on the host.
      seconds: wall clock spent in that epoch.
      rollbacks: what spikes have changed, oldest first.
    """

    state: step.TrainState
    history: list[dict[str, Any]]
    metrics: step.Metrics
    seconds: float
    rollbacks: list[guard.Rollback]


def run(
    config: ConfigDict, workdir: epath.Path, profiled: Window | None = None
) -> tuple[dict[str, Any], bool]:
    """Trains what a config describes, unless `workdir` holds the finished run.

    Args:
      config: the run's config.
      workdir: directory of the run, which all processes see.
      profiled: steps of which a trace is written into it.

    Returns:
      The run's summary, and whether it was finished before.

    Raises:
      UserError: the config cannot be used, the directory is another's, or the run diverged.
      Stopped: a signal asked the run to stop, and its state is saved.
    """
    experiment = processes.together(lambda: build.build(config))
    processes.check_same(config)
    parallel.check_batch_size(config, jax.device_count())
    if profiled and profiled.first >= experiment.num_steps:
        raise UserError(
            f"--profile_steps={profiled.first}:{profiled.end} begins after the run's last step, "
            f"{experiment.num_steps - 1}"
        )
    with contextlib.ExitStack() as stack:
        processes.together(lambda: _claim(config, workdir, stack))
        summary = processes.together(lambda: _finished(config, workdir))
        if summary is not None:
            return summary, True
        return train(config, experiment, workdir, profiled), False


def _claim(config: ConfigDict, workdir: epath.Path, stack: contextlib.ExitStack) -> None:
    """Makes the directory this run's, in the process that writes to it."""
    if processes.is_first():
        stack.enter_context(telemetry.locked(workdir))
        telemetry.claim(workdir, config)


def _finished(config: ConfigDict, workdir: epath.Path) -> dict[str, Any] | None:
    """The summary of the finished run, as every process sees it."""
    if not (workdir / "config.json").exists():
        raise UserError(
            f"workdir {workdir} is not the directory that process 0 sees by that name; pass a "
            "--workdir that all processes share, such as gs://BUCKET/NAME"
        )
    return telemetry.finished(workdir)


def train(
    config: ConfigDict,
    experiment: build.Experiment,
    workdir: epath.Path,
    profiled: Window | None = None,
) -> dict[str, Any]:
    """Trains to the end, from the newest checkpoint in `workdir` if there is one.

    After a spike it goes back to the newest checkpoint and on with an adjusted schedule, as often
    as the config allows.

    Args:
      config: the run's config.
      experiment: what was built from it.
      workdir: directory of the run, locked.
      profiled: steps of which a trace is written.

    Returns:
      What it wrote to `summary.json`.

    Raises:
      UserError: the run diverged, or its files cannot be read or written.
      Stopped: a signal asked the run to stop, and its state is saved.
    """
    max_to_keep = config.checkpoint.max_to_keep
    rollbacks: list[guard.Rollback] = []
    strategy = parallel.make_strategy(config.parallel, jax.devices())
    with (
        guard.signals() as signals,
        Profiler(profiled, workdir) as profiler,
        checkpoint.open_manager(workdir, max_to_keep=max_to_keep) as manager,
    ):
        asked = Asked(signals, strategy.mesh)
        dataset, normalize = processes.together(lambda: build.load(config, experiment))
        splits = parallel.to_device(dataset, strategy.sharding)
        progress = None
        while progress is None:
            newest = _newest(config, experiment, manager, strategy)
            # Rollbacks since that checkpoint are known to this process alone.
            newest = newest._replace(rollbacks=max(newest.rollbacks, rollbacks, key=len))
            setup = _set_up(config, newest.rollbacks, normalize, splits, strategy)
            try:
                progress = _to_the_end(setup, newest, workdir, manager, asked, profiler)
            except Stopped:
                checkpoint.finish_saving(manager)
                raise
            except guard.Spike as spike:
                checkpoint.finish_saving(manager)
                rollback = guard.roll_back(
                    spike,
                    setup.config,
                    newest.rollbacks,
                    steps_per_epoch=experiment.steps_per_epoch,
                    newest=manager.latest_step(),
                )
                rollbacks = [*newest.rollbacks, rollback]
    summary = _summary(config, progress)
    if processes.is_first():
        telemetry.write_summary(workdir, summary)
    return summary


def _newest(
    config: ConfigDict,
    experiment: build.Experiment,
    manager: checkpoint.Manager,
    strategy: parallel.Strategy,
) -> Progress:
    """The progress that the newest checkpoint holds, or that of a new run."""

    def init_state(key_data: jax.Array) -> step.TrainState:
        return step.init_state(
            jax.random.wrap_key_data(key_data),
            model=experiment.model,
            optimizer=experiment.optimizer,
            image_shape=experiment.dataset.image_shape,
        )

    # On the host, from where it can go to the devices of all processes.
    key_data = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
    # It runs once, and compiles in half the time with the same bits (tests/test_compile_cache.py).
    options = {"xla_backend_optimization_level": 1} if jax.default_backend() == "cpu" else None
    init = jax.jit(init_state, out_shardings=strategy.sharding, compiler_options=options)
    no_metrics = jax.device_get(step.Metrics.empty())
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=strategy.sharding),
        jax.eval_shape(init, key_data),
    )
    restored = checkpoint.restore_latest(manager, shapes)
    if restored is None:
        return Progress(init(key_data), [], no_metrics, 0.0, [])
    state, record = restored
    # In the record they are numbers, of which each finds its dtype again.
    zeros, treedef = jax.tree.flatten(no_metrics)
    sums = [zero.dtype.type(value) for zero, value in zip(zeros, record["metrics"], strict=True)]
    metrics = jax.tree.unflatten(treedef, sums)
    return Progress(state, record["history"], metrics, record["seconds"], record["rollbacks"])


def _save(manager: checkpoint.Manager, progress: Progress, *, at: int) -> None:
    record = {
        "history": progress.history,
        "metrics": [leaf.item() for leaf in jax.tree.leaves(progress.metrics)],
        "seconds": progress.seconds,
        "rollbacks": progress.rollbacks,
    }
    checkpoint.save(manager, at, progress.state, record)


def _set_up(
    config: ConfigDict,
    rollbacks: Sequence[guard.Rollback],
    normalize: step.Normalize,
    splits: tuple[parallel.Split, parallel.Split],
    strategy: parallel.Strategy,
) -> Setup:
    config = guard.adjusted(config, rollbacks)
    try:
        experiment = build.build(config)
    except UserError as error:
        raise UserError(f"the schedule after {len(rollbacks)} rollbacks: {error}") from error
    train_step, eval_step = build.make_steps(config, experiment, normalize)
    limit = guard.loss_limit(config.guard, steps_per_epoch=experiment.steps_per_epoch)
    train_steps = parallel.training(
        train_step,
        batch_size=config.batch_size,
        steps_per_epoch=experiment.steps_per_epoch,
        loss_limit=limit,
        share=strategy.share,
    )
    order = parallel.ordering(
        num_examples=experiment.dataset.num_train, steps_per_epoch=experiment.steps_per_epoch
    )
    # The batches of an evaluation need not be equal: what fills up the last one is not counted.
    num_devices = strategy.mesh.size
    evaluate = parallel.evaluation(
        eval_step,
        batch_size=math.ceil(config.eval_batch_size / num_devices) * num_devices,
        share=strategy.share,
    )
    return Setup(
        config=config,
        strategy=strategy,
        experiment=experiment,
        order=strategy.compile(order, donate=False),
        train=strategy.compile(train_steps, donate=True),
        evaluate=strategy.compile(evaluate, donate=False),
        train_split=splits[0],
        test_split=splits[1],
        learning_rates=np.asarray(
            loganneal_jax.tabulate(experiment.schedule, experiment.num_steps)
        ),
        limit=limit,
    )


def _to_the_end(
    setup: Setup,
    progress: Progress,
    workdir: epath.Path,
    manager: checkpoint.Manager,
    asked: Asked,
    profiler: Profiler,
) -> Progress:
    """Trains epoch by epoch, and saves what there is when asked to stop."""
    steps_per_epoch, num_steps = setup.experiment.steps_per_epoch, setup.experiment.num_steps
    at = saved_at = int(progress.state.step)
    with contextlib.ExitStack() as stack:
        reports = None
        if processes.is_first():
            writers = telemetry.Telemetry(
                workdir, num_steps=num_steps, step=at, history=progress.history
            )
            reports = stack.enter_context(writers)
        while at < num_steps:
            epoch = at // steps_per_epoch + 1
            stop = min(epoch * steps_per_epoch, num_steps)
            at, progress = _train_epoch(setup, progress, at, stop, reports, asked, profiler)
            number = asked()
            if number and at < stop:
                if at > saved_at:
                    _save(manager, progress, at=at)
                raise Stopped(number, _where(at))
            progress = _end_epoch(setup, progress, at)
            if reports:
                reports.epoch(progress.history[-1])
            if at == num_steps or epoch % setup.config.checkpoint.every_epochs == 0:
                _save(manager, progress, at=at)
                saved_at = at
    return progress


def _where(at: int) -> str:
    if at == 0:
        return "before the first step; the same command begins anew"
    return f"at step {at}, which is saved; the same command goes on from there"


def _train_epoch(
    setup: Setup,
    progress: Progress,
    start: int,
    stop: int,
    reports: telemetry.Telemetry | None,
    asked: Asked,
    profiler: Profiler,
) -> tuple[int, Progress]:
    """Runs what is left of an epoch, reading each dispatch's metrics while the next one runs."""
    started = time.monotonic()
    state, metrics = progress.state, progress.metrics
    at = start
    order = setup.order(state)
    unread: list[tuple[int, step.Metrics, Alarm, jax.typing.ArrayLike]] = []

    def read_oldest() -> step.Metrics:
        end, *on_device = unread.pop(0)
        read, seen, answer = jax.device_get(on_device)
        asked.hear(answer)
        scalars = _scalars("interval", read)
        guard.check(
            seen,
            stop=end,
            loss=scalars["interval_loss"],
            learning_rates=setup.learning_rates,
            limit=setup.limit,
        )
        learning_rate = float(setup.learning_rates[end - 1])
        if reports:
            reports.interval(end, {**scalars, "interval_learning_rate": learning_rate})
        return read

    for first, end in parallel.pieces(
        start, stop, setup.config.log_every_steps, profiler.boundaries()
    ):
        if asked():
            break
        profiler.reach(first, state)
        state, interval_metrics, alarm = setup.train(state, setup.train_split, order, end - first)
        at = end
        unread.append((at, interval_metrics, alarm, asked.tell()))
        if len(unread) > 1:
            metrics = metrics.merge(read_oldest())
    if unread:
        metrics = metrics.merge(read_oldest())
    profiler.reach(at, state)
    seconds = progress.seconds + time.monotonic() - started
    return at, progress._replace(state=state, metrics=metrics, seconds=seconds)


def _end_epoch(setup: Setup, progress: Progress, at: int) -> Progress:
    """Evaluates, and adds the epoch's record to the history."""
    started = time.monotonic()
    test_metrics = jax.device_get(setup.evaluate(progress.state, setup.test_split))
    record = {
        "step": at,
        "epoch": at / setup.experiment.steps_per_epoch,
        "learning_rate": float(setup.learning_rates[at - 1]),
        **_scalars("train", progress.metrics),
        **_scalars("test", test_metrics),
        "seconds": round(progress.seconds + time.monotonic() - started, 3),
    }
    return progress._replace(
        history=[*progress.history, record],
        metrics=jax.device_get(step.Metrics.empty()),
        seconds=0.0,
    )


def _scalars(name: str, metrics: step.Metrics) -> dict[str, float]:
    return {f"{name}_{key}": float(value) for key, value in metrics.compute().items()}


def _summary(config: ConfigDict, progress: Progress) -> dict[str, Any]:
    """What is left of a run when it is over; the speed is the median epoch's, with evaluation."""
    history = progress.history
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
        "steps": steps[-1],
        "seconds": round(sum(record["seconds"] for record in history), 3),
        "images_per_second": round(images_per_second, 1),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(progress.state.params)),
        "params_sha256": checkpoint.tree_sha256(progress.state.params),
        "rollbacks": progress.rollbacks,
        **telemetry.environment(),
    }
