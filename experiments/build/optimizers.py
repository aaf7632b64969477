"""Turns the section `optimizer` of a config into an optax chain that follows a schedule."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import optax
from jax.typing import ArrayLike
from ml_collections import ConfigDict

from experiments.build import names
from experiments.errors import UserError

MakeOptimizer = Callable[[optax.Schedule, ArrayLike], optax.GradientTransformation]
# From a schedule and a weight decay to the transformations of the clipped gradient, in order.
Steps = Callable[[optax.Schedule, ArrayLike], Sequence[optax.GradientTransformation]]
# From a weight decay to a method and its weight decay, in order.
Decayed = Callable[[ArrayLike], Sequence[optax.GradientTransformation]]


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
    steps = (
        _scheduled(config, method) if isinstance(method, optax.GradientTransformation) else method
    )
    clip_norm = config.clip_norm

    def make_optimizer(
        schedule: optax.Schedule, weight_decay: ArrayLike
    ) -> optax.GradientTransformation:
        chain = steps(schedule, weight_decay)
        if clip_norm is not None:
            chain = [optax.clip_by_global_norm(clip_norm), *chain]
        return optax.chain(*chain)

    return make_optimizer


def kernels(params: Any) -> Any:
    """Marks the parameters named `kernel`: not biases, scales of norms, or position embeddings."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def _scheduled(config: ConfigDict, method: optax.GradientTransformation) -> Steps:
    """Adds weight decay to a method, and lets the schedule multiply the result."""
    decayed = _decayed(config, method)
    return lambda schedule, weight_decay: [
        *decayed(weight_decay),
        optax.scale_by_learning_rate(schedule),
    ]


def _decayed(config: ConfigDict, method: optax.GradientTransformation) -> Decayed:
    """Returns a function from a weight decay to the method and the decay, in their order."""
    mask = names.choose("optimizer.weight_decay_mask", config.weight_decay_mask, MASKS)
    order = WEIGHT_DECAY_MODES[_mode(config)]
    return lambda weight_decay: order(optax.add_decayed_weights(weight_decay, mask), method)


def _mode(config: ConfigDict) -> str:
    default = "decoupled" if config.name in DECOUPLED else "coupled"
    mode = config.weight_decay_mode or default
    names.check("optimizer.weight_decay_mode", mode, WEIGHT_DECAY_MODES)
    if config.name == "adamw" and mode == "coupled":
        raise UserError(
            "optimizer.weight_decay_mode='coupled' turns adamw into adam; set optimizer.name=adam"
        )
    return mode


def _given(config: ConfigDict, **arguments: str) -> dict[str, Any]:
    """Returns optax's arguments from the fields that are set; optax has the other defaults."""
    values = {argument: config[field] for argument, field in arguments.items()}
    return {argument: value for argument, value in values.items() if value is not None}


def _adabelief(config: ConfigDict) -> optax.GradientTransformation:
    """AdaBelief: Adam with the deviation of gradients from their average (Zhuang et al. 2020)."""
    return optax.scale_by_belief(**_given(config, b1="beta1", b2="beta2", eps="epsilon"))


def _adafactor(config: ConfigDict) -> optax.GradientTransformation:
    """Adafactor: factored second moments, updates scaled by weights (Shazeer and Stern 2018)."""
    # optax.adafactor multiplies by the learning rate before the parameters' scale, which is equal.
    return optax.chain(
        optax.scale_by_factored_rms(**_given(config, epsilon="epsilon")),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(),
    )


def _adagrad(config: ConfigDict) -> optax.GradientTransformation:
    """Adagrad: divides by the root of the sum of squared gradients (Duchi et al. 2011)."""
    return optax.scale_by_rss(**_given(config, eps="epsilon"))


def _adam(config: ConfigDict) -> optax.GradientTransformation:
    """Adam: averages of gradients and of their squares (Kingma and Ba 2015)."""
    return optax.scale_by_adam(**_given(config, b1="beta1", b2="beta2", eps="epsilon"))


def _adamw(config: ConfigDict) -> optax.GradientTransformation:
    """AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    return _adam(config)


def _adan(config: ConfigDict) -> optax.GradientTransformation:
    """Adan: adaptive Nesterov momentum (Xie et al. 2022)."""
    given = _given(config, b1="beta1", b2="beta2", b3="beta3", eps="epsilon")
    return optax.scale_by_adan(**given)


def _lamb(config: ConfigDict) -> Steps:
    """LAMB: Adam with a trust ratio for each parameter array (You et al. 2020)."""
    given = _given(config, b1="beta1", b2="beta2", eps="epsilon")
    decayed = _decayed(config, optax.scale_by_adam(**{"eps": 1e-6, **given}))
    # The trust ratio is that of the update with its weight decay.
    return lambda schedule, weight_decay: [
        *decayed(weight_decay),
        optax.scale_by_trust_ratio(),
        optax.scale_by_learning_rate(schedule),
    ]


def _lion(config: ConfigDict) -> optax.GradientTransformation:
    """Lion: the sign of an average of gradients (Chen et al. 2023)."""
    return optax.scale_by_lion(**_given(config, b1="beta1", b2="beta2"))


def _muon(config: ConfigDict) -> optax.GradientTransformation:
    """Muon: orthogonalized momentum for matrices, and Adam for the others (Jordan et al. 2024)."""
    given = _given(config, adam_b1="beta1", adam_b2="beta2", eps="epsilon")
    muon = optax.contrib.muon(1.0, consistent_rms=config.consistent_rms, **given)
    # optax.contrib.muon descends, and scale_by_learning_rate changes the sign once more.
    return optax.chain(muon, optax.scale(-1.0))


def _nadamw(config: ConfigDict) -> optax.GradientTransformation:
    """NAdamW: Adam with Nesterov momentum and decoupled weight decay (Dozat 2016)."""
    given = _given(config, b1="beta1", b2="beta2", eps="epsilon")
    return optax.scale_by_adam(nesterov=True, **given)


def _prodigy(config: ConfigDict) -> Steps:
    """Prodigy: Adam that estimates its learning rate (Mishchenko and Defazio 2024)."""
    given = _given(config, beta3="beta3", eps="epsilon")
    betas = {"beta1": 0.9, "beta2": 0.999} | _given(config, beta1="beta1", beta2="beta2")
    prodigy = functools.partial(optax.contrib.prodigy, betas=tuple(betas.values()), **given)
    if _mode(config) == "decoupled":
        # Prodigy multiplies its decay, of all parameters, by its own estimate of the learning rate.
        return lambda schedule, weight_decay: [prodigy(schedule, weight_decay=weight_decay)]
    mask = names.choose("optimizer.weight_decay_mask", config.weight_decay_mask, MASKS)
    return lambda schedule, weight_decay: [
        optax.add_decayed_weights(weight_decay, mask),
        prodigy(schedule),
    ]


def _radam(config: ConfigDict) -> optax.GradientTransformation:
    """RAdam: Adam with a rectified variance at the start (Liu et al. 2020)."""
    return optax.scale_by_radam(**_given(config, b1="beta1", b2="beta2", eps="epsilon"))


def _rmsprop(config: ConfigDict) -> optax.GradientTransformation:
    """RMSprop: divides by the root of an average of squared gradients, with momentum."""
    # As in PyTorch, epsilon is outside the root, and momentum acts before the learning rate.
    given = _given(config, decay="beta2", eps="epsilon")
    return optax.chain(
        optax.scale_by_rms(eps_in_sqrt=False, **given), optax.trace(decay=config.momentum)
    )


def _schedule_free_adamw(config: ConfigDict) -> Steps:
    """Schedule-free AdamW: averages the weights in place of a decay (Defazio et al. 2024)."""
    given = _given(config, decay="beta2", eps="epsilon")
    # Adam without its momentum, which schedule_free replaces.
    adam = optax.scale_by_rms(**{"decay": 0.999, **given}, eps_in_sqrt=False, bias_correction=True)
    return _schedule_free(config, _decayed(config, adam))


def _schedule_free_sgd(config: ConfigDict) -> Steps:
    """Schedule-free SGD: averages the weights in place of a decay (Defazio et al. 2024)."""
    # The gradient is the update, so coupled and decoupled weight decay are the same.
    mask = names.choose("optimizer.weight_decay_mask", config.weight_decay_mask, MASKS)
    return _schedule_free(config, lambda decay: [optax.add_decayed_weights(decay, mask)])


def _schedule_free(config: ConfigDict, decayed: Decayed) -> Steps:
    """Averages the steps of a method; `program.weights` finds the averages for evaluation."""
    if config.beta1 == 0:
        raise UserError(
            f"optimizer.beta1=0.0 cannot be used with optimizer.name={config.name!r}, which "
            "divides by it; set it above 0"
        )
    given = _given(config, b1="beta1")

    def steps(
        schedule: optax.Schedule, weight_decay: ArrayLike
    ) -> Sequence[optax.GradientTransformation]:
        method = optax.chain(*decayed(weight_decay), optax.scale_by_learning_rate(schedule))
        return [optax.contrib.schedule_free(method, learning_rate=schedule, **given)]

    return steps


def _sgd(config: ConfigDict) -> optax.GradientTransformation:
    """SGD with momentum, or with Nesterov momentum."""
    # optax.trace adds the full gradient to the decayed trace, which is a dampening of 0.
    return optax.trace(decay=config.momentum, nesterov=config.nesterov)


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
# From the section of the config to the update before weight decay and the learning rate, or to all
# steps, where weight decay or the schedule is inside the method.
OPTIMIZERS: dict[str, Callable[[ConfigDict], optax.GradientTransformation | Steps]] = {
    "adabelief": _adabelief,
    "adafactor": _adafactor,
    "adagrad": _adagrad,
    "adam": _adam,
    "adamw": _adamw,
    "adan": _adan,
    "lamb": _lamb,
    "lion": _lion,
    "muon": _muon,
    "nadamw": _nadamw,
    "prodigy": _prodigy,
    "radam": _radam,
    "rmsprop": _rmsprop,
    "schedule_free_adamw": _schedule_free_adamw,
    "schedule_free_sgd": _schedule_free_sgd,
    "sgd": _sgd,
}
# The schedule is inside these, so their updates cannot be multiplied to change the learning rate.
INNER_SCHEDULE = frozenset({"prodigy", "schedule_free_adamw", "schedule_free_sgd"})
# Weight decay of these acts on the update by default, as in their papers or their authors' code.
DECOUPLED = frozenset(OPTIMIZERS) - {"adagrad", "adam", "rmsprop", "schedule_free_sgd", "sgd"}
