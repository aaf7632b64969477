"""Turns the section `optimizer` of a config into an optax chain that follows a schedule."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from experiments.build import names
from experiments.errors import UserError

MakeOptimizer = Callable[[optax.Schedule, ArrayLike], optax.GradientTransformation]


def optimizer_maker(config: ConfigDict) -> MakeOptimizer:
    """Reads the section `optimizer` of a config.

    Gradients are clipped, and coupled weight decay is added to them. The method turns them into an
    update, and decoupled weight decay is added to that. The schedule multiplies the result.

    Args:
      config: the section, with the fields of `configs/base.py`.

    Returns:
      A function from a schedule and a weight decay, either of which may be traced, to the optax
      chain. A sweep calls it with the schedule and the weight decay of each trial.

    Raises:
      UserError: a name is unknown, or the names contradict each other.
    """
    make_method = names.resolve("optimizer.name", config.name, OPTIMIZERS)
    method = make_method(config)
    mask = names.choose("optimizer.weight_decay_mask", config.weight_decay_mask, MASKS)
    mode = config.weight_decay_mode or ("decoupled" if config.name == "adamw" else "coupled")
    order = names.choose("optimizer.weight_decay_mode", mode, WEIGHT_DECAY_MODES)
    if config.name == "adamw" and mode == "coupled":
        raise UserError(
            "optimizer.weight_decay_mode='coupled' turns adamw into adam; set optimizer.name=adam"
        )
    clip_norm = config.clip_norm

    def make_optimizer(
        schedule: optax.Schedule, weight_decay: ArrayLike
    ) -> optax.GradientTransformation:
        chain = order(optax.add_decayed_weights(weight_decay, mask), method)
        if clip_norm is not None:
            chain = [optax.clip_by_global_norm(clip_norm), *chain]
        return optax.chain(*chain, optax.scale_by_learning_rate(schedule))

    return make_optimizer


def kernels(params: Any) -> Any:
    """Marks the parameters named `kernel`: not biases, scales of norms, or position embeddings."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _sgd(config: ConfigDict) -> optax.GradientTransformation:
    # optax.trace adds the full gradient to the decayed trace, which is a dampening of 0.
    return optax.trace(decay=config.momentum, nesterov=config.nesterov)


def _adam(config: ConfigDict) -> optax.GradientTransformation:
    return optax.scale_by_adam()


def _rmsprop(config: ConfigDict) -> optax.GradientTransformation:
    # As in PyTorch, epsilon is outside the root, and momentum acts before the learning rate.
    return optax.chain(optax.scale_by_rms(eps_in_sqrt=False), optax.trace(decay=config.momentum))


MASKS: dict[str, Callable[[Any], Any] | None] = {"all": None, "kernels": kernels}
# From weight decay and method to their order in the chain.
WEIGHT_DECAY_MODES: dict[
    str,
    Callable[
        [optax.GradientTransformation, optax.GradientTransformation],
        Sequence[optax.GradientTransformation],
    ],
] = {
    "coupled": lambda decay, method: [decay, method],
    "decoupled": lambda decay, method: [method, decay],
}
# From the section of the config to the update before weight decay and the learning rate.
OPTIMIZERS: dict[str, Callable[[ConfigDict], optax.GradientTransformation]] = {
    "adam": _adam,
    "adamw": _adam,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
}
