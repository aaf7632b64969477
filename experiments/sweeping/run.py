"""Runs a sweep, stage by stage, in this process or in several.

The tuning trials are the first stage, the trials of each extension of the grid are another one, and
the final trials are the last one.
"""

import contextlib
import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from etils import epath
from tqdm import tqdm

from experiments.build.sweeps import Sweep, late_restart
from experiments.errors import UserError
from experiments.program import assemble
from experiments.runtime import environment, memory, signals, workdir
from experiments.sweeping import hparams, outcome, plan, pool, shard, store, trials
from experiments.sweeping.blocks import Advance, Job, Trainer, cut
from experiments.sweeping.plan import Point, Stage, Trial
from experiments.sweeping.shard import WHOLE, Shard
from experiments.sweeping.store import BlockResult

# Trains blocks of one stage.
TrainAll = Callable[[Sequence[Job], Stage, Advance], None]
TABLE = "trials.csv"


class Workers(NamedTuple):
    """The processes that train the blocks.

    Attributes:
      processes: number of them; with 1, this process trains.
      command: the command that starts one of several, as `worker.serve` describes.
    """

    processes: int = 1
    command: Sequence[str] = ()


ALONE = Workers()


class End(NamedTuple):
    """How a sweep ended.

    Attributes:
      summary: the summary of the sweep, or None if trials of other shards are missing.
      was_finished: whether it was finished before.
      missing: what is missing, as a sentence.
    """

    summary: dict[str, Any] | None
    was_finished: bool = False
    missing: str = ""


class _Block(NamedTuple):
    """A block, the shard that trains it, and its result, None if that shard has yet to train it."""

    job: Job
    owner: int
    result: BlockResult | None


# Runs the trials of a stage.
RunStage = Callable[[Stage, Sequence[Trial]], list[_Block]]


def run(
    sweep: Sweep,
    directory: epath.Path,
    *,
    require_same_environment: bool = False,
    share: Shard = WHOLE,
    workers: Workers = ALONE,
) -> End:
    """Runs a sweep to its end, unless its directory holds the finished sweep.

    Args:
      sweep: the sweep.
      directory: directory of the sweep.
      require_same_environment: whether to resume only where the bits stay the same.
      share: the shard to train. The blocks of other shards are taken as they are.
      workers: the processes that train.

    Returns:
      How the sweep ended.

    Raises:
      UserError: a trial cannot be used, or the directory belongs to another sweep.
      Stopped: a signal asked the sweep to stop.
    """
    cores = pool.cores_of_workers(workers.processes) if workers.processes != 1 else []
    platform = jax.devices()[0].platform
    if share != WHOLE and platform != "cpu" and sweep.block_size is None:
        raise UserError(
            f"--shard={share} needs the number of trials per block on a {platform}, so that all "
            "shards have the same blocks; set --config.block_size"
        )
    tuning = plan.tuning_trials(sweep)
    # Check the final trials before anything runs; every point of the grid has the same fields.
    any_point = plan.grid_points(sweep)[0]
    final = plan.final_trials(sweep, dict.fromkeys(sweep.settings, any_point))
    for trial in tuning:
        _check_validation(trial, final)
    _warn_of_late_restarts([*tuning, *final])
    if not (directory / "config.json").exists():  # a refused sweep must not claim the directory
        _check_memory(final, workers.processes)
    with workdir.locked(directory, share=share.suffix):
        workdir.claim(directory, sweep.config)
        summary = workdir.read_summary(directory)
        if summary is not None:
            return End(summary, was_finished=True)
        with contextlib.ExitStack() as stack:
            received = stack.enter_context(signals.caught())
            trainer = Trainer(sweep, received)
            here = environment.environment()
            train: TrainAll
            if workers.processes == 1:
                train = _in_this_process(trainer)
            else:
                started = stack.enter_context(pool.Pool(workers.command, cores, received))
                here |= {"threads": started.environment()["threads"]}
                train = started.train
            changes = store.enter(
                directory, here, share.suffix, require_same=require_same_environment
            )
            run_stage = functools.partial(
                _run_stage, directory=directory, share=share, trainer=trainer, train=train
            )
            return _run(sweep, tuning, directory, share, run_stage, (here, changes))


def _check_memory(final: Sequence[Trial], processes: int) -> None:
    """Refuses a sweep in which a single trial per process does not fit into memory."""
    one_of_each = {trials.program_of(trial.experiment): trial.experiment for trial in final}
    for experiment in one_of_each.values():
        one = assemble.pure(
            experiment.task,
            experiment.optimizer,
            experiment.batches,
            averaging=experiment.averaging,
        )
        one = one._replace(evaluate=jax.jit(one.evaluate))
        test = experiment.task.load().test
        memory.check(experiment, one, test, num_devices=1, num_processes=processes)


def _warn_of_late_restarts(all_trials: Sequence[Trial]) -> None:
    """Names each setting with trials that end right after a restart, at a high learning rate."""
    checked, named = set(), set()
    for trial in all_trials:
        phase = "tuning" if trial.phase == "tune" else "the final trials"
        # Neither the seed nor the peak moves a restart.
        others = {**trial.values, "schedule.peak_value": None}
        key = (trial.setting, phase, *others.items())
        if key in checked or (trial.setting, phase) in named:
            continue
        checked.add(key)
        step = late_restart(trial.experiment)
        if step is not None:
            named.add((trial.setting, phase))
            print(
                f"warning: in {phase}, setting {trial.setting!r} restarts at step {step} of "
                f"{trial.experiment.num_steps}, so it is judged at a high learning rate; set "
                "schedule.options.num_cycles to the number of cycles, or change their length",
                file=sys.stderr,
            )


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


def _in_this_process(trainer: Trainer) -> TrainAll:
    def train(jobs: Sequence[Job], stage: Stage, advance: Advance) -> None:
        for job in jobs:
            trainer.train(job, advance)

    return train


def _run(
    sweep: Sweep,
    tuning: Sequence[Trial],
    directory: epath.Path,
    share: Shard,
    run_stage: RunStage,
    place: tuple[environment.Environment, list[environment.Change]],
) -> End:
    """Runs all stages, and writes the summary once no shard is missing."""
    here, changes = place
    used, tuned = _tune(sweep, tuning, run_stage)
    if missing := _missing(tuned):
        return End(
            None,
            missing=f"the final trials of shard {share} need the tuning trials of "
            f"{shard.named(missing)} too, which {directory} lacks: run the same command again when "
            "they are done (shards with directories of their own need the blocks/ of all others)",
        )
    chosen: dict[str, Point] = {name: {} for name in sweep.settings}
    if tuning:
        chosen = outcome.tune(used, tuning, _joined(tuned).rows)
    final = plan.final_trials(sweep, chosen)
    trained = run_stage(Stage("final", chosen=chosen), final)
    described = outcome.describe(used, final, chosen)
    if share != WHOLE:
        jobs = [(job.name, job.trials, owner) for job, owner, _ in [*tuned, *trained]]
        record = {**described, **here, "environment_changes": changes, "config": sweep.config}
        store.write_shard(directory, share, jobs, record)
    if missing := _missing(trained):
        return End(
            None,
            missing=f"{directory} lacks the final trials of {shard.named(missing)}; when they are "
            "done, report all shards together: python -m experiments.report DIRECTORY...",
        )
    rows, seconds = _joined([*tuned, *trained])
    table, diverged = outcome.table(rows)
    workdir.write_atomically(directory / TABLE, table)
    hparams.write(directory, rows, [axis.field for axis in sweep.grid], seconds)
    changes = store.changes_of_all(directory, here, changes)
    summary = {
        "trials": sum(len(job.trials) for job, _, _ in [*tuned, *trained]),
        "diverged": diverged,
        "seconds": round(seconds, 3),
        **described,
        **here,
        "environment_changes": changes,
    }
    workdir.write_summary(directory, summary, files=("config.json", TABLE))
    return End(summary)


def _tune(sweep: Sweep, tuning: Sequence[Trial], run_stage: RunStage) -> tuple[Sweep, list[_Block]]:
    """Runs the tuning trials, and those by which the grid grows, until a block is missing.

    Returns:
      The sweep with the grid that was used, and the blocks of all stages.
    """
    used, blocks = sweep, run_stage(Stage("tune"), tuning)
    for number in itertools.count(1):
        if _missing(blocks):
            break
        added = outcome.grow(sweep, used, tuning, _joined(blocks).rows)
        if not added:
            break
        used = plan.with_points(used, added)
        stage = Stage(f"tune-extended-{number}", added)
        blocks += run_stage(stage, plan.trials_of(sweep, stage))
    return used, blocks


def _missing(blocks: Sequence[_Block]) -> list[int]:
    """Returns the shards of the blocks without a result."""
    return [block.owner for block in blocks if block.result is None]


def _joined(blocks: Sequence[_Block]) -> BlockResult:
    """Returns the result of blocks, in their order."""
    found = [block.result for block in blocks if block.result is not None]
    rows = [row for result in found for row in result.rows]
    return BlockResult(rows, sum(result.seconds for result in found))


def _run_stage(
    stage: Stage,
    of_stage: Sequence[Trial],
    *,
    directory: epath.Path,
    share: Shard,
    trainer: Trainer,
    train: TrainAll,
) -> list[_Block]:
    """Runs the trials of a stage that belong to a shard, and reads the results of all."""
    jobs = cut(stage.name, of_stage, directory, trainer.block_size)
    own = [job for block, job in enumerate(jobs) if share.owner(block) == share.number]
    done = {job.name: store.read_block(job.file, job.trials) for job in own}
    waiting = [job for job in own if done[job.name] is None]
    if waiting:
        steps = sum(len(job.trials) * job.trials[0].experiment.num_steps for job in waiting)
        description = f"{stage.name}: {sum(len(job.trials) for job in waiting)} trials"
        hidden = not sys.stderr.isatty()
        with tqdm(desc=description, total=steps, unit="step", disable=hidden) as bar:
            train(waiting, stage, bar.update)
    # Other shards may have finished in the meantime.
    results = [
        done.get(job.name) or store.read_block(job.file, job.trials, is_own=job.name in done)
        for job in jobs
    ]
    return [
        _Block(job, share.owner(block), result)
        for block, (job, result) in enumerate(zip(jobs, results, strict=True))
    ]
