"""Tests that positions in cycles equal those counted in exact Python integers."""

import fractions
import itertools
import math

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loganneal_jax import cycles

LAST = 2**31 - 1


def first_steps_and_lengths(interval, multiplier, extra=0, max_cycles=3000):
    """Returns the first step and the annealing length of each cycle up to the last count."""
    starts, lengths, start = [], [], 0
    for cycle in itertools.count():
        if start > LAST or cycle == max_cycles:
            return starts, lengths
        starts.append(start)
        lengths.append(max(1, round(interval * multiplier**cycle)))
        start += lengths[-1] + extra


def expected_position(starts, lengths, counts):
    cycle = np.searchsorted(np.array(starts), counts, side="right") - 1
    elapsed = counts - np.array(starts)[cycle]
    return cycle, elapsed, np.array(lengths, np.float64)[cycle] - elapsed


@pytest.mark.parametrize(
    ("interval", "multiplier"),
    [(1, 1.0), (81910, 1.0), (7, 1.0000001), (10, 1.1), (1210, 1.5), (1, 2.0), (81910, 2.0),
     (10, 3.0), (1210, 3.0), (7, 10.0), (1210, 0.5), (1000, 0.999), (10**9, 0.9), (10**9, 1.5)],
)  # fmt: skip
def test_cycles_start_on_exact_steps(interval, multiplier):
    starts, lengths = first_steps_and_lengths(interval, multiplier)
    near = np.array(sorted({s + d for s in starts for d in (-1, 0, 1)}), np.int64)
    counts = near[(near >= 0) & (near <= min(LAST, starts[-1]))]
    got = jax.jit(cycles.repeated(interval, multiplier))(counts.astype(np.int32))
    cycle, elapsed, remaining = expected_position(starts, lengths, counts)
    np.testing.assert_array_equal(got.cycle, cycle)
    # The exact integer is rounded once, so the values are bitwise equal at any size.
    np.testing.assert_array_equal(got.elapsed, elapsed.astype(np.float32))
    np.testing.assert_allclose(got.remaining, remaining.astype(np.float32), rtol=2e-7)


@pytest.mark.parametrize("multiplier", [2.0, 3.0, 10.0])
def test_last_count_has_correct_cycle_length(multiplier):
    starts, _ = first_steps_and_lengths(7, multiplier)
    got = cycles.repeated(7, multiplier)(LAST)
    assert got.cycle == len(starts) - 1
    period = float(got.elapsed) + float(got.remaining)
    np.testing.assert_allclose(period, 7 * multiplier ** (len(starts) - 1), rtol=1e-6)


def test_last_steps_of_cycle_longer_than_2_to_the_24_are_distinct():
    period = 2**24 + 3
    position = cycles.repeated(period, 1.0)(jnp.arange(period - 3, period + 2))
    np.testing.assert_array_equal(position.remaining[:3], [3, 2, 1])
    np.testing.assert_array_equal(position.elapsed[3:], [0, 1])


def test_every_cycle_includes_warmup_and_hold():
    position = cycles.repeated(4, 0.5, warmup_steps=2, hold_steps=1)(jnp.arange(12))
    np.testing.assert_array_equal(position.cycle, [0] * 7 + [1] * 5)
    np.testing.assert_array_equal(position.warmup_elapsed, [0, 1, 2, 2, 2, 2, 2, 0, 1, 2, 2, 2])
    np.testing.assert_array_equal(position.elapsed, [0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 1, 2])
    np.testing.assert_array_equal(position.remaining, [4, 4, 4, 3, 2, 1, 0, 2, 2, 2, 1, 0])


@pytest.mark.parametrize(
    "extra", [{"hold_steps": LAST}, {"warmup_steps": LAST, "hold_steps": LAST}]
)
def test_cycle_longer_than_any_count_never_ends(extra):
    position = cycles.repeated(LAST, 1.0, **extra)(LAST)
    assert position.cycle == 0
    assert cycles.repeated(LAST, 2.0)(LAST).cycle == 1


def test_counts_are_clamped_and_keep_their_shape():
    elapsed, remaining = cycles.single(jnp.array([[-(2**31), -1], [5, LAST]]), 4)
    np.testing.assert_array_equal(elapsed, [[0, 0], [4, 4]])
    np.testing.assert_array_equal(remaining, [[4, 4], [0, 0]])
    position = cycles.repeated(4, 2.0)(jnp.array([[-1], [LAST]]))
    assert all(field.shape == (2, 1) for field in position)
    assert position.cycle[0, 0] == 0
    assert position.elapsed[0, 0] == 0


@pytest.mark.parametrize(
    ("interval", "multiplier"),
    [(1, 1 + 1e-15), (1, 1.0000001), (1, 1.00003), (10**9, 0.99999), (LAST, 1e308), (LAST, 1e-308),
     (30000, 1.00003), (1, 0.5), (100000, 0.99999)],
)  # fmt: skip
def test_table_is_small_for_any_number_of_cycles(interval, multiplier):
    """At most 2**16 distinct lengths fit into 2**31 steps, because n of them sum to n**2 / 2."""
    assert len(cycles._tabulate_segments(interval, multiplier, 0).start) <= 2**16
    assert cycles.repeated(interval, multiplier)(0).cycle == 0


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    interval=st.integers(1, 300),
    multiplier=st.sampled_from([0.5, 0.9, 1.0, 1.0001, 1.5, 2.0, 3.0]),
    warmup_steps=st.integers(0, 5),
    hold_steps=st.integers(0, 5),
    num_cycles=st.integers(1, 12),
)
def test_limited_cycles_equal_endless_ones_and_then_stay_at_the_end(
    interval, multiplier, warmup_steps, hold_steps, num_cycles
):
    phases = {"warmup_steps": warmup_steps, "hold_steps": hold_steps}
    lengths = [max(1, round(interval * multiplier**k)) for k in range(num_cycles)]
    end = sum(lengths) + num_cycles * (warmup_steps + hold_steps)
    generator = np.random.default_rng(interval)
    inside = np.append(generator.integers(0, end, 30), [0, end - 1])
    endless = cycles.repeated(interval, multiplier, **phases)
    limited = cycles.repeated(interval, multiplier, **phases, num_cycles=num_cycles)
    for got, expected in zip(limited(inside), endless(inside), strict=True):
        np.testing.assert_array_equal(got, expected)
    after = limited([end, end + 1, 2 * end, LAST])
    np.testing.assert_array_equal(after.cycle, [num_cycles - 1] * 4)
    np.testing.assert_array_equal(after.warmup_elapsed, [warmup_steps] * 4)
    np.testing.assert_array_equal(after.elapsed, [lengths[-1]] * 4)
    np.testing.assert_array_equal(after.remaining, [0] * 4)


@pytest.mark.parametrize(("interval", "num_cycles"), [(2, 2**30), (1000, 10**7)])
def test_limit_beyond_the_last_count_changes_nothing(interval, num_cycles):
    counts = [0, 1, 999, 1000, 2**24 + 1, LAST - 1, LAST]
    limited = cycles.repeated(interval, 1.0, num_cycles=num_cycles)(counts)
    for got, expected in zip(limited, cycles.repeated(interval, 1.0)(counts), strict=True):
        np.testing.assert_array_equal(got, expected)


@hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    numerator=st.integers(1, 1000),
    denominator=st.integers(1, 12),
    multiplier=st.sampled_from(["1", "1/2", "3/2", "2", "11/10"]),
    num_cycles=st.integers(1, 30),
)
def test_unrounded_cycles_start_where_exact_fractions_say(
    numerator, denominator, multiplier, num_cycles
):
    interval, ratio = fractions.Fraction(numerator, denominator), fractions.Fraction(multiplier)
    starts = list(itertools.accumulate((interval * ratio**k for k in range(num_cycles)), initial=0))
    ends, last = starts[1:], min(math.ceil(starts[-1]) + 2, LAST)
    edges = {math.ceil(start) + d for start in starts for d in (-1, 0, 1)}
    counts = sorted({count for count in edges | {0, last} if 0 <= count <= last})
    counts += [last] * (95 - len(counts))  # a fixed shape compiles once
    position = cycles.unrounded(float(interval), float(ratio), num_cycles)(counts)
    for i, count in enumerate(counts):
        cycle = max(k for k in range(num_cycles) if starts[k] <= count)
        assert position.cycle[i] == cycle
        elapsed = min(count, ends[cycle]) - starts[cycle]
        np.testing.assert_allclose(position.elapsed[i], float(elapsed), rtol=1e-6, atol=1e-6)
        remaining = float(ends[cycle] - starts[cycle] - elapsed)
        np.testing.assert_allclose(position.remaining[i], remaining, rtol=1e-6, atol=1e-6)
        if count >= ends[cycle]:
            assert position.remaining[i] == 0


def test_unrounded_cycles_of_integer_length_equal_rounded_ones():
    counts = np.arange(100)
    got = cycles.unrounded(8.0, 1.5, 3)(counts)
    expected = cycles.repeated(8, 1.5, num_cycles=3)(counts)
    for field in ("cycle", "elapsed", "remaining"):
        np.testing.assert_array_equal(getattr(got, field), getattr(expected, field))


def test_unrounded_cycles_beyond_the_last_count_are_never_reached():
    position = cycles.unrounded(2.0**31 / 3, 1.0, 6)([LAST - 1, LAST])
    np.testing.assert_array_equal(position.cycle, [2, 2])
    assert (position.remaining < 3).all()
