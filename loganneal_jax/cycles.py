"""Maps a step to its position in a cycle, in exact integer arithmetic.

Steps are subtracted as integers before the conversion to float32, which cannot represent every
integer above 2**24. A `count` may have any shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from loganneal_jax import lookup
from loganneal_jax.counts import as_count as as_count

_NUM_COUNTS = 2**31  # counts range from 0 to 2**31 - 1
_INT32_MAX = 2**31 - 1
_UINT32_MAX = 2**32 - 1
MAX_UNROUNDED_CYCLES = 2**16


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


def single(count: ArrayLike, decay_steps: int) -> tuple[jax.Array, jax.Array]:
    """Returns the elapsed and remaining steps of a single annealing.

    Both stay constant after the end of the annealing.

    Args:
      count: Step, int32 of any shape.
      decay_steps: Number of steps of the annealing.

    Returns:
      `(elapsed, remaining)`, float32 arrays with the shape of `count`.

    >>> elapsed, remaining = single(np.array([0, 3, 99]), decay_steps=4)
    >>> print(elapsed, remaining)
    [0. 3. 4.] [4. 1. 0.]
    """
    elapsed = jnp.minimum(as_count(count), decay_steps)
    return elapsed.astype(jnp.float32), (decay_steps - elapsed).astype(jnp.float32)


def repeated(
    interval: int,
    multiplier: float,
    *,
    warmup_steps: int = 0,
    hold_steps: int = 0,
    num_cycles: int | None = None,
) -> Callable[[ArrayLike], Position]:
    """Builds a function that maps a step to its position in a sequence of cycles.

    Each cycle consists of a warmup, an annealing, and a hold. The annealing of cycle k lasts
    `max(1, round(interval * multiplier**k))` steps. The warmup and the hold have the same length in
    every cycle.

    Args:
      interval: Number of steps of the first annealing, at least 1.
      multiplier: Ratio of the lengths of consecutive annealings, positive.
      warmup_steps: Number of steps before each annealing.
      hold_steps: Number of steps after each annealing.
      num_cycles: Number of cycles, at least 1. The hold of the last one never ends. `None` repeats
        the cycles forever.

    Returns:
      A function that maps a count (int32, any shape) to its `Position`.

    >>> locate = repeated(10, 2.0)
    >>> print(locate(np.array([9, 10, 29, 30])).elapsed)
    [ 9.  0. 19.  0.]
    """
    segments = _tabulate_segments(interval, multiplier, warmup_steps + hold_steps, num_cycles)

    def locate(count: ArrayLike) -> Position:
        # Use uint32, because a cycle may be longer than the largest int32.
        unsigned = as_count(count).astype(jnp.uint32)
        if len(segments.start) == 1:
            row = _Segments(*(column[0] for column in segments))
        else:
            segment = lookup.count_at_most(segments.start, unsigned) - 1
            row = _Segments(*(lookup.take(column, segment) for column in segments))
        step_in_segment = unsigned - row.start
        cycle_in_segment = step_in_segment // row.cycle_steps
        step = (step_in_segment - cycle_in_segment * row.cycle_steps).astype(jnp.int32)
        elapsed = jnp.clip(step - warmup_steps, 0, row.length)
        return Position(
            cycle=row.first_cycle + cycle_in_segment.astype(jnp.int32),
            warmup_elapsed=jnp.minimum(step, warmup_steps).astype(jnp.float32),
            elapsed=elapsed.astype(jnp.float32),
            remaining=(row.length - elapsed).astype(jnp.float32) + row.excess,
        )

    return locate


def unrounded(
    interval: float, multiplier: float, num_cycles: int
) -> Callable[[ArrayLike], Position]:
    """Builds a function like that of `repeated`, but the lengths of the cycles are not rounded.

    Cycle k lasts `interval * multiplier**k` steps, so it may start between two steps. The position
    stays at the end of the last cycle.

    Args:
      interval: Number of steps of the first cycle, positive.
      multiplier: Ratio of the lengths of consecutive cycles, positive.
      num_cycles: Number of cycles, at least 1 and at most `MAX_UNROUNDED_CYCLES`.

    >>> locate = unrounded(2.5, 1.0, num_cycles=2)
    >>> print(locate(np.array([2, 3, 4, 5, 6])).elapsed)
    [2.  0.5 1.5 2.5 2.5]
    """
    cycle_index = np.arange(num_cycles + 1, dtype=np.float64)
    if multiplier == 1:
        edges = interval * cycle_index
    else:
        # The cap exceeds every count, so it does not change positions.
        lengths = interval * np.minimum(multiplier ** cycle_index[:-1], 2.0**40)
        edges = np.concatenate([[0.0], np.cumsum(lengths, dtype=np.longdouble)])
    edges = np.minimum(edges, 2.0**40).astype(np.float64)
    # Rounding errors must not move a restart away from the integer on which it falls.
    nearest = np.round(edges)
    edges = np.where(np.abs(edges - nearest) <= 1e-12 * nearest, nearest, edges)
    # Later cycles start after the last count. Some other cycles may lie between two steps.
    num_reached = np.count_nonzero(edges[:-1] <= _INT32_MAX)
    starts, ends = edges[:num_reached], edges[1 : num_reached + 1]
    first_step = np.ceil(starts).astype(np.int32)
    start_offset = (np.ceil(starts) - starts).astype(np.float32)
    last_step = np.minimum(np.floor(ends), _INT32_MAX).astype(np.int32)
    end_offset = np.minimum(ends - last_step, 2.0**40).astype(np.float32)

    def locate(count: ArrayLike) -> Position:
        step = as_count(count)
        cycle = lookup.count_at_most(first_step, step) - 1
        first, last = lookup.take(first_step, cycle), lookup.take(last_step, cycle)
        after, before = lookup.take(start_offset, cycle), lookup.take(end_offset, cycle)
        is_inside = step <= last
        elapsed = (jnp.minimum(step, last) - first).astype(jnp.float32) + after
        remaining = (last - jnp.minimum(step, last)).astype(jnp.float32) + before
        return Position(
            cycle=cycle,
            warmup_elapsed=jnp.zeros_like(elapsed),
            elapsed=jnp.where(is_inside, elapsed, elapsed + before),
            remaining=jnp.where(is_inside, remaining, 0.0),
        )

    return locate


class _Segments(NamedTuple):
    """Segments of consecutive cycles with equal length, one row per segment.

    Together they cover every count that fits in an int32.
    """

    start: Any  # uint32, first step of the segment
    cycle_steps: Any  # uint32, number of steps of each cycle in the segment
    length: Any  # int32, number of annealing steps per cycle, capped at the largest int32
    excess: Any  # float32, number of annealing steps above that cap
    first_cycle: Any  # int32, index of the segment's first cycle


def _tabulate_segments(
    interval: int, multiplier: float, other_steps: int, num_cycles: int | None = None
) -> _Segments:
    """Tabulates the cycles up to the last count, one row for each run of equal lengths.

    The last of a limited number of cycles has its own row and never ends.
    """

    def length_of(cycle: int) -> int:
        # The cap prevents overflow in `round`. It exceeds every count, so positions do not change.
        return max(1, round(min(interval * multiplier**cycle, 2.0**100)))

    rows = []
    start, cycle = 0, 0
    last_cycle = _NUM_COUNTS if num_cycles is None else num_cycles - 1
    while start < _NUM_COUNTS and cycle <= last_cycle:
        length = length_of(cycle)
        cycle_steps = length + other_steps if cycle < last_cycle else _UINT32_MAX
        cycles_left = min(-(-(_NUM_COUNTS - start) // cycle_steps), max(1, last_cycle - cycle))
        num_equal = _count_equal(length_of, cycle, length, cycles_left)
        capped = min(length, _INT32_MAX)
        rows.append((start, min(cycle_steps, _UINT32_MAX), capped, length - capped, cycle))
        start += num_equal * cycle_steps
        cycle += num_equal
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
