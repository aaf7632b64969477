"""The learning-rate range test, which finds the largest rate that trains."""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, cycles
from loganneal_jax.schedule import ScheduleFunction, returns_schedule

Spacing = Literal["exponential", "linear"]
_FLOAT32_TINY = float(np.finfo(np.float32).tiny)
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)


@returns_schedule
def range_test_schedule(
    min_value: ArrayLike,
    max_value: ArrayLike,
    num_steps: int,
    *,
    spacing: Spacing = "exponential",
) -> ScheduleFunction:
    """Learning-rate range test: rises from `min_value` to `max_value` in `num_steps` steps.

    With `x = min(count / (num_steps - 1), 1)`, the value is

        exponential:  min_value (max_value / min_value)**x      as numpy.geomspace
        linear:       min_value + (max_value - min_value) x     as numpy.linspace

    Train with this schedule, plot the loss over the learning rate, and choose a rate below the one
    where the loss starts to rise. The last of the `num_steps` steps has exactly `max_value`, which
    the schedule then holds.

    Args:
      min_value: Value at step 0, a positive scalar, at most `max_value`. If the spacing is linear,
        it may be 0.
      max_value: Value at step `num_steps - 1`, a scalar.
      num_steps: Number of steps of the test, at least 2.
      spacing: "exponential" or "linear".

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If a value is not finite or is outside the range given above.
      TypeError: If an argument has the wrong type.

    >>> schedule = range_test_schedule(1e-3, 10.0, num_steps=5)
    >>> print(np.asarray(schedule(jnp.arange(6))).round(4))
    [1.e-03 1.e-02 1.e-01 1.e+00 1.e+01 1.e+01]

    Source: Smith 2017, arXiv 1506.01186, section 3.3.
    """
    arguments.choice("spacing", spacing, SPACINGS)
    if spacing == "exponential":
        min_value = arguments.number("min_value", min_value, minimum=_FLOAT32_TINY)
    else:
        min_value = arguments.number("min_value", min_value, minimum=0.0)
    max_value = arguments.number("max_value", max_value)
    arguments.ordered("min_value", min_value, "max_value", max_value)
    last_step = arguments.steps("num_steps", num_steps, minimum=2) - 1

    def schedule(count: jax.Array) -> jax.Array:
        elapsed, remaining = cycles.single(count, last_step)
        low = jnp.asarray(min_value, jnp.float32)
        high = jnp.asarray(max_value, jnp.float32)
        # Divide by an array: XLA divides by a constant inexactly.
        done, left = elapsed / (elapsed + remaining), remaining / (elapsed + remaining)
        if spacing == "linear":
            return high * done + low * left
        log_ratio = jnp.asarray(annealing.log(max_value) - annealing.log(min_value), jnp.float32)
        # Start from the closer end, so that both ends are exact.
        from_low = low * jnp.exp(log_ratio * done)
        from_high = high * jnp.exp(-log_ratio * left)
        return jnp.where(elapsed < remaining, from_low, from_high)

    return schedule
