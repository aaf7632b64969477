"""Tests of the cyclical schedules: formulas, finite values, cost, and equality with peers."""

import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from loganneal_jax import (
    cyclical_cosine_schedule,
    cyclical_log_annealing_schedule,
    log_annealing_schedule,
    tabulate,
    with_warmup,
)
from tests.loganneal_jax import peers
from tests.loganneal_jax.peers import END, PEAK, Comparison

LAST = 2**31 - 1
RESTART, DECAY = 0.08, 0.9
FIRST, INTERVAL, MULTIPLIER, WARMUP = 30, 20, 1.5, 10

CYCLES = {
    "init_decay_steps": FIRST,
    "restart_interval": INTERVAL,
    "restart_multiplier": MULTIPLIER,
    "restart_value": RESTART,
    "restart_decay": DECAY,
    "warmup_steps": WARMUP,
    "warmup_init_value": 0.002,
}
SCHEDULES = {
    "paper": cyclical_log_annealing_schedule(PEAK, END, **CYCLES, variant="paper"),
    "base 10": cyclical_log_annealing_schedule(
        PEAK, END, **CYCLES, variant="paper", base=10.0, first_step=2.5
    ),
    "normalized": cyclical_log_annealing_schedule(PEAK, END, **CYCLES),
    "cosine": cyclical_cosine_schedule(PEAK, END, **CYCLES),
}
# Compilation dominates the time of these tests, so compile each schedule once.
COMPILED = {name: jax.jit(schedule) for name, schedule in SCHEDULES.items()}

COMPARISONS = {
    "cosine with equal periods": Comparison(
        cyclical_cosine_schedule(PEAK, END, init_decay_steps=10, restart_interval=10),
        lambda step: peers.cosine(step % 10, 10),
        300,
        peers.sgdr(10, 1, 30),
        lambda lr, sgd: lr.CosineAnnealingWarmRestarts(sgd, 10, 1, END),
    ),
    "cosine": Comparison(
        cyclical_cosine_schedule(PEAK, END, init_decay_steps=100),
        lambda step: peers.cosine(step, 100),
        101,
        optax.cosine_decay_schedule(PEAK, 100, alpha=END / PEAK),
        lambda lr, sgd: lr.CosineAnnealingLR(sgd, 100, END),
    ),
    "cosine with warmup": Comparison(
        cyclical_cosine_schedule(
            PEAK, END, init_decay_steps=90, warmup_steps=10, warmup_init_value=0.01
        ),
        lambda step: peers.with_warmup(lambda t: peers.cosine(t, 90), step, 10, 0.01),
        101,
        optax.warmup_cosine_decay_schedule(0.01, PEAK, 10, 100, END),
        lambda lr, sgd: lr.SequentialLR(
            sgd, [lr.LinearLR(sgd, 0.1, 1.0, 10), lr.CosineAnnealingLR(sgd, 90, END)], [10]
        ),
    ),
}


def formula(name, peak, elapsed, period):
    """Evaluates eq. (3) or eq. (4) in float64 at one step of one cycle."""
    span = peak - END
    if name == "cosine":
        return END + 0.5 * span * (1 + np.cos(np.pi * elapsed / period))
    first_step = 2.5 if name == "base 10" else 1
    current = min(elapsed + first_step, period)
    if name == "normalized":
        return END + span * np.log(period / current) / np.log(period / first_step)
    base = 10.0 if name == "base 10" else 1 / span
    return abs(END + 0.5 * span * (1 + np.log(np.pi * period / current) / np.log(base)))


def expected(name, num_steps):
    """Evaluates the warmup, the first annealing, and the restarts step by step."""
    peaks, periods = [PEAK], [FIRST]
    while sum(periods) < num_steps:
        cycle = len(periods) - 1
        peaks.append(max(RESTART * DECAY**cycle, END))
        periods.append(max(1, round(INTERVAL * MULTIPLIER**cycle)))
    cycles = [
        formula(name, peak, elapsed, period)
        for peak, period in zip(peaks, periods, strict=True)
        for elapsed in range(period)
    ]
    warmup = 0.002 + (cycles[0] - 0.002) * np.arange(WARMUP) / WARMUP
    return np.concatenate([warmup, cycles])[:num_steps]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_equals_float64_formula(name):
    values = COMPILED[name](jnp.arange(20000))
    np.testing.assert_allclose(values, expected(name, 20000), rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_values_are_finite_at_every_step_and_at_extreme_counts(name):
    chex.assert_tree_all_finite(COMPILED[name](jnp.arange(300_000)))
    starts = np.cumsum([WARMUP, FIRST] + [round(INTERVAL * MULTIPLIER**k) for k in range(42)])
    edges = [-(2**31), -1, 0, 2**24 + 1, LAST - 1, LAST]
    counts = np.concatenate([starts[starts < LAST] + d for d in (-1, 0, 1)] + [edges])
    values = COMPILED[name](counts.astype(np.int32))
    chex.assert_tree_all_finite(values)
    assert (values >= END * (1 - 1e-6)).all()
    # Eq. (4) exceeds eta_max: the longest cycle starts at 1/2 (1 + log_b(pi T)) of its range.
    assert (values <= (PEAK if name in ("normalized", "cosine") else 1.0) * (1 + 1e-6)).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_eager_jit_and_vmap_agree_for_any_shape(name):
    counts = jnp.array([[0, 9, 10], [40, 60, 90], [1234, 2**24 + 1, LAST]])
    compiled = COMPILED[name](counts)
    assert compiled.dtype == jnp.float32
    assert compiled.shape == counts.shape
    np.testing.assert_allclose(SCHEDULES[name](counts), compiled, rtol=1e-6)
    mapped = jax.vmap(SCHEDULES[name])(counts.ravel())
    np.testing.assert_allclose(mapped, compiled.ravel(), rtol=1e-6)
    np.testing.assert_allclose(SCHEDULES[name](1234), compiled[2, 0], rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_jit_traces_once(name):
    chex.clear_trace_counter()
    schedule = jax.jit(chex.assert_max_traces(SCHEDULES[name], n=1))
    for count in (0, 10, 40, 41, LAST):
        chex.assert_tree_all_finite(schedule(jnp.int32(count)))


class VariantsTest(chex.TestCase):
    """Tests that values equal the formula with jit, without jit, and under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_schedules_equal_float64_formulas(self):
        @self.variant
        def values(counts):
            return {name: schedule(counts) for name, schedule in SCHEDULES.items()}

        counts = np.arange(0, 200, 7)
        for name, result in values(jnp.asarray(counts)).items():
            np.testing.assert_allclose(result, expected(name, 200)[counts], rtol=1e-5)


def test_log_annealing_ends_at_last_step_and_holds_its_value():
    paper = tabulate(log_annealing_schedule(PEAK, END, 10, variant="paper"), 12)
    np.testing.assert_allclose(
        paper[np.array([0, 9, 11])], [0.124287, 0.075002, 0.075002], rtol=1e-5
    )
    normalized = tabulate(log_annealing_schedule(PEAK, END, 10), 12)
    assert normalized[0] == np.float32(PEAK)
    assert (normalized[9:] == np.float32(END)).all()
    assert (normalized[:9] > np.float32(END)).all()


def test_paper_variant_starts_far_above_peak_in_long_cycle():
    schedule = log_annealing_schedule(PEAK, END, 3910, variant="paper")
    np.testing.assert_allclose(schedule(0), 0.252042, rtol=1e-5)


def test_default_variant_starts_at_peak_and_ends_at_end_value():
    for schedule in (
        log_annealing_schedule(PEAK, END, 3910),
        cyclical_log_annealing_schedule(PEAK, END, init_decay_steps=3910),
    ):
        assert schedule(0) == np.float32(PEAK)
        assert (schedule(jnp.array([3909, 3910, LAST])) == np.float32(END)).all()


def test_base_below_one_falls_to_zero_and_rises_again():
    values = np.asarray(
        tabulate(log_annealing_schedule(0.1, 0.0, 1000, variant="paper", base=0.1), 1000)
    )
    # 1 + log_0.1(pi T / t) = 0 at t = pi T / 10.
    lowest = int(values.argmin())
    assert lowest == round(np.pi * 100) - 1
    assert (np.diff(values[: lowest + 1]) < 0).all()
    assert (np.diff(values[lowest + 1 :]) > 0).all()
    assert (values >= 0).all()


def test_schedule_without_restarts_holds_end_value():
    for make in (cyclical_log_annealing_schedule, cyclical_cosine_schedule):
        values = make(PEAK, END, init_decay_steps=5)(jnp.array([5, 6, 1000, LAST]))
        assert (values == np.float32(END)).all()


def test_one_step_cycles_equal_peak():
    schedule = cyclical_log_annealing_schedule(PEAK, END, init_decay_steps=1, restart_interval=1)
    assert (schedule(jnp.arange(5)) == np.float32(PEAK)).all()


def test_cycles_with_zero_range_are_constant():
    schedule = cyclical_log_annealing_schedule(
        PEAK, 0.05, init_decay_steps=4, restart_interval=4, restart_decay=0.5, variant="paper"
    )
    # The peaks are 0.1, 0.05, and then end_value, which is their lower limit.
    np.testing.assert_allclose(schedule(jnp.arange(8, 100)), 0.05, rtol=2e-7)


@pytest.mark.parametrize(
    ("peak_value", "end_value", "restart_value", "restart_decay"),
    [
        (0.1, 0.1, 0.1, 1.0),  # the range is zero
        (0.0, 0.0, 0.0, 1.0),
        (0.1, 0.0, 0.1, 0.5),  # the range halves until it underflows in float32
        (1.0, 0.0, 4.0, 0.5),  # the default base is 1 in some cycles; an error unless traced
    ],
)
@pytest.mark.parametrize("variant", ["paper", "normalized"])
def test_values_and_gradients_are_finite_for_degenerate_ranges(
    variant, peak_value, end_value, restart_value, restart_decay
):
    def value(values, count):
        schedule = cyclical_log_annealing_schedule(
            values["peak_value"],
            values["end_value"],
            init_decay_steps=3,
            restart_interval=2,
            restart_value=values["restart_value"],
            restart_decay=values["restart_decay"],
            variant=variant,
        )
        return schedule(count)

    values = {
        "peak_value": peak_value,
        "end_value": end_value,
        "restart_value": restart_value,
        "restart_decay": restart_decay,
    }
    counts = jnp.array([0, 2, 3, 4, 5, 7, 100, 200, 250, 259, 263, 280, 300, 400, 10**6, LAST])
    both = jax.jit(jax.vmap(jax.value_and_grad(value), (None, 0)))(values, counts)
    chex.assert_tree_all_finite(both)


@pytest.mark.parametrize(("name", "peer"), peers.pairs(COMPARISONS))
def test_schedule_matches_peer(name, peer):
    peers.assert_matches(COMPARISONS[name], peer)


def test_cosine_holds_its_end_where_pytorch_rises_again():
    cosine = COMPARISONS["cosine"]
    theirs = peers.pytorch_values(cosine.from_pytorch, 201)
    np.testing.assert_allclose(theirs[[150, 200]], [(PEAK + END) / 2, PEAK], rtol=1e-9)
    assert (cosine.ours(jnp.array([150, 200])) == np.float32(END)).all()


def cyclic_cosine_decay_lr(step, interval, multiplier):
    """Evaluates CyclicCosineDecayLR at one step.

    It has 5 steps of warmup from 0.002, 20 steps of decay, and restarts at 0.05.
    """
    if step < 5:
        return peers.cosine(step, 5, 0.002, PEAK)
    if step < 25:
        return peers.cosine(step - 5, 20)
    step -= 25
    cycle, start = step // interval, step // interval * interval
    if multiplier != 1:
        cycle = math.floor(math.log(1 - (1 - multiplier) * step / interval, multiplier))
        start = interval * (1 - multiplier**cycle) / (1 - multiplier)
    return peers.cosine(step - start, interval * multiplier**cycle, 0.05)


def cosine_restarts(interval, multiplier):
    """Builds the schedule of `cyclic_cosine_decay_lr` without its warmup."""
    return cyclical_cosine_schedule(
        PEAK,
        END,
        init_decay_steps=20,
        restart_interval=interval,
        restart_multiplier=multiplier,
        restart_value=0.05,
    )


@pytest.mark.parametrize("multiplier", [1.0, 2.0])
def test_cyclical_cosine_matches_cyclic_cosine_decay_lr(multiplier):
    # Its warmup follows a cosine; the warmup of our factories is linear.
    ours = with_warmup(cosine_restarts(10, multiplier), 5, 0.002, warmup="cosine")
    expected = [cyclic_cosine_decay_lr(step, 10, multiplier) for step in range(95)]
    np.testing.assert_allclose(tabulate(ours, 95), expected, rtol=2e-6)


def test_fractional_cycle_lengths_are_rounded_so_that_every_cycle_starts_at_its_peak():
    # Its cycles of 5, 7.5, and 11.25 steps pass a peak between two steps, at step 37.5.
    theirs = [cyclic_cosine_decay_lr(step + 5, 5, 1.5) for step in (20, 25, 32, 33)]
    np.testing.assert_allclose(theirs[:2], 0.05, rtol=1e-12)
    between_peaks = [peers.cosine(7, 7.5, 0.05), peers.cosine(0.5, 11.25, 0.05)]
    np.testing.assert_allclose(theirs[2:], between_peaks, rtol=1e-12)
    # Our cycles have 5, 8, and 11 steps: round(7.5) is 8.
    ours = cosine_restarts(5, 1.5)(jnp.array([20, 25, 32, 33]))
    np.testing.assert_allclose(ours, [0.05, 0.05, peers.cosine(7, 8, 0.05), 0.05], rtol=2e-6)


def num_instructions(schedule):
    """Counts the instructions in the compiled program of one evaluation."""
    text = jax.jit(schedule).lower(jnp.int32(0)).compile().as_text()
    return len(re.findall(r"^\s+(?:ROOT )?%?[\w.-]+ = ", text, re.MULTILINE))


def test_cost_does_not_grow_with_number_of_restarts():
    def schedule(interval, multiplier):
        return cyclical_cosine_schedule(
            0.1,
            0.001,
            init_decay_steps=10,
            restart_interval=interval,
            restart_multiplier=multiplier,
        )

    # Within 2**31 steps: one restart, about a thousand, and a thousand with growing intervals.
    one = num_instructions(schedule(2**31 - 1, 1.0))
    assert num_instructions(schedule(2**31 // 1000, 1.0)) <= 1.2 * one
    few = num_instructions(schedule(2**30, 2.0))
    assert num_instructions(schedule(10, 1.017)) <= 1.2 * few


def test_program_is_twenty_times_smaller_than_that_of_optax_for_thousand_restarts():
    cycle = {"init_value": 0.1, "peak_value": 0.1, "warmup_steps": 0, "decay_steps": 10}
    # Compare uncompiled programs: compiling optax's, with a branch per restart, takes 10 seconds.
    theirs = jax.jit(optax.sgdr_schedule([cycle] * 1000)).lower(jnp.int32(0)).as_text()
    for make in (cyclical_cosine_schedule, cyclical_log_annealing_schedule):
        ours = make(0.1, 0.001, init_decay_steps=10, restart_interval=10, restart_multiplier=1.5)
        text = jax.jit(ours).lower(jnp.int32(0)).as_text()
        assert text.count(" = ") <= theirs.count(" = ") / 20
