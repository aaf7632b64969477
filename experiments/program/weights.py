"""Finds the weights to evaluate, where they are not those that training updates."""

from typing import Any

import jax
import optax

from experiments.program.state import TrainState


def to_evaluate(state: TrainState) -> TrainState:
    """Returns a state whose parameters are those to evaluate.

    Schedule-free optimizers compute gradients at interpolations of a sequence and its average.
    Only the average is meant to be evaluated (Defazio et al. 2024, arXiv:2405.15682, section 2).

    Args:
      state: the state of a run. `params` and `opt_state` may be dicts of several networks.

    Returns:
      The state with the averages as `params`, or the same state for other optimizers. Training
      must not continue from it.
    """
    return state.replace(params=_averaged(state.params, state.opt_state))


def as_they_are(state: TrainState) -> TrainState:
    """Returns a state of which `to_evaluate` keeps the parameters.

    Args:
      state: a state whose parameters were replaced by some to evaluate.

    Returns:
      The state, without the optimizer state of a schedule-free optimizer.
    """
    nodes = jax.tree.leaves(state.opt_state, is_leaf=_is_schedule_free)
    return state.replace(opt_state=()) if any(map(_is_schedule_free, nodes)) else state


def _averaged(params: Any, opt_state: Any) -> Any:
    if isinstance(opt_state, dict):
        return {
            name: _averaged(each, opt_state[name]) if name in opt_state else each
            for name, each in params.items()
        }
    for node in jax.tree.leaves(opt_state, is_leaf=_is_schedule_free):
        if _is_schedule_free(node):
            return optax.contrib.schedule_free_eval_params(node, params)
    return params


def _is_schedule_free(node: Any) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)
