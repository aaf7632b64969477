"""Maps a step to its position in a cycle, in exact integer arithmetic.

Steps are subtracted as integers before the conversion to float32, which cannot represent every
integer above 2**24. A `count` may have any shape. Negative counts are clamped to 0, because
`optax.join_schedules` evaluates every branch, even at negative counts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

_NUM_COUNTS = 2**31  # counts range from 0 to 2**31 - 1
_INT32_MAX = 2**31 - 1
_UINT32_MAX = 2**32 - 1


class Position(NamedTuple):
    """Position of a step in its cycle. Every field has the shape of the count.

    Attributes:
      cycle: Index of the cycle, int32, starting at 0.
      warmup_elapsed: Steps since the start of the cycle's warmup, float32, at most `warmup_steps`.
      elapsed: Steps since the start of the cycle's annealing, float32.
      remaining: Steps until the end of the cycle's annealing, float32. It is 0 from the end on.
    """

    cycle: jax.Array
    warmup_elapsed: jax.Array
    elapsed: jax.Array
    remaining: jax.Array


def as_count(count: ArrayLike) -> jax.Array:
    """Converts a step count to int32 and clamps negative values to 0."""
    return jnp.maximum(jnp.asarray(count, dtype=jnp.int32), 0)


def single(count: ArrayLike, decay_steps: int) -> tuple[jax.Array, jax.Array]:
    """Returns the elapsed and remaining steps of a single annealing.

    Both stay constant after the end of the annealing.

    Args:
      count: Step, int32 of any shape.
      decay_steps: Number of steps of the annealing.

    Returns:
      `(elapsed, remaining)`, float32 arrays with the shape of `count`.

    >>> elapsed, remaining = single([0, 3, 99], decay_steps=4)
    >>> print(elapsed, remaining)
    [0. 3. 4.] [4. 1. 0.]
    """
    elapsed = jnp.minimum(as_count(count), decay_steps)
    return elapsed.astype(jnp.float32), (decay_steps - elapsed).astype(jnp.float32)


def repeated(
    interval: int, multiplier: float, *, warmup_steps: int = 0, hold_steps: int = 0
) -> Callable[[ArrayLike], Position]:
    """Builds a function that maps a step to its position in an endless sequence of cycles.

    Each cycle consists of a warmup, an annealing, and a hold. The annealing of cycle k lasts
    `max(1, round(interval * multiplier**k))` steps. The warmup and the hold have the same length in
    every cycle.

    Args:
      interval: Number of steps of the first annealing, at least 1.
      multiplier: Ratio of the lengths of consecutive annealings, positive.
      warmup_steps: Number of steps before each annealing.
      hold_steps: Number of steps after each annealing.

    Returns:
      A function that maps a count (int32, any shape) to its `Position`.

    >>> locate = repeated(10, 2.0)
    >>> print(locate([9, 10, 29, 30]).elapsed)
    [ 9.  0. 19.  0.]
    """
    segments = _tabulate_segments(interval, multiplier, warmup_steps + hold_steps)

    def locate(count: ArrayLike) -> Position:
        # Use uint32, because a cycle may be longer than the largest int32.
        unsigned = as_count(count).astype(jnp.uint32)
        if len(segments.start) == 1:
            segment = jnp.zeros(unsigned.shape, jnp.int32)
        else:
            segment = jnp.searchsorted(jnp.asarray(segments.start), unsigned, side="right") - 1
        step_in_segment = unsigned - jnp.asarray(segments.start)[segment]
        cycle_steps = jnp.asarray(segments.cycle_steps)[segment]
        cycle_in_segment = step_in_segment // cycle_steps
        step = (step_in_segment - cycle_in_segment * cycle_steps).astype(jnp.int32)
        length = jnp.asarray(segments.length)[segment]
        elapsed = jnp.clip(step - warmup_steps, 0, length)
        return Position(
            cycle=jnp.asarray(segments.first_cycle)[segment] + cycle_in_segment.astype(jnp.int32),
            warmup_elapsed=jnp.minimum(step, warmup_steps).astype(jnp.float32),
            elapsed=elapsed.astype(jnp.float32),
            remaining=(length - elapsed).astype(jnp.float32)
            + jnp.asarray(segments.excess)[segment],
        )

    return locate


class _Segments(NamedTuple):
    """Segments of consecutive cycles with equal length, one row per segment.

    Together they cover every count that fits in an int32.
    """

    start: np.ndarray  # uint32, first step of the segment
    cycle_steps: np.ndarray  # uint32, number of steps of each cycle in the segment
    length: np.ndarray  # int32, number of annealing steps per cycle, capped at the largest int32
    excess: np.ndarray  # float32, number of annealing steps above that cap
    first_cycle: np.ndarray  # int32, index of the segment's first cycle


def _tabulate_segments(interval: int, multiplier: float, other_steps: int) -> _Segments:
    """Tabulates the cycles up to the last count, one row for each run of equal lengths."""

    def length_of(cycle: int) -> int:
        # The cap prevents overflow in `round`. It exceeds every count, so positions do not change.
        return max(1, round(min(interval * multiplier**cycle, 2.0**100)))

    rows = []
    start, cycle = 0, 0
    while start < _NUM_COUNTS:
        length = length_of(cycle)
        cycle_steps = length + other_steps
        cycles_left = -(-(_NUM_COUNTS - start) // cycle_steps)
        num_cycles = _count_equal(length_of, cycle, length, cycles_left)
        capped = min(length, _INT32_MAX)
        rows.append((start, min(cycle_steps, _UINT32_MAX), capped, length - capped, cycle))
        start += num_cycles * cycle_steps
        cycle += num_cycles
    dtypes = (np.uint32, np.uint32, np.int32, np.float32, np.int32)
    columns = zip(*rows, strict=True)
    return _Segments(*(np.array(c, d) for c, d in zip(columns, dtypes, strict=True)))


def _count_equal(length_of: Callable[[int], int], cycle: int, length: int, maximum: int) -> int:
    """Counts the cycles from `cycle` on that last `length` steps, up to `maximum`.

    Cycle lengths are monotonic, so equal lengths are consecutive. Doubling followed by bisection
    finds the last equal cycle in a few dozen evaluations. A linear search would be too slow: a
    multiplier close to 1 yields millions of cycles with few distinct lengths, and a multiplier
    below 1 ends in up to 2**31 cycles of one step.
    """
    equal, differs = 1, 2
    while differs <= maximum and length_of(cycle + differs - 1) == length:
        equal, differs = differs, 2 * differs
    differs = min(differs, maximum + 1)
    while differs - equal > 1:
        middle = (equal + differs) // 2
        if length_of(cycle + middle - 1) == length:
            equal = middle
        else:
            differs = middle
    return equal
