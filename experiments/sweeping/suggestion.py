"""A small tuning for a budget of time: its plan, and the config that it suggests."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from experiments.build.experiment import Experiment
from experiments.errors import UserError
from experiments.program import parallel
from experiments.sweeping import trials

# Peaks and seeds per schedule, the largest first. The final trials have as many fresh seeds.
SIZES = ((7, 3), (5, 3), (5, 2), (3, 2), (3, 1))
SPACING = math.sqrt(10)  # between neighboring peaks
MEASURED_STEPS = 20
# A machine with other work, evaluation of averages, and files take time that is not measured.
RESERVE = 0.2


class Timing(NamedTuple):
    """How long the trials of a sweep take.

    Attributes:
      trial: seconds per trial.
      startup: seconds to load the data and to compile the programs of both phases.
    """

    trial: float
    startup: float


class Plan(NamedTuple):
    """A small tuning.

    Attributes:
      peaks: the peak learning rates to try.
      seeds: number of seeds of each phase.
      num_trials: number of trials, of all schedules and both phases.
      seconds: estimate of its time.
    """

    peaks: tuple[float, ...]
    seeds: int
    num_trials: int
    seconds: float


def plan(minutes: float, timing: Timing, *, num_schedules: int, peak: float) -> Plan:
    """Plans the largest tuning that a budget allows.

    Args:
      minutes: the budget.
      timing: how long trials take.
      num_schedules: schedules that are tuned, each over all peaks.
      peak: the peak in the middle of those to try.

    Returns:
      The plan.

    Raises:
      UserError: the budget is not a positive number, or too small for any tuning.

    >>> plan(10, Timing(trial=10.0, startup=20.0), num_schedules=1, peak=0.1).peaks
    (0.0032, 0.01, 0.032, 0.1, 0.32, 1.0, 3.2)
    """
    if not 0 < minutes < math.inf:
        raise UserError(f"--minutes={minutes:g} is out of range; it must be above 0")
    for num_peaks, seeds in SIZES:
        num_trials = num_schedules * seeds * (num_peaks + 1)
        seconds = (1 + RESERVE) * (timing.startup + num_trials * timing.trial)
        if seconds <= 60 * minutes:
            peaks = tuple(
                float(f"{peak * SPACING ** (place - num_peaks // 2):.2g}")
                for place in range(num_peaks)
            )
            return Plan(peaks, seeds, num_trials, seconds)
    raise UserError(
        f"--minutes={minutes:g} is too small: the smallest tuning has {num_trials} trials of "
        f"{timing.trial:.2g} s each and takes about {in_minutes(seconds)}; pass "
        f"--minutes={math.ceil(seconds / 6) / 10:g}, or fewer epochs"
    )


def in_minutes(seconds: float) -> str:
    """Returns a time as text, such as "1.5 minutes".

    >>> in_minutes(90.0)
    '1.5 minutes'
    """
    return f"{seconds / 60:.2g} minutes"


def measure(experiment: Experiment) -> Timing:
    """Measures some steps and an evaluation, after compiling them.

    Args:
      experiment: the experiment of one of the trials.

    Returns:
      The time of a trial when devices share the trials, and of startup.
    """
    started = time.monotonic()
    mesh = trials.make_mesh()
    replicated = trials.replicated(mesh)
    programs = trials.make_programs(
        experiment, mesh, trials.batched_on(mesh.devices.flat[0].platform)
    )
    block = trials.make_block([experiment] * mesh.size)
    train, test = (parallel.to_devices(split, replicated) for split in experiment.task.load())
    state = programs.init(block)
    orders = programs.order(state)
    num_steps = min(MEASURED_STEPS, experiment.steps_per_epoch)
    count = parallel.count(num_steps, replicated)
    seconds = []
    for _ in range(2):  # the first time compiles
        begun = time.monotonic()
        state, metrics = programs.train(state, block, train, orders, count)
        jax.block_until_ready(metrics)
        trained = time.monotonic()
        jax.block_until_ready(programs.evaluate(state, test))
        seconds.append((trained - begun, time.monotonic() - trained))
    of_steps, of_evaluation = seconds[1]
    epochs = math.ceil(experiment.num_steps / experiment.steps_per_epoch)
    trial = of_steps / num_steps * experiment.num_steps + of_evaluation * epochs
    startup = time.monotonic() - started - of_steps - of_evaluation
    return Timing(trial / mesh.size, 2 * startup)


def edge(peak: float, peaks: Sequence[float]) -> str:
    """Returns a note if the best peak is the lowest or highest that was tried, or "".

    >>> edge(1.0, (0.1, 0.32, 1.0))
    'the highest peak tried, so a higher one may be better'
    """
    if peak == max(peaks):
        return "the highest peak tried, so a higher one may be better"
    if peak == min(peaks):
        return "the lowest peak tried, so a lower one may be better"
    return ""


def config_file(fields: Mapping[str, Any], defaults: Mapping[str, Any], about: str) -> str:
    """Returns a config file, which sets the fields that differ from configs/base.py.

    Args:
      fields: the config by dotted field.
      defaults: the config of configs/base.py by dotted field.
      about: what the file is, for its docstring.

    Returns:
      Python code.
    """
    lines = []
    for path, value in fields.items():
        if path in defaults and defaults[path] == value:
            continue
        shown = repr(tuple(value)) if isinstance(value, list) else repr(value)
        lines.append(f"    config.{path} = {shown}\n")
    quoted = about.replace("\\", r"\\").replace('"""', r"\"\"\"")
    return (
        f'"""{quoted}\n"""\n\n'
        "from ml_collections import ConfigDict\n\n"
        "from configs import base\n\n\n"
        "def get_config() -> ConfigDict:\n"
        "    config = base.get_config()\n"
        f"{''.join(lines)}"
        "    return config\n"
    )
