"""Suggests a peak learning rate: python -m experiments.suggest --config=FILE --minutes=NUMBER.

The command measures the time of one trial, plans the largest tuning over peaks and seeds that the
budget allows, runs it as a sweep, and writes suggested.py: the config with the peak that is best on
a validation split. Train with it by --config=WORKDIR/suggested.py.

--schedule=NAME,NAME tunes several schedules and suggests the best. --plan_only stops after the
plan. The same command with the same workdir resumes.
"""

import json
from collections.abc import Sequence

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from experiments import cli
from experiments.build import fields
from experiments.build.experiment import plain
from experiments.build.sweeps import Sweep, read_sweep
from experiments.errors import UserError
from experiments.packaged import base, sweeps_base
from experiments.program import switches
from experiments.runtime import compile_cache, environment
from experiments.runtime.workdir import write_atomically
from experiments.sweeping import suggestion

VALIDATION_SHARE = 0.1  # of the training split
PEAK = "schedule.peak_value"
FOLLOWERS = ("end_value", "warmup_init_value", "restart_value")  # keep their ratio to the peak
FILE = "suggested.py"


def main() -> None:
    """Tunes as the flags specify."""
    given = flags.FLAGS
    config = given.config
    if config is None:
        raise UserError("--config is missing; pass --config=configs/NAME.py")
    if given.minutes is None:
        raise UserError("--minutes is missing; pass the budget, such as --minutes=10")
    fields.check(config)
    _follow_peak(config)
    schedules = list(given.schedule or [config.schedule.name])
    workdir = epath.Path(
        cli.directory("workdir", given.workdir or f"runs/{cli.config_name()}-suggest")
    )
    switches.pin()
    environment.check_platform()
    compile_cache.use(given.compile_cache)
    sweep = _stored(config, schedules, workdir)
    if sweep is None:
        sweep = _planned(config, schedules, given.minutes)
    if given.plan_only:
        return
    _run(sweep, workdir)


def _follow_peak(config: ConfigDict) -> None:
    """Makes the other learning rates of the config follow the peak, in the ratio that they have."""
    section = config.schedule
    for name in FOLLOWERS:
        if section.peak_value and section[name]:
            ratio = section[name] / section.peak_value
            section[name] = ratio * section.get_oneway_ref("peak_value")


def _stored(config: ConfigDict, schedules: Sequence[str], workdir: epath.Path) -> Sweep | None:
    """Returns the sweep that an earlier start in the directory planned, or None."""
    file = workdir / "config.json"
    if not file.exists():
        return None
    try:
        stored = json.loads(file.read_text())
        ((peaks,), seeds) = ([axis["values"] for axis in stored["grid"]], len(stored["seeds"]))
        held_out = stored["tune"]["validation_examples"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{workdir} is not the directory of an earlier suggestion; pass another --workdir"
        ) from error
    print(f"resumes the tuning in {workdir}: {len(peaks)} peaks, {seeds} seeds")
    return _sweep(config, schedules, tuple(peaks), seeds, held_out)


def _planned(config: ConfigDict, schedules: Sequence[str], minutes: float) -> Sweep:
    """Measures one trial, and returns the largest sweep that the budget allows."""
    peak = float(config.schedule.peak_value)
    one = _sweep(config, schedules, (peak,), seeds=1, held_out=1)
    experiments = [one.experiment(name, {PEAK: peak}, config.seed) for name in schedules]
    timing = suggestion.measure(experiments[0])
    print(
        f"one trial takes about {timing.trial:.2g} s ({experiments[0].num_steps} steps), and "
        f"startup {timing.startup:.2g} s, measured on this machine"
    )
    plan = suggestion.plan(minutes, timing, num_schedules=len(schedules), peak=peak)
    print(
        f"plan: {', '.join(schedules)}, each with {len(plan.peaks)} peaks "
        f"({', '.join(f'{peak:g}' for peak in plan.peaks)}) and {plan.seeds} seeds on a validation "
        f"split, and with {plan.seeds} fresh seeds at the best peak: {plan.num_trials} trials in "
        f"about {suggestion.in_minutes(plan.seconds)}"
    )
    held_out = max(1, round(VALIDATION_SHARE * experiments[0].task.num_train))
    return _sweep(config, schedules, plan.peaks, plan.seeds, held_out)


def _sweep(
    config: ConfigDict,
    schedules: Sequence[str],
    peaks: Sequence[float],
    seeds: int,
    held_out: int,
) -> Sweep:
    sweep = sweeps_base.make(config)
    sweep.settings = tuple({"name": name, "schedule.name": name} for name in schedules)
    sweep.seeds = tuple(config.seed + number for number in range(seeds))
    sweep.grid = ({"field": PEAK, "values": tuple(peaks)},)
    sweep.tune.seeds = tuple(config.seed + 100 + number for number in range(seeds))
    sweep.tune.validation_examples = held_out
    return read_sweep(sweep, [f"base.{path}" for path in cli.given_fields()])


def _run(sweep: Sweep, workdir: epath.Path) -> None:
    """Runs the sweep, prints its scores, and writes the config of the best schedule and peak."""
    from pathlib import Path

    from experiments.results import failures, methods, read, tables
    from experiments.sweeping.run import run

    end = run(sweep, workdir)
    assert end.summary is not None  # there is a single shard
    results = read.read([Path(workdir)])
    objective = results.objective
    scores = failures.per_trial(results.rows, objective, results.chance[objective.name])
    print(tables.markdown(tables.tuning(scores, objective)))
    tuned = scores[scores.phase == "tune"]
    peaks = sweep.grid[0].values
    chosen = {name: point[PEAK] for name, point in end.summary["chosen"].items()}
    means = {
        name: tuned[(tuned.setting == name) & (tuned[PEAK] == peak)]["last"].mean(skipna=False)
        for name, peak in chosen.items()
    }
    found = {name: mean for name, mean in means.items() if mean == mean}
    if not found:
        raise UserError(
            f"every trial failed, so there is nothing to suggest; try lower peaks with "
            f"--config.{PEAK}={min(peaks) / 10:g} and another --workdir"
        )
    best = (max if objective.direction == "max" else min)(found, key=found.__getitem__)
    peak = chosen[best]
    text = f"{tables.shown(found[best], objective)}{'%' if objective.percent else ''}"
    sentence = (
        f"{best} with {PEAK}={peak:g} has the best validation {objective.label}, {text} "
        f"(mean of {len(sweep.tune_seeds)} trials)"
    )
    note = suggestion.edge(peak, peaks)
    if note:
        sentence += f". It is {note}: repeat with --config.{PEAK}={peak:g} and another --workdir"
    suggested = methods.flatten(sweep.experiment(best, {PEAK: peak}, sweep.seeds[0]).config)
    text = suggestion.config_file(
        suggested, methods.flatten(plain(base.get_config())), f"Suggested: {sentence}."
    )
    write_atomically(workdir / FILE, text)
    file = workdir / FILE
    print(f"{sentence}.\nwrote {file}; python -m experiments.train --config={file}")


def define_flags() -> None:
    """Defines the command's flags, not on import, because other commands define --config too."""
    config_flags.DEFINE_config_file(
        "config", None, "Config of a run, a file in configs/.", lock_config=True
    )
    flags.DEFINE_float("minutes", None, "Budget of time.")
    flags.DEFINE_list(
        "schedule", None, "Comma-separated schedules to tune. Defaults to the config's."
    )
    flags.DEFINE_bool("plan_only", False, "Print the plan and its estimate, and stop.")
    flags.DEFINE_string("workdir", None, "Directory of the tuning; runs/NAME-suggest by default.")
    flags.DEFINE_bool(
        "compile_cache", True, "Keep compiled programs in the user's cache directory."
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
