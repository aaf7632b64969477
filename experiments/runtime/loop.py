"""The loop of one run, from its newest checkpoint to its end, through signals and rollbacks."""

import contextlib
import functools
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

import loganneal_jax
from experiments.build.experiment import Experiment
from experiments.data import inputs
from experiments.data.records import Readers
from experiments.errors import Stopped, UserError
from experiments.program import assemble, parallel
from experiments.program.alarm import Alarm
from experiments.program.steps import Metrics, pieces
from experiments.runtime import (
    beginning,
    feed,
    guard,
    initial,
    memory,
    pictures,
    processes,
    progress,
    signals,
    summary,
    trackers,
    workdir,
)
from experiments.runtime.checkpoint import Checkpointer
from experiments.runtime.feed import Feed
from experiments.runtime.profiler import Profiler, Window
from experiments.runtime.progress import Progress
from experiments.runtime.signals import StopRequest
from experiments.runtime.telemetry import METRICS, Telemetry
from experiments.tasks.task import Data, Floor


class Setup(NamedTuple):
    """What the loop works with; a rollback makes a new one.

    Attributes:
      experiment: the experiment, with the schedule that rollbacks left.
      programs: its compiled programs.
      learning_rates: float32 [num_steps], the learning rate of each step, on the host.
      feed: gives the programs their data.
      no_metrics: metrics of no examples, on the host.
      floors: what metrics are compared with.
    """

    experiment: Experiment
    programs: assemble.Programs
    learning_rates: np.ndarray
    feed: Feed
    no_metrics: Metrics
    floors: Mapping[str, Floor]


class Watchers(NamedTuple):
    """What observes the loop.

    Attributes:
      stop_request: the signal that asks the run to stop.
      profiler: traces chosen steps.
      telemetry: reports progress, in the process that writes the run's files.
    """

    stop_request: StopRequest
    profiler: Profiler
    telemetry: Telemetry | None


def run(
    experiment: Experiment,
    directory: epath.Path,
    window: Window | None = None,
    *,
    require_same_environment: bool = False,
    extend: bool = False,
    tracker: str | None = None,
) -> tuple[dict[str, Any], bool]:
    """Runs an experiment to its end, unless its directory holds the finished run.

    Args:
      experiment: the experiment.
      directory: directory of the run, which all processes share.
      window: steps to trace.
      require_same_environment: whether to resume only where the bits stay the same.
      extend: whether the directory has a run of the same schedule with fewer epochs.
      tracker: a name in `trackers.TRACKERS`, or None.

    Returns:
      The summary of the run, and whether it was finished before.

    Raises:
      UserError: the devices cannot share the batch, the directory belongs to another run, or the
        run diverged.
      Stopped: a signal asked the run to stop, and its state is saved.
    """
    # With data.loading='auto', hosts with different memory could choose differently.
    is_streamed = experiment.task.stream is not None
    processes.check_same({**experiment.config, "the data set is streamed": is_streamed})
    parallel.check_batch_size(
        experiment.batches.batch_size,
        accumulate_steps=experiment.accumulate_steps,
        num_devices=jax.device_count(),
    )
    guard.check_remedy(experiment)
    if window and window.first >= experiment.num_steps:
        raise UserError(
            f"--profile_steps={window.first}:{window.end} begins after the last step of the run, "
            f"{experiment.num_steps - 1}"
        )
    programs = _programs(experiment, _strategy(experiment))
    data = None
    if not (directory / "config.json").exists():  # a refused run must not claim the directory
        data = processes.together(lambda: feed.read(experiment))
        check = functools.partial(memory.check, num_devices=jax.device_count())
        processes.together(functools.partial(check, experiment, programs, data.test))
        processes.together(lambda: initial.check(experiment, directory))
    with contextlib.ExitStack() as stack:
        processes.together(lambda: beginning.claim(experiment, directory, stack, extend=extend))
        results = processes.together(lambda: beginning.read_summary(directory))
        if results is not None:
            return results, True
        results = train(
            experiment,
            directory,
            window,
            programs,
            data,
            require_same_environment=require_same_environment,
            tracker=tracker,
        )
        return results, False


def train(
    experiment: Experiment,
    directory: epath.Path,
    window: Window | None = None,
    programs: assemble.Programs | None = None,
    data: Data | Readers | None = None,
    *,
    require_same_environment: bool = False,
    tracker: str | None = None,
) -> dict[str, Any]:
    """Trains to the end, from the newest checkpoint if there is one.

    After a spike, training returns to the newest checkpoint and continues with an adjusted
    schedule, as often as the config allows.

    Args:
      experiment: the experiment.
      directory: directory of the run, locked.
      window: steps to trace.
      programs: compiled programs of the experiment, which may be traced already.
      data: data of the experiment's task, if they are loaded already.
      require_same_environment: whether to resume only where the bits stay the same.
      tracker: a name in `trackers.TRACKERS`, or None.

    Returns:
      The summary, as written to `summary.json`.

    Raises:
      UserError: the run diverged, or its files cannot be read or written.
      Stopped: a signal asked the run to stop, and its state is saved.
    """
    strategy = _strategy(experiment)
    rollbacks: list[guard.Rollback] = []
    with (
        signals.caught() as received,
        Profiler(window, directory) as profiler,
        Checkpointer(
            directory,
            max_to_keep=experiment.checkpoints.max_to_keep,
            config_sha256=workdir.trajectory(experiment.config),
        ) as checkpointer,
    ):
        stop_request = StopRequest(received, strategy.mesh)
        if experiment.task.loading and processes.is_first():
            print(experiment.task.loading, file=sys.stderr)
        data = data or processes.together(lambda: feed.read(experiment))
        floors = processes.together(experiment.task.floors)
        processes.together(lambda: beginning.store_inputs(experiment, directory))
        weights = processes.together(lambda: initial.prepare(experiment, directory))
        data_feed = feed.make_feed(experiment, data, strategy)
        first = programs or _programs(experiment, strategy)
        wait_for_compiler = data_feed.compile_ahead(first)
        no_metrics = progress.no_metrics(experiment.task)
        finished = None
        while finished is None:
            newest = progress.restore(
                checkpointer,
                experiment,
                first,
                strategy,
                begin=initial.beginning_with(weights, experiment, strategy),
                require_same_environment=require_same_environment,
            )
            # The checkpoint may be older than the last rollbacks of this process.
            newest = newest._replace(rollbacks=max(newest.rollbacks, rollbacks, key=len))
            adjusted = guard.adjusted(experiment, newest.rollbacks)
            setup = Setup(
                experiment=adjusted,
                programs=_programs(adjusted, strategy) if newest.rollbacks else first,
                learning_rates=_learning_rates(adjusted),
                feed=data_feed,
                no_metrics=no_metrics,
                floors=floors,
            )
            if setup.programs is first:
                wait_for_compiler()
            try:
                finished = _train_epochs(
                    setup, newest, directory, checkpointer, stop_request, profiler, tracker
                )
            except Stopped:
                checkpointer.finish_saving()
                raise
            except guard.Spike as spike:
                checkpointer.finish_saving()
                rollback = guard.roll_back(
                    spike, adjusted, newest.rollbacks, newest=checkpointer.latest_step()
                )
                rollbacks = [*newest.rollbacks, rollback]
    results = summary.of_run(experiment, finished, floors)
    if weights:
        results["init_from"] = weights.description
    if processes.is_first():
        summary.warn_of_divergence(experiment, finished.history)
        files = ("config.json", METRICS, *([inputs.FILE] if experiment.task.inputs else []))
        workdir.write_summary(directory, results, files=files)
    return results


def _strategy(experiment: Experiment) -> parallel.Strategy:
    return parallel.make_strategy(experiment.strategy, jax.devices(), bfloat16=experiment.bfloat16)


def _learning_rates(experiment: Experiment) -> np.ndarray:
    """Returns the learning rate of each step of a run, float32 [num_steps]."""
    # One program. Without jit, each operation of the schedule would be a program of its own.
    table = jax.jit(lambda: loganneal_jax.tabulate(experiment.schedule, experiment.num_steps))
    return np.asarray(table())


def _programs(experiment: Experiment, strategy: parallel.Strategy) -> assemble.Programs:
    return assemble.compiled(
        experiment.task,
        experiment.optimizer,
        experiment.batches,
        strategy,
        averaging=experiment.averaging,
        loss_limit=experiment.guard.loss_limit,
    )


def _train_epochs(
    setup: Setup,
    newest: Progress,
    directory: epath.Path,
    checkpointer: Checkpointer,
    stop_request: StopRequest,
    profiler: Profiler,
    tracker: str | None,
) -> Progress:
    """Trains epoch by epoch, and saves the progress when a signal asks the run to stop."""
    experiment = setup.experiment
    steps_per_epoch, num_steps = experiment.steps_per_epoch, experiment.num_steps
    current = newest
    step = saved_step = int(current.state.step)
    with contextlib.ExitStack() as stack:
        telemetry = None
        if processes.is_first():
            telemetry = stack.enter_context(
                Telemetry(
                    directory,
                    num_steps=num_steps,
                    step=step,
                    history=current.history,
                    floors={name: floor.value for name, floor in setup.floors.items()},
                    start_tracker=None
                    if tracker is None
                    else functools.partial(trackers.start, tracker, directory, experiment.config),
                )
            )
        setup.feed.damaged = current.damaged
        stack.enter_context(setup.feed.reading_from(step, profiler.boundaries()))
        watchers = Watchers(stop_request, profiler, telemetry)
        while step < num_steps:
            epoch = step // steps_per_epoch + 1
            end_of_epoch = min(epoch * steps_per_epoch, num_steps)
            step, current = _train_epoch(setup, current, step, end_of_epoch, watchers)
            signal = stop_request.signal()
            if signal and step < end_of_epoch:
                if step > saved_step:
                    progress.save(checkpointer, experiment, current, step=step)
                raise Stopped(signal, _where(step))
            current = _evaluate_epoch(setup, current, step)
            if telemetry:
                telemetry.epoch(current.history[-1])
            if setup.programs.pictures:
                drawn = pictures.draw(experiment, setup.programs, current.state, step)
                if telemetry:
                    telemetry.pictures(step, drawn)
            if step == num_steps or epoch % experiment.checkpoints.every_epochs == 0:
                current = progress.save(checkpointer, experiment, current, step=step)
                saved_step = step
    return current


def _where(step: int) -> str:
    if step == 0:
        return "before the first step; the same command starts from scratch"
    return f"at step {step}, which is saved; the same command resumes from there"


def _train_epoch(
    setup: Setup, current: Progress, start: int, stop: int, watchers: Watchers
) -> tuple[int, Progress]:
    """Runs the rest of an epoch, and reads each dispatch's metrics while the next one runs."""
    started = time.monotonic()
    stop_request, profiler, telemetry = watchers
    state, metrics = current.state, current.metrics
    step = start
    setup.feed.start_epoch(setup.programs, state)
    unread: list[tuple[int, Metrics, Alarm, jax.typing.ArrayLike]] = []

    def read_oldest() -> Metrics:
        end, *on_device = unread.pop(0)
        read, alarm, answer = jax.device_get(on_device)
        stop_request.read(answer)
        scalars = _scalars({"interval": read})
        guard.check(
            alarm,
            stop=end,
            loss=scalars["interval_loss"],
            learning_rates=setup.learning_rates,
            limit=setup.experiment.guard.loss_limit,
        )
        learning_rate = float(setup.learning_rates[end - 1])
        if telemetry:
            telemetry.interval(end, {**scalars, "interval_learning_rate": learning_rate})
        return read

    dispatches = pieces(start, stop, setup.feed.steps_per_dispatch, profiler.boundaries())
    for first, end in dispatches:
        if stop_request.signal():
            break
        profiler.reach(first, state)
        state, interval, alarm = setup.feed.train(setup.programs, state, first, end)
        step = end
        unread.append((step, interval, alarm, stop_request.exchange()))
        if len(unread) > 1:
            metrics = metrics.merge(read_oldest())
    if unread:
        metrics = metrics.merge(read_oldest())
    profiler.reach(step, state)
    seconds = current.seconds + time.monotonic() - started
    damaged = setup.feed.damaged
    return step, current._replace(state=state, metrics=metrics, seconds=seconds, damaged=damaged)


def _evaluate_epoch(setup: Setup, current: Progress, step: int) -> Progress:
    """Evaluates the weights and their averages, and adds the record of the epoch to the history."""
    started = time.monotonic()
    experiment = setup.experiment
    steps_per_epoch = experiment.steps_per_epoch
    names = experiment.averaging.names_after(step, steps_per_epoch)
    evaluated = setup.feed.evaluate(setup.programs, current.state, names)
    record = {
        "step": step,
        "epoch": step / steps_per_epoch,
        "learning_rate": float(setup.learning_rates[step - 1]),
        **_scalars({"train": current.metrics, **jax.device_get(evaluated)}),
        "seconds": round(current.seconds + time.monotonic() - started, 3),
    }
    return current._replace(
        history=[*current.history, record],
        metrics=setup.no_metrics,
        seconds=0.0,
        damaged=setup.feed.damaged,
    )


def _scalars(metrics: Mapping[str, Metrics]) -> dict[str, float]:
    return {
        f"{split}_{name}": float(value)
        for split, of_split in metrics.items()
        for name, value in of_split.compute().items()
    }
