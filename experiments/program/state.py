"""The state of a training run and the random keys derived from its seed."""

from typing import Any, NamedTuple

import flax.struct
import jax
import optax


class TrainState(flax.struct.PyTreeNode):
    """Everything that training changes, and the key from which all randomness derives.

    Attributes:
      step: int32 scalar, number of updates made.
      params: float32 parameters of the model, or a dict of them if the task has several networks.
      batch_stats: running statistics of batch norm, `{}` without batch norm.
      opt_state: state of the optimizer, or a dict of them if the task has several networks.
      key: typed PRNG key of the run; it never changes.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    key: jax.Array


class Keys(NamedTuple):
    """The keys of a run, one for each use of random numbers.

    Attributes:
      init: initial parameters.
      order: order of the examples in each epoch; fold in the epoch.
      augment: data augmentation; fold in the step.
      dropout: dropout and other noise in the model; fold in the step.
    """

    init: jax.Array
    order: jax.Array
    augment: jax.Array
    dropout: jax.Array


def run_keys(key: jax.Array) -> Keys:
    """Returns the keys that a run derives from its own key.

    Args:
      key: typed PRNG key of the run.

    Returns:
      One typed PRNG key for each use.
    """
    return Keys(*jax.random.split(key, len(Keys._fields)))
