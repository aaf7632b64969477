"""From the section `optimizer` of a config to an optax chain that follows a schedule."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jax.typing import ArrayLike
from ml_collections import ConfigDict

DECAYS = ("coupled", "decoupled")
DECAYED = ("all", "kernels")


def make_optimizer(
    config: ConfigDict, schedule: optax.Schedule, *, weight_decay: ArrayLike
) -> optax.GradientTransformation:
    """The optimizer that the section `optimizer` of a config describes.

    Gradients are clipped, then coupled weight decay is added to them; the method makes an update
    of them, to which decoupled weight decay is added; and both are multiplied by the schedule.

    Args:
      config: the section, with the fields of `configs/base.py`.
      schedule: from steps to learning rates.
      weight_decay: in place of the section's own, a number or, of a trial among many, an array.

    Returns:
      An optax chain.
    """
    mask = kernels if config.decayed == "kernels" else None
    decay = optax.add_decayed_weights(weight_decay, mask)
    method = METHODS[config.name](config)
    chain = [decay, method] if decay_of(config) == "coupled" else [method, decay]
    if config.clip_norm is not None:
        chain.insert(0, optax.clip_by_global_norm(config.clip_norm))
    return optax.chain(*chain, optax.scale_by_learning_rate(schedule))


def decay_of(config: ConfigDict) -> str:
    """How the weights decay: as the config says, else coupled, which for adamw is decoupled."""
    return config.decay or ("decoupled" if config.name == "adamw" else "coupled")


def kernels(params: Any) -> Any:
    """Which parameters are kernels, by their name: no biases, no scales of norms, no positions."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _sgd(config: ConfigDict) -> optax.GradientTransformation:
    # optax.trace adds the whole gradient to the decayed trace: a dampening of 0.
    return optax.trace(decay=config.momentum, nesterov=config.nesterov)


def _adam(config: ConfigDict) -> optax.GradientTransformation:
    return optax.scale_by_adam()


def _rmsprop(config: ConfigDict) -> optax.GradientTransformation:
    # As in PyTorch: epsilon outside the root, and momentum before the learning rate, as for sgd.
    return optax.chain(optax.scale_by_rms(eps_in_sqrt=False), optax.trace(decay=config.momentum))


METHODS: dict[str, Callable[[ConfigDict], optax.GradientTransformation]] = {
    "adam": _adam,
    "adamw": _adam,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
}
