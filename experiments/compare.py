"""Compares schedules on a task of your own, in a notebook or a script, without the command line.

    from experiments.compare import compare, draw
    from experiments.tasks.arrays import classifier

docs/extending.md has an example.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
import pandas as pd
from matplotlib.figure import Figure
from tqdm import tqdm

from experiments.build.experiment import Checkpoints, Experiment, Guard
from experiments.build.ranges import shown
from experiments.errors import UserError
from experiments.program import parallel
from experiments.program.alarm import NO_LIMIT
from experiments.program.averaging import OFF
from experiments.program.steps import Batches, pieces
from experiments.results import failures
from experiments.results import peaks as pictures
from experiments.results.described import Metric
from experiments.sweeping import store, trials
from experiments.sweeping.plan import Trial
from experiments.tasks.task import Task

MakeSchedule = Callable[[float], optax.Schedule]
TRIAL = ["schedule", "peak", "seed"]


def sgd(schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns stochastic gradient descent with a momentum of 0.9."""
    return optax.sgd(schedule, momentum=0.9)


def compare(
    task: Task,
    schedules: Mapping[str, MakeSchedule],
    seeds: Sequence[int],
    num_steps: int,
    *,
    peaks: Sequence[float],
    batch_size: int = 64,
    eval_batch_size: int = 500,
    optimizer: Callable[[optax.Schedule], optax.GradientTransformation] = sgd,
) -> pd.DataFrame:
    """Trains every schedule at every peak with every seed, all in one compiled program.

    Each trial makes the updates of the same run alone. All trials are evaluated after each epoch
    and at the end.

    Args:
      task: what is learned, such as a result of `experiments.tasks.arrays.classifier`.
      schedules: name -> function from a peak to the schedule.
      seeds: seeds of the trials, which fix their initial parameters and batches.
      num_steps: steps of each trial.
      peaks: values to call each function with.
      batch_size: training examples per step.
      eval_batch_size: examples per evaluation batch.
      optimizer: from a schedule to the optimizer that follows it.

    Returns:
      One row per trial: `schedule`, `peak`, `seed`; `diverged` and `failed`, as in a sweep;
      `score`, the objective over the last tenth of the evaluations, or its chance level if the
      trial failed; and of each metric, such as `loss`, the final values `train_loss` and
      `test_loss`, and `best_test_loss`. The table's `attrs` name the objective, for `draw`.

    Raises:
      UserError: an argument cannot be used.
    """
    _check(task, schedules, seeds=seeds, num_steps=num_steps, peaks=peaks, batch_size=batch_size)
    batches = Batches(task.num_train, batch_size, eval_batch_size)
    all_trials = [
        Trial(
            "final",
            name,
            {"peak": float(peak)},
            _experiment(task, _schedule(make, name, peak), batches, num_steps, seed, optimizer),
        )
        for name, make in schedules.items()
        for peak in peaks
        for seed in seeds
    ]
    rows = pd.DataFrame(store.make_rows(all_trials, _train(all_trials)))
    return _table(rows, task)


def draw(table: pd.DataFrame) -> Figure:
    """Draws the scores of a comparison, over peaks and at the best peak of each schedule.

    Args:
      table: the result of `compare`, or some of its rows.

    Returns:
      The figure. A point is the mean over seeds, with its 95% t interval, or the range of two.

    Raises:
      UserError: the table is not the result of `compare`.
    """
    if "objective" not in table.attrs:
        raise UserError(
            "the table has no attrs['objective']; pass the result of experiments.compare.compare"
        )
    return pictures.draw(table, Metric(*table.attrs["objective"]))


def _train(all_trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Trains all trials and returns one record per evaluation, with a list of each metric."""
    first = all_trials[0].experiment
    mesh = trials.make_mesh()
    replicated = trials.replicated(mesh)
    programs = trials.make_programs(first, mesh, trials.batched_on(mesh.devices.flat[0].platform))
    padding = [all_trials[-1]] * (-len(all_trials) % mesh.size)
    block = trials.make_block([trial.experiment for trial in [*all_trials, *padding]])
    train, test = (parallel.to_devices(split, replicated) for split in first.task.load())
    learning_rates = np.asarray(block.learning_rates)
    state = programs.init(block)
    history = []
    bar = tqdm(
        desc=f"{len(all_trials)} trials",
        total=first.num_steps,
        unit="step",
        disable=not sys.stderr.isatty(),
    )
    for start, stop in pieces(0, first.num_steps, first.steps_per_epoch):
        number = parallel.count(stop - start, replicated)
        state, metrics = programs.train(state, block, train, programs.order(state), number)
        tested = programs.evaluate(state, test)
        splits = {"train": [jax.device_get(metrics)], "test": [jax.device_get(tested)]}
        history.append(
            {
                "step": stop,
                "epoch": stop / first.steps_per_epoch,
                "learning_rate": learning_rates[:, stop - 1].tolist(),
                **trials.means(splits),
            }
        )
        bar.update(stop - start)
    bar.close()
    return history


def _table(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Summarizes the rows of all trials and evaluations, one row per trial."""
    direction, percent, chance = task.metrics[task.objective]
    objective = Metric(task.objective, direction, percent)
    levels = {} if chance is None else {task.data: chance}
    scores = failures.per_trial(rows, objective, levels)
    scores = scores.rename(columns={"setting": "schedule", "last": "score"})
    by_trial = rows.rename(columns={"setting": "schedule"}).groupby(TRIAL, sort=False)
    columns = [f"{split}_{name}" for name in task.metrics for split in ("train", "test")]
    columns = [name for name in columns if name in rows]
    # The last row of a trial; `last` of a group would skip missing values.
    table = by_trial.tail(1)[[*TRIAL, *columns]]
    for name, metric in task.metrics.items():
        found = by_trial[f"test_{name}"].agg(metric.direction).rename(f"best_test_{name}")
        table = table.merge(found, on=TRIAL)
    table = table.merge(scores[[*TRIAL, "diverged", "failed", "score"]], on=TRIAL)
    table = table[[*TRIAL, "diverged", "failed", "score", *table.columns[3:-3]]]
    table.attrs["objective"] = tuple(objective)
    return table


def _experiment(
    task: Task,
    schedule: optax.Schedule,
    batches: Batches,
    num_steps: int,
    seed: int,
    optimizer: Callable[[optax.Schedule], optax.GradientTransformation],
) -> Experiment:
    return Experiment(
        config={"model": {"dtype": "float32"}},  # decides on the options of the compiler
        task=task,
        schedule=schedule,
        make_optimizer=lambda schedule, weight_decay: optimizer(schedule),
        weight_decay=0.0,
        batches=batches,
        num_steps=num_steps,
        seed=seed,
        log_every_steps=batches.steps_per_epoch,
        accumulate_steps=1,
        strategy="jit",
        averaging=OFF,
        guard=Guard(NO_LIMIT, max_rollbacks=0, peak_factor=1.0, extra_warmup_epochs=0.0),
        checkpoints=Checkpoints(every_epochs=1, max_to_keep=1),
    )


def _schedule(make: MakeSchedule, name: str, peak: float) -> optax.Schedule:
    """Returns the schedule of a peak, or refuses what is none."""
    where = f"schedules[{name!r}]"
    try:
        schedule = make(peak)
        value = float(schedule(0))
    except Exception as error:  # the function is the user's own
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{where} must map a peak to a schedule, such as lambda peak: "
            f"optax.cosine_decay_schedule(peak, 1000); at peak={peak} it raises {reason}"
        ) from error
    if not math.isfinite(value):
        raise UserError(f"{where} has the learning rate {value} at step 0 for peak={peak}")
    return schedule


def _check(
    task: Task,
    schedules: Mapping[str, MakeSchedule],
    *,
    seeds: Sequence[int],
    num_steps: int,
    peaks: Sequence[float],
    batch_size: int,
) -> None:
    """Refuses arguments before anything is compiled."""
    if not isinstance(task, Task):
        raise UserError(
            f"task has type {type(task).__name__}; it must be an experiments.tasks.task.Task; "
            "experiments.tasks.arrays makes one from arrays and a module or a loss"
        )
    if task.stream is not None:
        raise UserError(
            f"the data set {task.data} stays on disk, and all trials read it from memory; load it, "
            "or use python -m experiments.train"
        )
    if not isinstance(schedules, Mapping) or not schedules:
        raise UserError(
            f"schedules={shown(schedules)} must be a dict from names to functions of a peak, with "
            "at least one entry"
        )
    _check_numbers("seeds", seeds, int, (0, 2**32 - 1), "ints from 0 to 4294967295")
    _check_numbers("peaks", peaks, int | float, (-math.inf, math.inf), "finite numbers")
    if not isinstance(num_steps, int | np.integer) or num_steps < 1:
        raise UserError(f"num_steps={shown(num_steps)} must be an int of at least 1")
    if not isinstance(batch_size, int | np.integer) or not 1 <= batch_size <= task.num_train:
        raise UserError(
            f"batch_size={shown(batch_size)} must be an int from 1 to the number of training "
            f"examples, {task.num_train}"
        )


def _check_numbers(what: str, values: Any, kind: Any, limits: tuple[float, float], of: str) -> None:
    """Refuses anything but a sequence of different numbers."""
    numbers = list(values) if isinstance(values, Sequence | np.ndarray) else []
    numbers = [number.item() if isinstance(number, np.generic) else number for number in numbers]
    fit = [
        isinstance(number, kind)
        and not isinstance(number, bool)
        and math.isfinite(number)
        and limits[0] <= number <= limits[1]
        for number in numbers
    ]
    if not numbers or not all(fit) or len(set(numbers)) < len(numbers):
        raise UserError(f"{what}={shown(values)} must be a list of different {of}, at least one")
