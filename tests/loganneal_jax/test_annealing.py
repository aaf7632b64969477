"""Tests of anneal and restarts: exact restarts, and equality with optax, PyTorch, and timm."""

import math

import jax
import numpy as np
import optax
import pytest

import loganneal_jax as la
from loganneal_jax import shapes
from tests.loganneal_jax import peers
from tests.loganneal_jax.catalog import CASES, LAST
from tests.loganneal_jax.peers import END, PEAK, Comparison


def cosine_with_doubling_periods(step):
    """Evaluates cosine cycles of 10, 20, 40, ... steps. Cycle k starts at 10 (2**k - 1)."""
    cycle = np.floor(np.log2(step / 10 + 1))
    return peers.cosine(step - 10 * (2**cycle - 1), 10 * 2**cycle)


COMPARISONS = {
    "cosine with doubling periods": Comparison(
        la.restarts(shapes.cosine, PEAK, END, restart_interval=10, restart_multiplier=2),
        cosine_with_doubling_periods,
        310,
        peers.sgdr(10, 2, 5),
        lambda lr, sgd: lr.CosineAnnealingWarmRestarts(sgd, 10, 2, END),
    ),
    "three cycles, then the end": Comparison(
        la.restarts(shapes.cosine, PEAK, END, restart_interval=10, num_cycles=3),
        lambda step: np.where(step < 30, peers.cosine(step % 10, 10), END),
        60,
        peers.sgdr(10, 1, 3),
    ),
    "three growing cycles, then the end": Comparison(
        la.restarts(
            shapes.cosine, PEAK, END, restart_interval=10, restart_multiplier=2, num_cycles=3
        ),
        lambda step: np.where(step < 70, cosine_with_doubling_periods(step), END),
        150,
        peers.sgdr(10, 2, 3),
    ),
    "rising polynomial": Comparison(
        la.anneal(lambda e, r: shapes.polynomial(e, r, 3.0), END, PEAK, 100),
        lambda step: PEAK + (END - PEAK) * (1 - np.minimum(step / 100, 1)) ** 3,
        200,
        optax.polynomial_schedule(END, PEAK, 3, 100),
    ),
    "polynomial": Comparison(
        la.anneal(lambda e, r: shapes.polynomial(e, r, 3.0), PEAK, 0.0, 100),
        lambda step: PEAK * (1 - np.minimum(step / 100, 1)) ** 3,
        200,
        optax.polynomial_schedule(PEAK, 0.0, 3, 100),
        lambda lr, sgd: lr.PolynomialLR(sgd, 100, 3.0),
    ),
}


@pytest.mark.parametrize(("name", "peer"), peers.pairs(COMPARISONS))
def test_schedule_matches_peer(name, peer):
    peers.assert_matches(COMPARISONS[name], peer)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("restarts, mult")])
def test_restarts_fall_on_exact_steps(name):
    case = CASES[name]
    first_steps = case.edges[:25]
    counts = np.array([step + d for step in first_steps for d in (-1, 0, 1) if step + d <= LAST])
    schedule = jax.jit(case.make(**case.structure, **case.values))
    values = dict(zip(counts.tolist(), np.asarray(schedule(counts.astype(np.int32))), strict=True))
    # In cycles of millions of steps, the first few values are equal in float32.
    periods = np.diff(first_steps)
    distinguishable = [i + 1 for i, period in enumerate(periods) if 2 <= period < 2**20]
    assert len(distinguishable) >= 4
    for i in distinguishable:
        assert values[first_steps[i]] == np.float32(0.1)
        assert values[first_steps[i] - 1] < np.float32(0.1)
        assert values[first_steps[i - 1] + 1] < np.float32(0.1)


def test_schedule_restarts_after_the_last_cycle_of_optax():
    np.testing.assert_allclose(peers.sgdr(10, 2, 5)(310), END, rtol=1e-5)
    assert COMPARISONS["cosine with doubling periods"].ours(310) == np.float32(PEAK)


def test_pytorch_rejects_fractional_multiplier():
    with pytest.raises(ValueError, match="T_mult"):
        peers.pytorch_values(lambda lr, sgd: lr.CosineAnnealingWarmRestarts(sgd, 10, 1.5), 1)


def timm_cosine(step, interval, multiplier, decay, warmup_steps, warmup_init, *, prefix):
    """Evaluates timm's CosineLRScheduler at one step, from its documentation and source."""
    if step < warmup_steps:
        return warmup_init + step * (PEAK - warmup_init) / warmup_steps
    step -= warmup_steps if prefix else 0
    if multiplier == 1:
        cycle, start = step // interval, step // interval * interval
    else:
        cycle = math.floor(math.log(1 - step / interval * (1 - multiplier), multiplier))
        start = (1 - multiplier**cycle) / (1 - multiplier) * interval
    return peers.cosine(step - start, interval * multiplier**cycle, PEAK * decay**cycle)


@pytest.mark.parametrize("multiplier", [1.0, 2.0])
def test_cosine_restarts_match_timm_with_warmup_prefix(multiplier):
    arguments = (10, multiplier, 0.5, 5, 0.01)
    restarts = la.restarts(
        shapes.cosine,
        PEAK,
        END,
        restart_interval=10,
        restart_multiplier=multiplier,
        restart_decay=0.5,
    )
    values = np.asarray(la.tabulate(la.with_warmup(restarts, 5, 0.01), 75))
    expected = [timm_cosine(step, *arguments, prefix=True) for step in range(75)]
    np.testing.assert_allclose(values, expected, rtol=2e-6)
    # By default, timm's warmup replaces the first steps of the cosine, which never peaks.
    without_prefix = [timm_cosine(step, *arguments, prefix=False) for step in range(10)]
    assert values[5] == np.float32(PEAK)
    np.testing.assert_allclose(without_prefix[5:], peers.cosine(np.arange(5, 10), 10), rtol=1e-12)
    assert max(without_prefix) < 0.9 * PEAK


def test_restart_is_exact_where_a_logarithm_misplaces_it():
    # Cycles of 10, 30, ..., 810 steps end at step 1210, where log_3(243) rounds to less than 5.
    assert timm_cosine(1210, 10, 3.0, 1.0, 0, 0.0, prefix=True) == pytest.approx(END)
    ours = la.restarts(shapes.cosine, PEAK, END, restart_interval=10, restart_multiplier=3.0)
    assert ours(1210) == np.float32(PEAK)


@pytest.mark.parametrize("num_cycles", [1, 2, 3, 7])
def test_unrounded_cosine_matches_hard_restarts_of_transformers(num_cycles):
    """The formula is `get_cosine_with_hard_restarts_schedule_with_warmup` of transformers 4.57."""

    def factor(step):
        if step < 10:
            return step / 10
        progress = (step - 10) / (110 - 10)
        if progress >= 1:
            return 0.0
        return max(0.0, 0.5 * (1 + math.cos(math.pi * ((num_cycles * progress) % 1.0))))

    restarts = la.restarts(
        shapes.cosine,
        PEAK,
        0.0,
        restart_interval=100 / num_cycles,
        num_cycles=num_cycles,
        round_lengths=False,
    )
    ours = la.tabulate(la.with_warmup(restarts, 10), 150)
    expected = [PEAK * factor(step) for step in range(150)]
    np.testing.assert_allclose(ours, expected, rtol=2e-6, atol=2e-7 * PEAK)


@pytest.mark.parametrize(("multiplier", "decay"), [(1.5, 0.5), (1.1, 1.0), (2.0, 0.9)])
def test_unrounded_cosine_matches_timm_with_cycle_limit(multiplier, decay):
    restarts = la.restarts(
        shapes.cosine,
        PEAK,
        END,
        restart_interval=10,
        restart_multiplier=multiplier,
        restart_decay=decay,
        num_cycles=4,
        round_lengths=False,
    )
    end = 10 * (1 - multiplier**4) / (1 - multiplier)
    expected = [
        timm_cosine(step, 10, multiplier, decay, 0, 0.0, prefix=True) if step < end else END
        for step in range(200)
    ]
    np.testing.assert_allclose(la.tabulate(restarts, 200), expected, rtol=2e-6, atol=2e-7 * PEAK)


@pytest.mark.parametrize("shape", [shapes.linear, shapes.cosine, shapes.rex])
def test_rising_restarts_mirror_falling_ones(shape):
    cycles = {"restart_interval": 10, "restart_multiplier": 1.5, "warmup_steps": 3, "hold_steps": 2}
    falling = la.tabulate(la.restarts(shape, PEAK, END, **cycles, warmup_init_value=PEAK), 100)
    rising = la.tabulate(la.restarts(shape, END, PEAK, **cycles, warmup_init_value=END), 100)
    np.testing.assert_allclose(rising, PEAK + END - np.asarray(falling), atol=1e-7 * PEAK)
    assert rising[13] == np.float32(PEAK)
    assert rising[3] == rising[18] == np.float32(END)


def test_decaying_peaks_stop_at_the_end_from_both_sides():
    falling = la.restarts(shapes.linear, 0.4, 0.1, restart_interval=4, restart_decay=0.5)
    np.testing.assert_allclose(falling(np.arange(5) * 4), [0.4, 0.2, 0.1, 0.1, 0.1], rtol=1e-6)
    rising = la.restarts(shapes.linear, -0.4, -0.1, restart_interval=4, restart_decay=0.5)
    np.testing.assert_allclose(rising(np.arange(5) * 4), [-0.4, -0.2, -0.1, -0.1, -0.1], rtol=1e-6)
    for peak, end in ((0.4, 0.1), (-0.4, -0.1), (0.1, 0.4)):
        concrete = la.restarts(shapes.linear, peak, end, restart_interval=4, restart_decay=0.5)
        traced = jax.jit(
            lambda peak, end, count: la.restarts(
                shapes.linear, peak, end, restart_interval=4, restart_decay=0.5
            )(count)
        )
        np.testing.assert_allclose(traced(peak, end, np.arange(20)), concrete(np.arange(20)))
