"""Cycles: from a step to where in which cycle it lies, in exact integer arithmetic.

Everything is subtracted as integers before anything becomes a float, because float32 loses whole
steps past 2**24. A `count` may have any shape; negative ones, which `optax.join_schedules` passes
to branches it then discards, count as step 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_STEPS = 2**31  # counts run from 0 to 2**31 - 1
_INT32_MAX = 2**31 - 1
_UINT32_MAX = 2**32 - 1


class Position(NamedTuple):
    """Where in its cycle a step lies; every field has the shape of the count.

    Attributes:
      cycle: int32, its number, from 0.
      warmed: float32, steps of the cycle's own warmup that are over.
      elapsed: float32, steps of its annealing that are over, from 0.
      remaining: float32, steps of its annealing still to come; 0 from its end on.
    """

    cycle: jax.Array
    warmed: jax.Array
    elapsed: jax.Array
    remaining: jax.Array


def as_count(count: ArrayLike) -> jax.Array:
    """Returns a count of steps as int32, with negative ones at 0."""
    return jnp.maximum(jnp.asarray(count, dtype=jnp.int32), 0)


def once(count: ArrayLike, decay_steps: int) -> tuple[jax.Array, jax.Array]:
    """Steps elapsed and remaining of a single annealing, which stands still at its end.

    Args:
      count: int32 of any shape, the step.
      decay_steps: the length of the annealing in steps.

    Returns:
      `(elapsed, remaining)`, float32, of the shape of `count`.

    >>> elapsed, remaining = once([0, 3, 99], decay_steps=4)
    >>> print(elapsed, remaining)
    [0. 3. 4.] [4. 1. 0.]
    """
    elapsed = jnp.minimum(as_count(count), decay_steps)
    return elapsed.astype(jnp.float32), (decay_steps - elapsed).astype(jnp.float32)


def repeated(
    interval: int, multiplier: float, *, warmup_steps: int = 0, hold_steps: int = 0
) -> Callable[[ArrayLike], Position]:
    """Cycles for ever: cycle k anneals over `max(1, round(interval * multiplier**k))` steps.

    A cycle is its warmup, its annealing and its hold, one after another; only the annealing grows
    or shrinks.

    Args:
      interval: steps of the first annealing, at least 1.
      multiplier: factor from one annealing's length to the next, above 0.
      warmup_steps: steps before every annealing.
      hold_steps: steps after every annealing.

    Returns:
      A function from a count (int32, any shape) to its `Position`.

    >>> position = repeated(10, 2.0)
    >>> print(position([9, 10, 29, 30]).elapsed)
    [ 9.  0. 19.  0.]
    """
    runs = _runs(interval, multiplier, warmup_steps + hold_steps)

    def position(count: ArrayLike) -> Position:
        # Unsigned, because a cycle may be longer than the largest int32.
        unsigned = as_count(count).astype(jnp.uint32)
        if len(runs.start) == 1:
            run = jnp.zeros(unsigned.shape, jnp.int32)
        else:
            run = jnp.searchsorted(jnp.asarray(runs.start), unsigned, side="right") - 1
        within_run = unsigned - jnp.asarray(runs.start)[run]
        cycle_steps = jnp.asarray(runs.cycle_steps)[run]
        nth = within_run // cycle_steps
        step = (within_run - nth * cycle_steps).astype(jnp.int32)
        length = jnp.asarray(runs.length)[run]
        elapsed = jnp.clip(step - warmup_steps, 0, length)
        return Position(
            cycle=jnp.asarray(runs.first)[run] + nth.astype(jnp.int32),
            warmed=jnp.minimum(step, warmup_steps).astype(jnp.float32),
            elapsed=elapsed.astype(jnp.float32),
            remaining=(length - elapsed).astype(jnp.float32) + jnp.asarray(runs.beyond)[run],
        )

    return position


class _Runs(NamedTuple):
    """Runs of equally long cycles, one row a run, covering every step an int32 can count."""

    start: np.ndarray  # uint32, the run's first step
    cycle_steps: np.ndarray  # uint32, steps of each of its cycles
    length: np.ndarray  # int32, of which this many anneal, at most the largest int32
    beyond: np.ndarray  # float32, what `length` lacks of an annealing that is longer still
    first: np.ndarray  # int32, number of the run's first cycle


def _runs(interval: int, multiplier: float, other_steps: int) -> _Runs:
    """Tabulates cycle lengths up to the last step; see `_count_equal` for why by runs."""

    def length_of(cycle: int) -> int:
        # The bound keeps `round` off infinity and changes no step that can be counted; no float64
        # below it is rounded, since all of them are whole numbers from 2**53 on.
        return max(1, round(min(interval * multiplier**cycle, 2.0**100)))

    rows = []
    start, cycle = 0, 0
    while start < _STEPS:
        length = length_of(cycle)
        cycle_steps = length + other_steps
        cycles_left = -(-(_STEPS - start) // cycle_steps)
        equal = _count_equal(length_of, cycle, length, cycles_left)
        kept = min(length, _INT32_MAX)
        rows.append((start, min(cycle_steps, _UINT32_MAX), kept, length - kept, cycle))
        start += equal * cycle_steps
        cycle += equal
    dtypes = (np.uint32, np.uint32, np.int32, np.float32, np.int32)
    return _Runs(*(np.array(c, d) for c, d in zip(zip(*rows, strict=True), dtypes, strict=True)))


def _count_equal(length_of: Callable[[int], int], cycle: int, length: int, most: int) -> int:
    """How many cycles from `cycle` on are `length` steps long, at most `most`.

    Cycle lengths only ever grow or only ever shrink, so equal ones are neighbours. Doubling, then
    halving finds the last of a run of any length in a few dozen looks: a multiplier next to 1 has
    millions of cycles but few lengths, and a shrinking one ends in 2**31 cycles of a single step.
    """
    equal, differs = 1, 2
    while differs <= most and length_of(cycle + differs - 1) == length:
        equal, differs = differs, 2 * differs
    differs = min(differs, most + 1)
    while differs - equal > 1:
        middle = (equal + differs) // 2
        if length_of(cycle + middle - 1) == length:
            equal = middle
        else:
            differs = middle
    return equal
