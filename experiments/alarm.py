"""What is watched inside the compiled steps: a loss that is too high, a state that is no number."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from experiments.step import TrainState

SILENT = 2**31 - 1  # no run has so many steps


class LossLimit(NamedTuple):
    """The loss above which a step rings the alarm.

    Attributes:
      threshold: the highest loss of a step that is let pass; None: any that is finite.
      grace_steps: the first steps of a run, in which any finite loss is let pass.
    """

    threshold: float | None = None
    grace_steps: int = 0


NO_LIMIT = LossLimit()


class Alarm(flax.struct.PyTreeNode):
    """What was seen in the steps of one dispatch.

    Attributes:
      step: int32 scalar, number of the first step whose loss was too high, or SILENT.
      loss: float32 scalar, the mean loss of that step's batch.
      finite: bool scalar, whether all numbers of the state after the last step are finite.
    """

    step: jax.Array
    loss: jax.Array
    finite: jax.Array


def silent() -> Alarm:
    """The alarm before the first step of a dispatch."""
    return Alarm(
        step=jnp.asarray(SILENT, jnp.int32), loss=jnp.zeros(()), finite=jnp.ones((), jnp.bool)
    )


def watch_loss(alarm: Alarm, *, step: jax.Array, loss: jax.Array, limit: LossLimit) -> Alarm:
    """The alarm after one more step; the first step that rings it is the one it keeps.

    Rings when `loss > threshold` and `step > grace_steps`, which is eq. (5) of naveen2024 (4.5
    there, of a single example; T_t < T_n), or when the loss is infinite or not a number.

    Args:
      alarm: what the steps before it left.
      step: int32 scalar, number of the step; the first one of a run is 1.
      loss: float32 scalar, mean loss of its batch.
      limit: the highest loss that is let pass.

    Returns:
      The alarm.

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
    """The alarm with what the state says: whether its numbers are all finite.

    Args:
      alarm: what the steps left.
      state: the state after the last of them.

    Returns:
      The alarm.
    """
    numbers = [
        leaf
        for leaf in jax.tree.leaves((state.params, state.batch_stats, state.opt_state))
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    finite = [jnp.isfinite(leaf).all() for leaf in numbers]
    return alarm.replace(finite=jnp.all(jnp.array(finite, jnp.bool)))
