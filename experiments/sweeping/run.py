"""Runs a sweep: its tuning trials, then its final trials, program by program, block by block."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from tqdm import tqdm

from experiments.build.sweeps import Sweep
from experiments.errors import Stopped, UserError
from experiments.program import assemble, averaging, parallel
from experiments.program.state import TrainState
from experiments.program.steps import Examples, pieces
from experiments.results import failures, methods
from experiments.results.described import Metric
from experiments.results.rows import TRIAL
from experiments.runtime import memory, signals, workdir
from experiments.runtime.checkpoint import Checkpointer, Record, Unusable
from experiments.sweeping import plan, store, trials
from experiments.sweeping.plan import Trial
from experiments.sweeping.store import BlockResult, Rows

Received = Callable[[], int | None]
TABLE = "trials.csv"


def run(
    sweep: Sweep, directory: epath.Path, *, require_same_environment: bool = False
) -> tuple[dict[str, Any], bool]:
    """Runs a sweep to its end, unless its directory holds the finished sweep.

    Args:
      sweep: the sweep.
      directory: directory of the sweep.
      require_same_environment: whether to resume only where the bits stay the same.

    Returns:
      The summary of the sweep, and whether it was finished before.

    Raises:
      UserError: a trial cannot be used, or the directory belongs to another sweep.
      Stopped: a signal asked the sweep to stop.
    """
    tuning = plan.tuning_trials(sweep)
    # Check the final trials before anything runs; every point of the grid has the same fields.
    any_point = plan.grid_points(sweep)[0]
    final = plan.final_trials(sweep, dict.fromkeys(sweep.settings, any_point))
    for trial in tuning:
        _check_validation(trial, final)
    if not (directory / "config.json").exists():  # a refused sweep must not claim the directory
        _check_memory(final)
    with workdir.locked(directory):
        workdir.claim(directory, sweep.config)
        summary = workdir.read_summary(directory)
        if summary is not None:
            return summary, True
        here, changes = store.enter(directory, require_same=require_same_environment)
        summary = _run(sweep, tuning, directory)
        summary |= {**here, "environment_changes": changes}
        workdir.write_summary(directory, summary, files=("config.json", TABLE))
        return summary, False


def _check_memory(final: Sequence[Trial]) -> None:
    """Refuses a sweep in which a single trial does not fit into memory."""
    one_of_each = {trials.program_of(trial.experiment): trial.experiment for trial in final}
    for experiment in one_of_each.values():
        one = assemble.pure(
            experiment.task,
            experiment.optimizer,
            experiment.batches,
            averaging=experiment.averaging,
        )
        one = one._replace(evaluate=jax.jit(one.evaluate))
        memory.check(experiment, one, experiment.task.load().test, num_devices=1)


def _check_validation(tuning: Trial, final: Sequence[Trial]) -> None:
    """Refuses a task that holds out no examples, because tuning would evaluate the test split."""
    same_setting = next(trial for trial in final if trial.setting == tuning.setting)
    held_out, without = (
        trial.experiment.config["data"]["validation_examples"] for trial in (tuning, same_setting)
    )
    num_train = tuning.experiment.task.num_train + held_out
    if num_train != same_setting.experiment.task.num_train + without:
        raise UserError(
            f"tune.validation_examples={held_out} has no effect: the task must hold out "
            "data.validation_examples from its training split, so that tuning does not use the "
            "test split"
        )


def _run(sweep: Sweep, tuning: Sequence[Trial], directory: epath.Path) -> dict[str, Any]:
    import pandas as pd  # takes half a second

    with signals.caught() as received:
        chosen: dict[str, plan.Point] = {name: {} for name in sweep.settings}
        rows, seconds = _run_phase(sweep, tuning, directory, received)
        if tuning:
            chosen = _tune(sweep, tuning, pd.DataFrame(rows))
        final = plan.final_trials(sweep, chosen)
        final_rows, final_seconds = _run_phase(sweep, final, directory, received)
    table = pd.DataFrame(rows + final_rows)
    workdir.write_atomically(directory / TABLE, table.to_csv(index=False))
    trial_columns = [name for name in table.columns if name in TRIAL or "." in name]
    diverged = table.groupby(trial_columns, dropna=False).diverged.any()
    task = final[0].experiment.task
    one_of_each = {trial.experiment.task.data: trial for trial in final}
    return {
        "trials": len(tuning) + len(final),
        "diverged": int(diverged.sum()),
        "seconds": round(seconds + final_seconds, 3),
        "chosen": chosen,
        "task": final[0].experiment.config["task"]["name"],
        "metrics": task.description()["metrics"],
        "objective": task.objective,
        # Settings may differ in the data set, and so in the chance levels.
        "chance": {trial.experiment.task.data: _chance_levels(trial) for trial in final},
        "floors": {data: _floors(trial) for data, trial in one_of_each.items()},
        "settings": {trial.setting: _changed_fields(sweep, trial) for trial in final},
    }


def _tune(sweep: Sweep, tuning: Sequence[Trial], rows: Any) -> dict[str, plan.Point]:
    """Returns the best point of each setting, by the objective of the tuning trials."""
    task = tuning[0].experiment.task
    direction, percent, _ = task.metrics[task.objective]
    levels = {trial.experiment.task.data: _chance_levels(trial) for trial in tuning}
    chance = {data: of[task.objective] for data, of in levels.items() if task.objective in of}
    objective = Metric(task.objective, direction, percent)
    per_trial = failures.per_trial(rows, objective, chance)
    for setting, failed in per_trial.groupby("setting", sort=False).failed.all().items():
        if failed:
            print(
                f"warning: every tuning trial of setting {setting!r} failed, so the first of its "
                "best points is an arbitrary choice",
                file=sys.stderr,
            )
    fields = [axis.field for axis in sweep.grid]
    scores = [
        (trial["setting"], {field: trial[field] for field in fields}, trial["last"])
        for trial in per_trial.to_dict("records")
    ]
    return plan.best_points(sweep, scores, direction)


def _chance_levels(trial: Trial) -> dict[str, float]:
    """Returns the chance levels of a trial's metrics that have one."""
    metrics = trial.experiment.task.metrics
    return {name: of.chance for name, of in metrics.items() if of.chance is not None}


def _floors(trial: Trial) -> dict[str, dict[str, Any]]:
    """Returns what the metrics of a trial's task are compared with."""
    return {name: floor._asdict() for name, floor in trial.experiment.task.floors().items()}


def _changed_fields(sweep: Sweep, trial: Trial) -> dict[str, Any]:
    """Returns the fields in which a trial differs from the base, those by reference included."""
    base = methods.flatten(sweep.config["base"])
    config = methods.flatten(trial.experiment.config)
    return {
        field: value
        for field, value in config.items()
        if field != "seed" and (field not in base or base[field] != value)
    }


def _run_phase(
    sweep: Sweep, phase: Sequence[Trial], directory: epath.Path, received: Received
) -> BlockResult:
    """Runs the trials of a phase, grouped by program."""
    groups: dict[str, list[Trial]] = {}
    for trial in phase:
        groups.setdefault(trials.program_of(trial.experiment), []).append(trial)
    rows: Rows = []
    seconds = 0.0
    mesh = trials.make_mesh()
    for index, group in enumerate(groups.values()):
        place = directory / "blocks" / f"{group[0].phase}-{index}"
        result = _run_group(sweep, group, place, mesh, received)
        rows += result.rows
        seconds += result.seconds
    return BlockResult(rows, seconds)


def _run_group(
    sweep: Sweep, group: Sequence[Trial], directory: epath.Path, mesh: Mesh, received: Received
) -> BlockResult:
    """Runs the trials of one program, in blocks that fit into memory."""
    block_size = store.read_block_size(directory, group)
    finished: dict[epath.Path, BlockResult] = {}
    if block_size is not None:
        files = store.block_files(directory, len(group), block_size)
        for index, file in enumerate(files):
            result = store.read_block(file, _block_trials(group, index, block_size))
            if result is not None:
                finished[file] = result
        if len(finished) == len(files):
            return _joined(list(finished.values()))
    first = group[0].experiment
    data = first.task.load()
    train = parallel.to_devices(data.train, trials.replicated(mesh))
    test = parallel.to_devices(data.test, trials.replicated(mesh))
    batched = trials.batched_on(mesh.devices.flat[0].platform)
    programs = trials.make_programs(first, mesh, batched)
    if block_size is None:
        block_size = sweep.block_size or _size_that_fits(programs, group, train, mesh)
        store.write_block_size(directory, group, block_size)
    results = []
    for index, file in enumerate(store.block_files(directory, len(group), block_size)):
        block_trials = _block_trials(group, index, block_size)
        result = finished.get(file)
        if result is None:
            result = _run_block(sweep, block_trials, programs, train, test, file, mesh, received)
            store.write_block(file, block_trials, result, block_size=block_size)
            file.with_suffix("").rmtree(missing_ok=True)
        results.append(result)
    return _joined(results)


def _block_trials(group: Sequence[Trial], index: int, block_size: int) -> Sequence[Trial]:
    return group[index * block_size : (index + 1) * block_size]


def _joined(results: Sequence[BlockResult]) -> BlockResult:
    rows = [row for result in results for row in result.rows]
    return BlockResult(rows, sum(result.seconds for result in results))


def _size_that_fits(
    programs: trials.TrialPrograms, group: Sequence[Trial], train: Examples, mesh: Mesh
) -> int:
    fits = trials.block_size_that_fits(
        programs, _make_block(group, mesh), train, num_devices=mesh.size
    )
    return min(len(group), fits)


def _run_block(
    sweep: Sweep,
    block_trials: Sequence[Trial],
    programs: trials.TrialPrograms,
    train: Examples,
    test: Examples,
    file: epath.Path,
    mesh: Mesh,
    received: Received,
) -> BlockResult:
    """Runs the trials of one block to their end, from its newest checkpoint if there is one."""
    experiment = block_trials[0].experiment
    steps_per_epoch, num_steps = experiment.steps_per_epoch, experiment.num_steps
    block = _make_block(block_trials, mesh)
    learning_rates = np.asarray(block.learning_rates)
    with Checkpointer(
        file.with_suffix(""), max_to_keep=1, config_sha256=store.fingerprint(block_trials)
    ) as checkpointer:
        restored = _restore(checkpointer, jax.eval_shape(programs.init, block))
        state, record = restored or (programs.init(block), {"history": []})
        history = record["history"]
        first_step = int(history[-1]["step"]) if history else 0
        bar = tqdm(
            desc=f"{block_trials[0].phase}: {len(block_trials)} trials",
            total=num_steps,
            initial=first_step,
            unit="step",
            disable=not sys.stderr.isatty(),
        )
        for start, stop in pieces(first_step, num_steps, steps_per_epoch):
            started = time.monotonic()
            train_metrics = []
            orders = programs.order(state)
            for first, end in pieces(start, stop, experiment.log_every_steps):
                signal = received()
                if signal:
                    raise Stopped(
                        signal, "inside a block; the same command resumes from its last checkpoint"
                    )
                count = parallel.count(end - first, trials.replicated(mesh))
                state, metrics = programs.train(state, block, train, orders, count)
                train_metrics.append(jax.device_get(metrics))
                bar.update(end - first)
            evaluated = averaging.evaluate(
                _averages_of_any(block_trials, stop),
                state,
                train,
                test,
                evaluate=programs.evaluate,
                statistics=programs.statistics,
            )
            history.append(
                {
                    "step": stop,
                    "epoch": stop / steps_per_epoch,
                    "learning_rate": learning_rates[:, stop - 1].tolist(),
                    **trials.means({"train": train_metrics}),
                    **trials.means(
                        {split: [metrics] for split, metrics in jax.device_get(evaluated).items()}
                    ),
                    "seconds": round(time.monotonic() - started, 3),
                }
            )
            epoch = -(-stop // steps_per_epoch)
            if epoch % sweep.checkpoint_every_epochs == 0 and stop < num_steps:
                checkpointer.save(stop, state, {"history": history})
        bar.close()
    return BlockResult(
        store.make_rows(block_trials, history), sum(record["seconds"] for record in history)
    )


def _restore(checkpointer: Checkpointer, shapes: TrainState) -> tuple[TrainState, Record] | None:
    """Restores the checkpoint of a block, or deletes it if it cannot be used."""
    try:
        return checkpointer.restore_latest(shapes)
    except Unusable as error:
        print(f"warning: {error.reason}; the block begins anew", file=sys.stderr)
        checkpointer.delete_all()
        return None


def _averages_of_any(block_trials: Sequence[Trial], step: int) -> list[str]:
    """Returns the averages of the weights that at least one of some trials has after a step."""
    found = [store.averages_after(trial, step) for trial in block_trials]
    return list(dict.fromkeys(name for of_trial in found for name in of_trial))


def _make_block(block_trials: Sequence[Trial], mesh: Mesh) -> trials.Block:
    """Returns the block of some trials, with the last one repeated until the devices share it."""
    padding = [block_trials[-1]] * (-len(block_trials) % mesh.size)
    return trials.make_block([trial.experiment for trial in [*block_trials, *padding]])
