"""What stops a run before its end, a loss that spikes or a signal, and what is done about it."""

import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from experiments import alarm
from experiments.errors import UserError

Rollback = dict[str, Any]


class Spike(Exception):
    """A loss that is too high or no number, or a parameter that is none; one sentence.

    Args:
      sentence: what was seen.
      step: number of the step in which it was seen.
      loss: mean loss of that step's batch.
      learning_rate: the learning rate of that step.
    """

    def __init__(self, sentence: str, *, step: int, loss: float, learning_rate: float) -> None:
        super().__init__(sentence)
        self.step = step
        self.loss = loss
        self.learning_rate = learning_rate


def loss_limit(config: ConfigDict, *, steps_per_epoch: int) -> alarm.LossLimit:
    """The loss that the section `guard` of a config lets pass.

    Args:
      config: the section, with the fields of `configs/base.py`.
      steps_per_epoch: steps an epoch.

    Returns:
      The limit, in steps.
    """
    return alarm.LossLimit(config.loss_threshold, round(config.grace_epochs * steps_per_epoch))


def check(
    seen: alarm.Alarm,
    *,
    stop: int,
    loss: float,
    learning_rates: np.ndarray,
    limit: alarm.LossLimit,
) -> None:
    """Raises what the compiled steps of a dispatch have seen.

    Args:
      seen: the alarm after the dispatch, on the host.
      stop: number of its last step.
      loss: mean loss of its steps.
      learning_rates: float32 [steps], of the run.
      limit: what the steps were watched for.

    Raises:
      Spike: the alarm rang.

    >>> quiet = alarm.Alarm(np.int32(alarm.SILENT), np.float32(0), np.bool(True))
    >>> check(quiet, stop=2, loss=2.3, learning_rates=np.ones(2), limit=alarm.LossLimit())
    """
    step = min(int(seen.step), stop)
    learning_rate = float(learning_rates[step - 1])
    where = f"at step {step}, where the learning rate is {learning_rate:.6g}"
    if seen.step == alarm.SILENT:
        if not seen.finite:
            raise Spike(
                f"training diverged: a parameter is no longer finite {where}",
                step=step,
                loss=loss,
                learning_rate=learning_rate,
            )
        return
    first = float(seen.loss)
    if math.isfinite(first):
        sentence = (
            f"the loss of a batch is {first:.6g} {where}, above "
            f"guard.loss_threshold={limit.threshold:g}"
        )
    else:
        sentence = f"training diverged: the loss is {first} {where}"
    raise Spike(sentence, step=step, loss=first, learning_rate=learning_rate)


def roll_back(
    spike: Spike,
    config: ConfigDict,
    rollbacks: Sequence[Rollback],
    *,
    steps_per_epoch: int,
    newest: int | None,
) -> Rollback:
    """What is changed after a spike, to go on from the newest checkpoint.

    Args:
      spike: what was seen.
      config: the run's config, with the changes of the rollbacks before.
      rollbacks: those rollbacks.
      steps_per_epoch: steps an epoch.
      newest: step of the newest checkpoint, or None.

    Returns:
      A record of the spike, of the step that the run goes back to, and of the fields that change.

    Raises:
      UserError: the config allows no rollback, or no more of them.
    """
    place = "from the start" if newest is None else f"from checkpoint {newest}, the last good one"
    guard = config.guard
    if len(rollbacks) >= guard.max_rollbacks:
        after = f" after {len(rollbacks)} rollbacks" if rollbacks else ""
        raise UserError(
            f"{spike}{after}; the same command would go on {place} and come to the same: lower "
            f"schedule.init_value or schedule.restart_value, lengthen schedule.warmup_epochs, or "
            f"raise guard.max_rollbacks (now {guard.max_rollbacks}), in another --workdir"
        )
    schedule = config.schedule
    first_restart = schedule.warmup_epochs + schedule.init_decay_epochs
    restarted = spike.step > round(first_restart * steps_per_epoch)
    peak = "init_value"
    if restarted and schedule.restart_value is not None:
        peak = "restart_value"
    changed = {f"schedule.{peak}": schedule[peak] * guard.peak_factor}
    if guard.extra_warmup_epochs:
        changed["schedule.warmup_epochs"] = schedule.warmup_epochs + guard.extra_warmup_epochs
    changes = ", ".join(f"{path}={value:g}" for path, value in changed.items())
    print(f"warning: {spike}; going on {place} with {changes}", file=sys.stderr)
    return {
        "step": spike.step,
        "loss": spike.loss if math.isfinite(spike.loss) else None,  # JSON has no other
        "learning_rate": spike.learning_rate,
        "from_step": newest or 0,
        "changed": changed,
    }


def adjusted(config: ConfigDict, rollbacks: Sequence[Mapping[str, Any]]) -> ConfigDict:
    """A run's config with what its rollbacks changed.

    Args:
      config: the run's config.
      rollbacks: of `roll_back`, oldest first.

    Returns:
      A config of its own.
    """
    changed: dict[str, Any] = {}
    for rollback in rollbacks:
        changed |= rollback["changed"]
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(changed)
    return config


@contextlib.contextmanager
def signals() -> Iterator[Callable[[], int | None]]:
    """Lets Ctrl-C and SIGTERM stop the run only where the run asks, and a second one at once.

    An exception in the middle of a save could leave its threads waiting for ever.

    Yields:
      A function that returns the number of the signal that came, or None.
    """
    came: int | None = None

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came is not None:
            os._exit(128 + number)
        came = number
        # Not print: the signal may have come in the middle of one, whose buffer is then locked.
        os.write(2, b"stopping after the steps under way; the same signal again stops at once\n")

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
