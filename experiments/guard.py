"""What stops a run that has gone wrong."""

import math

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
