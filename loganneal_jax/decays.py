"""Decays without a restart: what cyclical annealing is compared with."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from loganneal_jax import annealing, arguments, compose, cycles, shapes

_FLOAT32_TINY = float(np.finfo(np.float32).tiny)


def linear_decay_schedule(
    init_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> optax.Schedule:
    """Decays along a line, then holds `end_value`; with `end_value = 0` it is linear to zero.

    `lr = end_value + (init_value - end_value) (1 - x)`, `x = min(count / decay_steps, 1)`.

    Args:
      init_value: scalar, the value at step 0.
      end_value: scalar, the value from step `decay_steps` on, not above `init_value`.
      decay_steps: steps of the decay, at least 1.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> print(linear_decay_schedule(1.0, 0.0, decay_steps=4)(jnp.arange(6)))
    [1.   0.75 0.5  0.25 0.   0.  ]

    Source: Bergsma et al. 2025, arXiv 2502.15938 (linear to zero).
    """
    init_value, end_value = annealing.checked_range("init_value", init_value, end_value)
    return annealing.anneal(shapes.linear, init_value, end_value, decay_steps)


def exponential_decay_schedule(
    init_value: ArrayLike, end_value: ArrayLike, decay_steps: int
) -> optax.Schedule:
    """Decays by the same factor every step, from `init_value` to `end_value`, then holds that.

    `lr = init_value (end_value / init_value)**x`, `x = min(count / decay_steps, 1)`; `exp` in
    Nakamura et al. 2021.

    Args:
      init_value: scalar, the value at step 0.
      end_value: scalar above 0, the value from step `decay_steps` on, not above `init_value`.
      decay_steps: steps of the decay, at least 1.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> print(np.asarray(exponential_decay_schedule(1.0, 0.01, 4)(jnp.arange(6))).round(4))
    [1.     0.3162 0.1    0.0316 0.01   0.01  ]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, figure 1.
    """
    end_value = arguments.number("end_value", end_value, least=_FLOAT32_TINY)
    init_value, end_value = annealing.checked_range("init_value", init_value, end_value)
    log_rate = annealing.log(end_value) - annealing.log(init_value)
    return annealing.anneal(
        lambda elapsed, remaining: shapes.exponential(elapsed, remaining, log_rate),
        init_value,
        end_value,
        decay_steps,
    )


def sigmoid_decay_schedule(
    init_value: ArrayLike, end_value: ArrayLike, decay_steps: int, *, slope: ArrayLike = 5.0
) -> optax.Schedule:
    """Decays along a sigmoid; `sig` in Nakamura et al. 2021.

    `lr = end_value + (init_value - end_value) / (1 + exp(slope (2x - 1)))`, `x = min(count /
    decay_steps, 1)`. The ends are approached, not reached: with slope 5 the fraction of the range
    runs from 0.9933 to 0.0067. The paper prints `kappa = 1/5` for the slope, which is almost
    constant; its figure shows a slope of `1 / kappa`.

    Args:
      init_value: scalar, eta_up.
      end_value: scalar, eta_low, not above `init_value`.
      decay_steps: steps of the decay, at least 1.
      slope: scalar above 0, the steepness.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> print(np.asarray(sigmoid_decay_schedule(0.1, 0.001, 4)(jnp.arange(6))).round(4))
    [0.0993 0.0925 0.0505 0.0085 0.0017 0.0017]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, eq. (3).
    """
    init_value, end_value = annealing.checked_range("init_value", init_value, end_value)
    slope = arguments.number("slope", slope, above=0.0)
    return annealing.anneal(
        lambda elapsed, remaining: shapes.sigmoid(elapsed, remaining, slope),
        init_value,
        end_value,
        decay_steps,
    )


def rex_schedule(init_value: ArrayLike, end_value: ArrayLike, decay_steps: int) -> optax.Schedule:
    """Decays slowly at first and fast at the end (reflected exponential), then holds `end_value`.

    `lr = end_value + (init_value - end_value) (1 - x) / (1 - x / 2)`, `x = min(count / decay_steps,
    1)`.

    Args:
      init_value: scalar, the value at step 0.
      end_value: scalar, the value from step `decay_steps` on, not above `init_value`.
      decay_steps: steps of the decay, at least 1.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> print(np.asarray(rex_schedule(1.0, 0.0, decay_steps=4)(jnp.arange(6))).round(4))
    [1.     0.8571 0.6667 0.4    0.     0.    ]

    Source: Chen, Wolfe and Kyrillidis 2022, arXiv 2107.04197.
    """
    init_value, end_value = annealing.checked_range("init_value", init_value, end_value)
    return annealing.anneal(shapes.rex, init_value, end_value, decay_steps)


def inverse_sqrt_schedule(
    peak_value: ArrayLike, *, warmup_steps: int, warmup_init_value: ArrayLike = 0.0
) -> optax.Schedule:
    """Warms up along a line, then decays with the inverse square root of the step, for ever.

    `lr = peak_value sqrt(warmup_steps / count)` from step `warmup_steps` on.

    Args:
      peak_value: scalar, the value at step `warmup_steps`.
      warmup_steps: steps of the warmup, at least 1; they also set the pace of the decay.
      warmup_init_value: scalar, the value at step 0.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> print(inverse_sqrt_schedule(1.0, warmup_steps=2)(jnp.array([0, 1, 2, 8, 32])))
    [0.   0.5  1.   0.5  0.25]

    Source: Vaswani et al. 2017, arXiv 1706.03762, eq. (3).
    """
    peak_value = arguments.number("peak_value", peak_value)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps)
    warmup_init_value = arguments.number("warmup_init_value", warmup_init_value)

    def fall(count: ArrayLike) -> jax.Array:
        step = cycles.as_count(count).astype(jnp.float32) + float(warmup_steps)
        return jnp.asarray(peak_value, jnp.float32) * jnp.sqrt(warmup_steps / step)

    return compose.with_warmup(fall, warmup_steps, warmup_init_value)


def staircase_schedule(
    init_value: ArrayLike, *, boundaries: list[int], decay_rate: ArrayLike = 0.1
) -> optax.Schedule:
    """Falls by a factor at every boundary; `str` in Nakamura et al. 2021.

    `lr = init_value * decay_rate**n`, with `n` the number of boundaries at or before `count`. For
    another factor at each boundary there is `optax.piecewise_constant_schedule`.

    Args:
      init_value: scalar, the value at step 0.
      boundaries: steps, increasing from above 0; a boundary is the first step of the new value.
      decay_rate: scalar above 0 and at most 1, the factor.

    Returns:
      A schedule: count (int32, any shape) -> float32 of that shape.

    Raises:
      ValueError: if a value is not finite or out of the range given above.
      TypeError: if an argument has the wrong type.

    >>> print(staircase_schedule(1.0, boundaries=[2, 4], decay_rate=0.5)(jnp.arange(6)))
    [1.   1.   0.5  0.5  0.25 0.25]

    Source: Nakamura et al. 2021, doi 10.3390/electronics10162029, figure 1.
    """
    init_value = arguments.number("init_value", init_value)
    boundaries = arguments.boundaries("boundaries", boundaries)
    decay_rate = arguments.number("decay_rate", decay_rate, above=0.0, most=1.0)
    edges = np.array(boundaries, np.int32)

    def schedule(count: ArrayLike) -> jax.Array:
        passed = jnp.searchsorted(jnp.asarray(edges), cycles.as_count(count), side="right")
        factor = jnp.asarray(decay_rate, jnp.float32) ** passed.astype(jnp.float32)
        return jnp.asarray(init_value, jnp.float32) * factor

    return schedule
