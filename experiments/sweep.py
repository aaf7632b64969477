"""Trains many trials: python -m experiments.sweep --config=configs/sweeps/NAME.py [--workdir=DIR].

Any field of the sweep's config can be set with --config.FIELD=VALUE, and those of its runs with
--config.base.FIELD=VALUE. The same command on the same workdir goes on where it was broken off.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from experiments import (
    build,
    checkpoint,
    cli,
    compile_cache,
    guard,
    matrix,
    parallel,
    step,
    telemetry,
    trials,
)
from experiments.errors import Stopped, UserError
from experiments.matrix import Trial

Rows = list[dict[str, Any]]
SPLITS = ("train", "test")
METRICS = ("loss", "accuracy")


def main() -> None:
    """Trains as the flags say."""
    config = flags.FLAGS.config
    if config is None:
        raise UserError("--config is missing; pass --config=configs/sweeps/NAME.py")
    workdir = epath.Path(flags.FLAGS.workdir or f"runs/{cli.config_name()}")
    matrix.check(config)
    tuning = matrix.tuning_trials(config)
    any_point = matrix.grid_points(config)[0]
    matrix.final_trials(config, {setting["name"]: any_point for setting in config.settings})
    with telemetry.locked(workdir):
        telemetry.claim(workdir, config)
        summary = telemetry.finished(workdir)
        verb = "was finished before, in"
        if summary is None:
            compile_cache.use(flags.FLAGS.compile_cache)
            summary = sweep(config, tuning, workdir)
            verb = "wrote"
    print(
        f"{summary['trials']} trials ({summary['diverged']} diverged) in "
        f"{summary['seconds']:.0f} s; {verb} {workdir}/trials.csv; for tables and figures: "
        f"python -m experiments.report {workdir} --out=DIR"
    )


def sweep(config: ConfigDict, tuning: Sequence[Trial], workdir: epath.Path) -> dict[str, Any]:
    """Runs all trials that are not finished yet.

    Args:
      config: a sweep's config that `matrix.check` accepted.
      tuning: its tuning trials.
      workdir: directory of the sweep.

    Returns:
      What it wrote to `summary.json`.
    """
    import pandas as pd

    from experiments import results

    with guard.signals() as asked:
        chosen: dict[str, dict[str, float]] = {s["name"]: {} for s in config.settings}
        rows, seconds = _run_phase(config, tuning, workdir, asked)
        if tuning:
            last = results.per_trial(pd.DataFrame(rows))
            fields = [axis["field"] for axis in config.grid]
            accuracies = [
                (trial["setting"], {field: trial[field] for field in fields}, trial["last"])
                for trial in last.to_dict("records")
            ]
            chosen = matrix.best_points(config, accuracies)
        final = matrix.final_trials(config, chosen)
        final_rows, final_seconds = _run_phase(config, final, workdir, asked)
    table = pd.DataFrame(rows + final_rows)
    telemetry.write_whole(workdir / "trials.csv", table.to_csv(index=False))
    trial_columns = [name for name in table.columns if name in results.TRIAL or "." in name]
    diverged = table.groupby(trial_columns, dropna=False).diverged.any()
    summary = {
        "command": f"python -m experiments.sweep {' '.join(sys.argv[1:])}",
        "trials": len(tuning) + len(final),
        "diverged": int(diverged.sum()),
        "seconds": round(seconds + final_seconds, 3),
        "chosen": chosen,
        **telemetry.environment(),
    }
    telemetry.write_summary(workdir, summary)
    return summary


def _run_phase(
    config: ConfigDict,
    phase: Sequence[Trial],
    workdir: epath.Path,
    asked: Callable[[], int | None],
) -> tuple[Rows, float]:
    """Runs the trials of a phase, program by program and block by block."""
    groups: dict[str, list[Trial]] = {}
    for trial in phase:
        groups.setdefault(trials.program_of(trial.config), []).append(trial)
    rows: Rows = []
    seconds = 0.0
    mesh = trials.make_mesh()
    for index, group in enumerate(groups.values()):
        directory = workdir / "blocks" / f"{group[0].phase}-{index}"
        group_rows, group_seconds = _run_group(config, group, directory, mesh, asked)
        rows += group_rows
        seconds += group_seconds
    return rows, seconds


def _run_group(
    config: ConfigDict,
    group: Sequence[Trial],
    directory: epath.Path,
    mesh: Mesh,
    asked: Callable[[], int | None],
) -> tuple[Rows, float]:
    """Runs the trials of one program, in blocks that fit into memory."""
    plan_file = directory / "plan.json"
    block_size = json.loads(plan_file.read_text())["block_size"] if plan_file.exists() else None
    if block_size is not None:
        blocks = [_finished(file) for file in _block_files(directory, len(group), block_size)]
        finished = [block for block in blocks if block is not None]
        if len(finished) == len(blocks):
            return [row for rows, _ in finished for row in rows], sum(s for _, s in finished)
    first = group[0]
    dataset, normalize = build.load(first.config, first.experiment)
    splits = parallel.to_device(dataset, trials.everywhere(mesh))
    batched = trials.batched_on(mesh.devices.flat[0].platform)
    programs = trials.make_programs(first.config, first.experiment, normalize, mesh, batched)
    if block_size is None:
        block_size = config.block_size or _size_that_fits(programs, group, splits[0], mesh)
        directory.mkdir(parents=True, exist_ok=True)
        telemetry.write_whole(plan_file, json.dumps({"block_size": block_size}) + "\n")
    rows: Rows = []
    seconds = 0.0
    for file, start in zip(
        _block_files(directory, len(group), block_size),
        range(0, len(group), block_size),
        strict=True,
    ):
        block_rows, block_seconds = _finished(file) or _run_block(
            config, group[start : start + block_size], programs, splits, file, mesh, asked
        )
        rows += block_rows
        seconds += block_seconds
    return rows, seconds


def _size_that_fits(
    programs: trials.Programs, group: Sequence[Trial], split: parallel.Split, mesh: Mesh
) -> int:
    block = _block(_padded(group, mesh))
    return min(
        len(group), trials.block_size_that_fits(programs, block, split, num_devices=mesh.size)
    )


def _run_block(
    config: ConfigDict,
    block_trials: Sequence[Trial],
    programs: trials.Programs,
    splits: tuple[parallel.Split, parallel.Split],
    file: epath.Path,
    mesh: Mesh,
    asked: Callable[[], int | None],
) -> tuple[Rows, float]:
    """Runs the trials of one block to their end, from its newest checkpoint if there is one."""
    experiment = block_trials[0].experiment
    every_steps = block_trials[0].config.log_every_steps
    block = _block(_padded(block_trials, mesh))
    learning_rates = np.asarray(block.learning_rates)
    workdir = file.with_suffix("")
    with checkpoint.open_manager(workdir, max_to_keep=1) as manager:
        restored = checkpoint.restore_latest(manager, jax.eval_shape(programs.init, block))
        state, record = restored or (programs.init(block), {"history": []})
        history = record["history"]
        first_step = int(history[-1]["step"]) if history else 0
        bar = tqdm(
            desc=f"{block_trials[0].phase}: {len(block_trials)} trials",
            total=experiment.num_steps,
            initial=first_step,
            unit="step",
            disable=not sys.stderr.isatty(),
        )
        epochs = parallel.pieces(first_step, experiment.num_steps, experiment.steps_per_epoch)
        for start, stop in epochs:
            started = time.monotonic()
            train_metrics = []
            orders = programs.order(state)
            for first, end in parallel.pieces(start, stop, every_steps):
                number = asked()
                if number:
                    raise Stopped(
                        number,
                        "inside a block; the same command goes on from its newest checkpoint",
                    )
                state, metrics = programs.train(state, block, splits[0], orders, end - first)
                train_metrics.append(jax.device_get(metrics))
                bar.update(end - first)
            test_metrics = jax.device_get(programs.evaluate(state, splits[1]))
            history.append(
                {
                    "step": stop,
                    "epoch": stop / experiment.steps_per_epoch,
                    "learning_rate": learning_rates[:, stop - 1].tolist(),
                    **_means("train", train_metrics),
                    **_means("test", [test_metrics]),
                    "seconds": round(time.monotonic() - started, 3),
                }
            )
            epoch = -(-stop // experiment.steps_per_epoch)
            if epoch % config.checkpoint_every_epochs == 0 and stop < experiment.num_steps:
                checkpoint.save(manager, stop, state, {"history": history})
        bar.close()
    rows = [row for index, trial in enumerate(block_trials) for row in _rows(trial, index, history)]
    seconds = sum(record["seconds"] for record in history)
    telemetry.write_whole(file, json.dumps({"seconds": seconds, "rows": rows}) + "\n")
    workdir.rmtree()
    return rows, seconds


def _rows(trial: Trial, index: int, history: list[dict[str, Any]]) -> Rows:
    """The rows of one trial of a block, an epoch each; what is not finite is None."""
    from experiments import results

    model = trial.config.model
    rows: Rows = []
    diverged = False
    for record in history:
        curves = {
            name: record[name][index]
            for name in ("learning_rate", *(f"{s}_{m}" for s in SPLITS for m in METRICS))
        }
        diverged |= not all(math.isfinite(value) for value in curves.values())
        rows.append(
            {
                "phase": trial.phase,
                "setting": trial.setting,
                "seed": trial.config.seed,
                "data": trial.config.data.name,
                "model": results.model_name(model.name, model.width_multiplier),
                **trial.values,
                "epoch": record["epoch"],
                "step": record["step"],
                **{n: value if math.isfinite(value) else None for n, value in curves.items()},
                "diverged": diverged,
            }
        )
    return rows


def _means(split: str, parts: Iterable[step.Metrics]) -> dict[str, list[float]]:
    """Mean loss and accuracy of each trial over the examples of all parts."""
    parts = list(parts)
    means = {}
    for name in METRICS:
        averages = [getattr(metrics, name) for metrics in parts]
        total = sum(average.total for average in averages)
        count = sum(average.count for average in averages)
        means[f"{split}_{name}"] = (total / count).tolist()
    return means


def _block(block_trials: Sequence[Trial]) -> trials.Block:
    return trials.make_block(
        [trial.config for trial in block_trials], [trial.experiment for trial in block_trials]
    )


def _padded(block_trials: Sequence[Trial], mesh: Mesh) -> list[Trial]:
    """The trials, and the last of them again until all devices have the same number."""
    return [*block_trials, *[block_trials[-1]] * (-len(block_trials) % mesh.size)]


def _block_files(directory: epath.Path, num_trials: int, block_size: int) -> list[epath.Path]:
    return [directory / f"{start}.json" for start in range(0, num_trials, block_size)]


def _finished(file: epath.Path) -> tuple[Rows, float] | None:
    """Rows and seconds of a finished block, or None."""
    if not file.exists():
        return None
    content = json.loads(file.read_text())
    return content["rows"], content["seconds"]


def define_flags() -> None:
    """Defines the command's flags; not on import, for another command may define --config too."""
    config_flags.DEFINE_config_file("config", None, "A file of configs/sweeps/.", lock_config=True)
    flags.DEFINE_string("workdir", None, "Where the sweep is kept; runs/NAME by default.")
    flags.DEFINE_bool(
        "compile_cache", True, "Keep compiled programs in the user's cache directory."
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
