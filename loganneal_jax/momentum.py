"""The momentum that goes with a one-cycle learning rate."""

from __future__ import annotations

from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, compose, shapes
from loganneal_jax.schedule import ScheduleFunction, returns_schedule
from loganneal_jax.triangular import ANNEAL_STRATEGIES, AnnealStrategy


@returns_schedule
def one_cycle_momentum_schedule(
    max_momentum: ArrayLike,
    min_momentum: ArrayLike,
    total_steps: int,
    *,
    pct_start: float = 0.3,
    anneal_strategy: AnnealStrategy = "cosine",
    pct_final: float | None = None,
) -> ScheduleFunction:
    """Momentum of one cycle: low while the learning rate is high.

    The momentum falls from `max_momentum` to `min_momentum` over the first
    `int(pct_start * total_steps)` steps. It then rises to `max_momentum` at step `total_steps` or,
    with `pct_final`, at step `int(pct_final * total_steps)`. It then holds `max_momentum`. Give it
    the steps and the strategy of the `one_cycle_schedule` that it goes with:

        optax.inject_hyperparams(optax.sgd)(
            learning_rate=one_cycle_schedule(0.1, 1000),
            momentum=one_cycle_momentum_schedule(0.95, 0.85, 1000),
        )

    Args:
      max_momentum: First and last value, a scalar. PyTorch's default is 0.95.
      min_momentum: Value at the peak of the learning rate, a scalar. PyTorch calls it
        `base_momentum`; its default is 0.85.
      total_steps: Number of steps of all phases together, at least 1.
      pct_start: Fraction of the steps spent on the warmup, a Python number, at least 0 and below 1.
      anneal_strategy: "cosine" or "linear", the form of each phase.
      pct_final: Fraction of the steps at which the learning rate is back at its initial value, a
        Python number, above `pct_start` and at most 1. `None` means 1.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> import jax.numpy as jnp
    >>> schedule = one_cycle_momentum_schedule(
    ...     1.0, 0.5, 4, pct_start=0.5, anneal_strategy="linear"
    ... )
    >>> print(schedule(jnp.arange(6)))
    [1.   0.75 0.5  0.75 1.   1.  ]

    Source: Smith and Topin 2018, arXiv 1708.07120.
    """
    max_momentum = arguments.number("max_momentum", max_momentum)
    min_momentum = arguments.number("min_momentum", min_momentum)
    arguments.ordered("min_momentum", min_momentum, "max_momentum", max_momentum)
    total_steps = arguments.steps("total_steps", total_steps)
    pct_start = arguments.static_number("pct_start", pct_start, minimum=0.0)
    end = 1.0 if pct_final is None else arguments.static_number("pct_final", pct_final, maximum=1.0)
    arguments.choice("anneal_strategy", anneal_strategy, ANNEAL_STRATEGIES)
    if pct_start >= 1:
        raise ValueError(f"pct_start must be below 1, got {pct_start}.")
    fall = int(pct_start * total_steps)
    rise = int(end * total_steps) - fall
    if rise < 1:
        raise ValueError(
            f"pct_final must be above pct_start={pct_start} by at least one of "
            f"total_steps={total_steps}, got {pct_final}."
        )
    shape = shapes.cosine if anneal_strategy == "cosine" else shapes.linear
    rising = annealing.anneal(shape, min_momentum, max_momentum, rise)
    if fall == 0:
        return rising
    falling = annealing.anneal(shape, max_momentum, min_momentum, fall)
    return compose.chain_schedules([falling, rising], [fall])
