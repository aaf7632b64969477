"""Spikes of the loss: how a run detects one, and how a rollback changes the schedule."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import loganneal_jax
from experiments.build.experiment import Experiment, with_schedule
from experiments.errors import UserError
from experiments.program.alarm import SILENT, Alarm, LossLimit

Rollback = dict[str, Any]
PEAKS = ("restart_value", "peak_value")  # fields that a rollback may lower, in this order


class Spike(Exception):
    """A loss that is too high or not finite, or a parameter that is not finite.

    Args:
      sentence: what was found.
      step: number of the step.
      loss: mean loss of that step's batch.
      learning_rate: learning rate of that step.
    """

    def __init__(self, sentence: str, *, step: int, loss: float, learning_rate: float) -> None:
        super().__init__(sentence)
        self.step = step
        self.loss = loss
        self.learning_rate = learning_rate


def check(
    alarm: Alarm, *, stop: int, loss: float, learning_rates: np.ndarray, limit: LossLimit
) -> None:
    """Raises if the compiled steps of a dispatch triggered the alarm.

    Args:
      alarm: the alarm after the dispatch, on the host.
      stop: number of the dispatch's last step.
      loss: mean loss of its steps.
      learning_rates: float32 [num_steps], the learning rate of each step of the run.
      limit: the limit that the steps were checked against.

    Raises:
      Spike: the alarm was triggered.

    >>> quiet = Alarm(np.int32(SILENT), np.float32(0), np.bool(True))
    >>> check(quiet, stop=2, loss=2.3, learning_rates=np.ones(2), limit=LossLimit())
    """
    step = min(int(alarm.step), stop)
    learning_rate = float(learning_rates[step - 1])
    where = f"at step {step}, where the learning rate is {learning_rate:.6g}"
    if alarm.step == SILENT:
        if not alarm.finite:
            raise Spike(
                f"training diverged: a parameter is no longer finite {where}",
                step=step,
                loss=loss,
                learning_rate=learning_rate,
            )
        return
    step_loss = float(alarm.loss)
    if math.isfinite(step_loss):
        sentence = (
            f"the loss of a batch is {step_loss:.6g} {where}, above "
            f"guard.loss_threshold={limit.threshold:g}"
        )
    else:
        sentence = f"training diverged: the loss is {step_loss} {where}"
    raise Spike(sentence, step=step, loss=step_loss, learning_rate=learning_rate)


def check_remedy(experiment: Experiment) -> None:
    """Refuses rollbacks that would change nothing, before the run starts.

    Args:
      experiment: the experiment.

    Raises:
      UserError: rollbacks are allowed, but the schedule does not have what they change, or the
        first one leaves a schedule that cannot be used.
    """
    guard, name = experiment.guard, experiment.config["schedule"]["name"]
    if not guard.max_rollbacks:
        return
    changed = _changes(experiment, 0, experiment.num_steps)
    if guard.extra_warmup_epochs and "warmup_epochs" not in changed:
        raise UserError(
            f"guard.extra_warmup_epochs={guard.extra_warmup_epochs:g} has no effect, because "
            f"schedule.name={name!r} has no warmup; set it to 0, or choose another schedule"
        )
    if guard.peak_factor != 1 and changed.keys().isdisjoint(PEAKS):
        raise UserError(
            f"guard.peak_factor={guard.peak_factor:g} has no effect, because schedule.name="
            f"{name!r} follows neither schedule.restart_value nor schedule.peak_value; set "
            f"guard.max_rollbacks=0, or choose another schedule"
        )
    adjusted(experiment, [{"changed": changed}])


def roll_back(
    spike: Spike, experiment: Experiment, rollbacks: Sequence[Rollback], *, newest: int | None
) -> Rollback:
    """Decides what to change after a spike, before the run resumes from the newest checkpoint.

    Args:
      spike: what was found.
      experiment: the experiment with the schedule of the previous rollbacks.
      rollbacks: the previous rollbacks.
      newest: step of the newest checkpoint, or None.

    Returns:
      A record of the spike, the step that the run returns to, and the fields that change.

    Raises:
      UserError: the config allows no more rollbacks, or a rollback would change nothing.
    """
    place = "from scratch" if newest is None else f"from checkpoint {newest}"
    guard = experiment.guard
    if len(rollbacks) >= guard.max_rollbacks:
        after = f" after {_rollbacks(len(rollbacks))}" if rollbacks else ""
        raise UserError(
            f"{spike}{after}; the same command would resume {place} and end the same way: lower "
            f"schedule.peak_value or schedule.restart_value, lengthen schedule.warmup_epochs, or "
            f"raise guard.max_rollbacks (now {guard.max_rollbacks}), and pass another --workdir"
        )
    changed = _changes(experiment, newest or 0, spike.step)
    if not changed:
        raise UserError(
            f"{spike}; resuming {place} would end the same way, because no field that guard."
            f"peak_factor and guard.extra_warmup_epochs change acts on the steps up to there: "
            f"change the schedule, and pass another --workdir"
        )
    changes = ", ".join(f"schedule.{name}={value:g}" for name, value in changed.items())
    print(f"warning: {spike}; resuming {place} with {changes}", file=sys.stderr)
    return {
        "step": spike.step,
        "loss": spike.loss if math.isfinite(spike.loss) else None,  # JSON has no infinity or NaN
        "learning_rate": spike.learning_rate,
        "from_step": newest or 0,
        "changed": {f"schedule.{name}": value for name, value in changed.items()},
    }


def _changes(experiment: Experiment, start: int, stop: int) -> dict[str, float]:
    """Returns the fields of the schedule to change, which alter its steps from start to stop."""
    guard, schedule = experiment.guard, experiment.config["schedule"]
    changed = {}
    peaks = {name: schedule[name] * guard.peak_factor for name in PEAKS if schedule[name]}
    for name, value in peaks.items():
        if _acts(experiment, {name: value}, start, stop):
            changed[name] = value
            break
    if guard.extra_warmup_epochs:
        longer = {"warmup_epochs": schedule["warmup_epochs"] + guard.extra_warmup_epochs}
        if _acts(experiment, longer, start, stop):
            changed |= longer
    return changed


def _acts(experiment: Experiment, changes: Mapping[str, float], start: int, stop: int) -> bool:
    """Returns whether other values of fields alter a learning rate from step start to stop."""
    try:
        changed = with_schedule(experiment, changes)
    except UserError:
        return True  # the run goes no further: `adjusted` reports the value
    before, after = (
        np.asarray(loganneal_jax.tabulate(each.schedule, each.num_steps))[start:stop]
        for each in (experiment, changed)
    )
    return not np.array_equal(before, after)


def adjusted(experiment: Experiment, rollbacks: Sequence[Mapping[str, Any]]) -> Experiment:
    """Rebuilds the schedule and the optimizer of an experiment after its rollbacks.

    Args:
      experiment: the experiment as the config describes it.
      rollbacks: records of `roll_back`, oldest first.

    Returns:
      The experiment with the schedule that the rollbacks left.

    Raises:
      UserError: the new values cannot be used.
    """
    if not rollbacks:
        return experiment
    changes = {
        path.removeprefix("schedule."): value
        for rollback in rollbacks
        for path, value in rollback["changed"].items()
    }
    try:
        return with_schedule(experiment, changes)
    except UserError as error:
        raise UserError(f"the schedule after {_rollbacks(len(rollbacks))}: {error}") from error


def _rollbacks(number: int) -> str:
    return "1 rollback" if number == 1 else f"{number} rollbacks"
