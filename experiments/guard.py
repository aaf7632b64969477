"""What stops a run before its end: a loss that is no number, or the user."""

import contextlib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

from experiments.errors import UserError


def check_finite(loss: float, *, step: int, learning_rate: float) -> None:
    """Stops the run when its loss is no number, before such a state is saved.

    Args:
      loss: mean loss of the steps since the last report.
      step: the last of those steps.
      learning_rate: the learning rate at that step.

    Raises:
      UserError: the loss is infinite or not a number.

    >>> check_finite(2.3, step=50, learning_rate=0.1)
    """
    if not math.isfinite(loss):
        raise UserError(
            f"training diverged: the loss is {loss} at step {step}, where the learning rate is "
            f"{learning_rate:.6g}; lower schedule.init_value or lengthen schedule.warmup_epochs"
        )


@contextlib.contextmanager
def ctrl_c_between_steps() -> Iterator[Callable[[], None]]:
    """Lets Ctrl-C stop the run only where the run asks for it, and a second one at once.

    An exception in the middle of a save could leave its threads waiting for ever.

    Yields:
      A function that raises `KeyboardInterrupt` if Ctrl-C was pressed.
    """
    pressed = False

    def note(signal_number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            os._exit(128 + signal.SIGINT)
        pressed = True
        print("stopping after the steps under way; Ctrl-C again stops at once", file=sys.stderr)

    def stop_if_pressed() -> None:
        if pressed:
            raise KeyboardInterrupt("the same command goes on from the last checkpoint")

    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop_if_pressed
    finally:
        signal.signal(signal.SIGINT, before)
