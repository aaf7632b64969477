"""Checks inside the compiled steps: a loss that is too high, or a state that is not finite."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from experiments.program.state import TrainState

SILENT = 2**31 - 1  # larger than the number of steps of any run


class LossLimit(NamedTuple):
    """The highest training loss that does not trigger the alarm.

    Attributes:
      threshold: the highest loss allowed in a step; None allows every finite loss.
      grace_steps: number of steps at the start of a run in which every finite loss is allowed.
    """

    threshold: float | None = None
    grace_steps: int = 0


NO_LIMIT = LossLimit()


class Alarm(flax.struct.PyTreeNode):
    """What the checks found in the steps of one dispatch.

    Attributes:
      step: int32 scalar, the first step whose loss was too high, or SILENT.
      loss: float32 scalar, the loss of that step.
      finite: bool scalar, whether the state is finite after the last step.
    """

    step: jax.Array
    loss: jax.Array
    finite: jax.Array


def silent() -> Alarm:
    """Returns the alarm at the start of a dispatch, before any step."""
    return Alarm(
        step=jnp.asarray(SILENT, jnp.int32), loss=jnp.zeros(()), finite=jnp.ones((), jnp.bool)
    )


def watch_loss(alarm: Alarm, *, step: jax.Array, loss: jax.Array, limit: LossLimit) -> Alarm:
    """Checks the loss of one step and keeps the first step that triggers the alarm.

    A step triggers it if `loss > threshold` and `step > grace_steps`, which is eq. (5) of
    naveen2024 (threshold 4.5 for a single example; T_t < T_n), or if the loss is infinite or NaN.

    Args:
      alarm: the alarm after the previous step.
      step: int32 scalar, number of the step; the first step of a run is 1.
      loss: float32 scalar, mean loss of the batch.
      limit: the highest loss allowed.

    Returns:
      The alarm after this step.

    >>> limit = LossLimit(threshold=4.5, grace_steps=2)
    >>> rung = watch_loss(silent(), step=jnp.asarray(3), loss=jnp.asarray(4.6), limit=limit)
    >>> print(rung.step, rung.loss)
    3 4.6
    >>> early = watch_loss(silent(), step=jnp.asarray(2), loss=jnp.asarray(4.6), limit=limit)
    >>> int(early.step) == SILENT
    True
    """
    rings = ~jnp.isfinite(loss)
    if limit.threshold is not None:
        rings |= (loss > limit.threshold) & (step > limit.grace_steps)
    first = rings & (alarm.step == SILENT)
    return alarm.replace(
        step=jnp.where(first, step, alarm.step).astype(jnp.int32),
        loss=jnp.where(first, loss, alarm.loss),
    )


def watch_state(alarm: Alarm, state: TrainState) -> Alarm:
    """Checks whether the parameters, statistics, and optimizer state are finite.

    Args:
      alarm: the alarm after the last step of a dispatch.
      state: the state after that step.

    Returns:
      The alarm with `finite` set.
    """
    floats = [
        leaf
        for leaf in jax.tree.leaves((state.params, state.batch_stats, state.opt_state))
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    finite = [jnp.isfinite(leaf).all() for leaf in floats]
    return alarm.replace(finite=jnp.all(jnp.array(finite, jnp.bool)))
