"""Takes schedules to Keras and PyTorch, and reads the current learning rate from optax states.

Keras and PyTorch are optional: `to_keras` imports Keras when it is called, and `to_torch` returns a
plain Python function, which needs no PyTorch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from loganneal_jax import arguments
from loganneal_jax.schedule import Schedule, ScheduleLike

# States of optax whose `count` is the argument of a schedule: those of `optax.scale_by_schedule`
# and of `optax.inject_hyperparams`. Other states, such as Adam's, count for other purposes.
_SCHEDULE_STATES = ("ScaleByScheduleState", "WrappedScheduleState")
_COUNT_FIELDS = ("count", "step_count", "gradient_step", "mini_step")


def to_torch(schedule: ScheduleLike, base_value: float = 1.0) -> Callable[[int], float]:
    """Converts a schedule to a function for `torch.optim.lr_scheduler.LambdaLR`.

    LambdaLR multiplies the learning rate of the optimizer by the function's result. The function
    therefore returns `schedule(step) / base_value`, where `base_value` is the learning rate that
    the optimizer was built with:

        optimizer = torch.optim.AdamW(model.parameters(), lr=1.0)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, to_torch(schedule))

    For the Trainer of Hugging Face, pass `optimizers=(optimizer, scheduler)`. In Lightning, return
    both from `configure_optimizers`, with `"interval": "step"`.

    The schedule runs in JAX, so on a machine with a GPU set the environment variable
    `JAX_PLATFORMS=cpu`. Otherwise JAX reserves most of the memory of the GPU.

    Args:
      schedule: Any schedule.
      base_value: Learning rate of the optimizer, a positive number.

    Returns:
      A function from an int to a float. It can be pickled if the schedule can, and the `state_dict`
      of LambdaLR contains nothing of it.

    Raises:
      ValueError: If `base_value` is not positive and finite.
      TypeError: If an argument has the wrong type.

    >>> import optax
    >>> factor = to_torch(optax.linear_schedule(0.5, 0.0, 4), base_value=0.5)
    >>> factor(0), factor(3)
    (1.0, 0.25)
    """
    _check_schedule(schedule)
    base_value = arguments.static_number("base_value", base_value, above=0.0)
    # LambdaLR saves the attributes of callable objects. A partial has none, and can be pickled.
    return functools.partial(_divided, schedule, base_value)


def to_keras(schedule: Schedule) -> Any:
    """Converts a schedule to a `keras.optimizers.schedules.LearningRateSchedule`.

    The result works with the JAX, TensorFlow, and PyTorch backends of Keras. It is saved with a
    model as the names and arguments of our factories. Before you load the model in another process,
    call `to_keras` on any schedule or import `loganneal_jax.keras_schedule`, so that Keras knows
    the class.

    Args:
      schedule: A schedule of this library. Saving fails if it contains a function of another
        library; use `from_values(tabulate(schedule, num_steps))` instead.

    Returns:
      A `LearningRateSchedule`, for the argument `learning_rate` of any optimizer of Keras.

    Raises:
      TypeError: If `schedule` is not a `Schedule`.
      ImportError: If Keras is not installed.

    >>> from loganneal_jax import linear_decay_schedule
    >>> to_keras(linear_decay_schedule(0.1, 0.0, decay_steps=100))
    KerasSchedule(linear_decay_schedule(0.1, 0.0, 100))
    """
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"schedule must be a schedule of loganneal_jax, got {schedule!r}; convert another "
            "function with from_values(tabulate(schedule, num_steps))."
        )
    from loganneal_jax import keras_schedule

    return keras_schedule.KerasSchedule(schedule)


def learning_rate_of(opt_state: Any, schedule: ScheduleLike) -> jax.Array:
    """Returns the learning rate that an optax optimizer uses in its next update.

    An optimizer state usually contains several counts. Adam has its own, `optax.MultiSteps` counts
    micro-batches, and `optax.apply_if_finite` skips updates. Only the count of
    `optax.scale_by_schedule`, which every optimizer with a schedule contains, or that of
    `optax.inject_hyperparams` is the step of the schedule. This function finds it.

    Args:
      opt_state: State of an optax optimizer, also inside of `optax.chain`, `optax.MultiSteps`,
        `optax.multi_transform`, or `flax.nnx.Optimizer`. It may be traced or have leading axes, as
        from `jax.vmap`.
      schedule: The schedule that the optimizer was built with.

    Returns:
      The learning rate, float32, with the shape of the count. Inside a trace, the rate is NaN where
      several counts of schedules differ.

    Raises:
      ValueError: If the state contains no count of a schedule, or several that differ.

    >>> import optax
    >>> from loganneal_jax import linear_decay_schedule
    >>> schedule = linear_decay_schedule(0.5, 0.0, decay_steps=4)
    >>> optimizer = optax.MultiSteps(optax.adam(schedule), every_k_schedule=2)
    >>> params = {"w": jnp.zeros(3)}
    >>> state = optimizer.init(params)
    >>> for _ in range(4):
    ...     _, state = optimizer.update(params, state, params)
    >>> print(learning_rate_of(state, schedule))
    0.25
    """
    _check_schedule(schedule)
    found = _counts(opt_state)
    if not found:
        others = _paths_of_counts(opt_state)
        listed = f" Its other counts are {', '.join(others)}." if others else ""
        raise ValueError(
            "opt_state has no count of a schedule, so its optimizer was built with a constant "
            "learning rate or counts steps in another way; call the schedule with the number of "
            f"updates instead.{listed}"
        )
    (path, count), *rest = found.items()
    rate = jnp.asarray(schedule(count), jnp.float32)
    for other_path, other in rest:
        is_equal = count == other
        if isinstance(is_equal, Tracer):
            rate = jnp.where(is_equal, rate, jnp.nan)
        elif not np.all(is_equal):
            raise ValueError(
                f"opt_state has several counts of schedules that differ, {path}={count} and "
                f"{other_path}={other}; pass the part of the state whose rate you want."
            )
    return rate


def _divided(schedule: ScheduleLike, base_value: float, step: int) -> float:
    return float(np.asarray(schedule(step))) / base_value


def _check_schedule(schedule: object) -> None:
    if not callable(schedule):
        raise TypeError(f"schedule must be a function of the step count, got {schedule!r}.")


def _counts(opt_state: Any) -> dict[str, ArrayLike]:
    """Returns the count of each schedule in an optimizer state, by its path."""

    def is_schedule_state(node: object) -> bool:
        return type(node).__name__ in _SCHEDULE_STATES and hasattr(node, "count")

    leaves = jax.tree_util.tree_flatten_with_path(opt_state, is_leaf=is_schedule_state)[0]
    return {
        f"opt_state{jax.tree_util.keystr(path)}.count": jnp.asarray(node.count)
        for path, node in leaves
        if is_schedule_state(node)
    }


def _paths_of_counts(opt_state: Any) -> list[str]:
    leaves = jax.tree_util.tree_flatten_with_path(opt_state)[0]
    paths = [jax.tree_util.keystr(path) for path, _ in leaves]
    return [f"opt_state{path}" for path in paths if path.split(".")[-1] in _COUNT_FIELDS]
