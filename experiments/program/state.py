"""The state of a training run and the random keys derived from its seed."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

PRNG_IMPL = "threefry2x32"


class TrainState(flax.struct.PyTreeNode):
    """Everything that training changes, and the key from which all randomness derives.

    Attributes:
      step: int32 scalar, number of updates made.
      params: float32 parameters of the model, or a dict of them if the task has several networks.
      batch_stats: running statistics of batch norm, `{}` without batch norm.
      opt_state: state of the optimizer, or a dict of them if the task has several networks.
      key: typed PRNG key of the run; it never changes.
      averages: averages of the parameters by name (see `program.averaging`); `{}` if all are off. A
        task neither sets nor reads them.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    key: jax.Array
    averages: Any = flax.struct.field(default_factory=dict)

    def apply_gradients(
        self, gradients: Any, optimizer: optax.GradientTransformation, **changes: Any
    ) -> "TrainState":
        """Returns the state after one update of the parameters.

        Args:
          gradients: gradients of the parameters, as `params`.
          optimizer: the optax chain that initialized `opt_state`.
          **changes: other fields that the step changes, such as `batch_stats`.

        Returns:
          The state, one step later.
        """
        updates, opt_state = optimizer.update(gradients, self.opt_state, self.params)
        params = optax.apply_updates(self.params, updates)
        changed: TrainState = self.replace(
            step=self.step + 1, params=params, opt_state=opt_state, **changes
        )
        return changed


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


def key_data(seed: int) -> np.ndarray:
    """Returns the data of a run's key, which equal those of `jax.random.key(seed)` in 32 bits.

    They are computed without jax, so that its switches, such as `jax_random_seed_offset`, cannot
    change them.

    Args:
      seed: seed of the run, at least 0 and less than 2**32.

    Returns:
      uint32 [2].

    >>> key_data(3)
    array([0, 3], dtype=uint32)
    """
    return np.array([0, seed], np.uint32)


def make_key(data: ArrayLike) -> jax.Array:
    """Returns the typed PRNG key of a run; its generator does not depend on jax's default.

    Args:
      data: uint32 [2], the result of `key_data`.
    """
    return jax.random.wrap_key_data(jnp.asarray(data), impl=PRNG_IMPL)


def run_keys(key: jax.Array) -> Keys:
    """Returns the keys that a run derives from its own key.

    Args:
      key: typed PRNG key of the run.

    Returns:
      One typed PRNG key for each use.
    """
    return Keys(*jax.random.split(key, len(Keys._fields)))
