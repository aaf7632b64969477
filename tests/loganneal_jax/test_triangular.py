"""Tests of triangular and one-cycle schedules: equality with formulas, optax, and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loganneal_jax as la
from tests.loganneal_jax import peers
from tests.loganneal_jax.peers import END, PEAK, Comparison


def one_cycle(step, warmup_steps):
    """Evaluates a cosine warmup followed by a cosine decay of 70 steps."""
    return np.where(
        step < warmup_steps,
        peers.cosine(step, warmup_steps, PEAK / 25, PEAK),
        peers.cosine(step - warmup_steps, 70, PEAK, PEAK / 25e4),
    )


def three_phases(step, first, second, last):
    """Evaluates three lines between the values of one cycle."""
    values = [PEAK / 25, PEAK, PEAK / 25, PEAK / 25e4]
    return np.interp(step, [0, first, second, last], values)


def three_cosines(step, first, second, last):
    """Evaluates three half cosines between the values of one cycle."""
    return np.select(
        [step < first, step < second],
        [
            peers.cosine(step, first, PEAK / 25, PEAK),
            peers.cosine(step - first, second - first, PEAK, PEAK / 25),
        ],
        peers.cosine(np.minimum(step, last) - second, last - second, PEAK / 25, PEAK / 25e4),
    )


def triangular(mode, amplitude, decay_rate=None, up=8, down=8):
    """Builds the comparison of a triangular schedule."""

    def formula(step):
        cycle = np.floor(1 + step / (up + down))
        x = step - (cycle - 1) * (up + down)
        height = np.where(x < up, x / up, (up + down - x) / down)
        return END + (PEAK - END) * height * amplitude(step, cycle)

    if up == down:
        ours = la.triangular_schedule(END, PEAK, up, mode=mode, decay_rate=decay_rate)
    else:
        ours = la.triangular_schedule(
            END, PEAK, up_steps=up, down_steps=down, mode=mode, decay_rate=decay_rate
        )
    return Comparison(
        ours,
        formula,
        200,
        from_pytorch=lambda lr, sgd: lr.CyclicLR(
            sgd, END, PEAK, up, down, mode=mode, gamma=decay_rate or 1.0, cycle_momentum=False
        ),
    )


COMPARISONS = {
    "one cycle, optax": Comparison(
        la.one_cycle_schedule(PEAK, 100),
        lambda step: one_cycle(step, 30),
        101,
        optax.cosine_onecycle_schedule(100, PEAK),
    ),
    # PyTorch ends at the last step, not one step after it, so its warmup is one step shorter.
    "one cycle, PyTorch": Comparison(
        la.one_cycle_schedule(PEAK, 99, pct_start=29.5 / 99),
        lambda step: one_cycle(step, 29),
        100,
        from_pytorch=lambda lr, sgd: lr.OneCycleLR(sgd, PEAK, 100, cycle_momentum=False),
    ),
    "linear one cycle, PyTorch": Comparison(
        la.one_cycle_schedule(PEAK, 99, pct_start=29.5 / 99, anneal_strategy="linear"),
        lambda step: np.interp(step, [0, 29, 99], [PEAK / 25, PEAK, PEAK / 25e4]),
        100,
        from_pytorch=lambda lr, sgd: lr.OneCycleLR(
            sgd, PEAK, 100, anneal_strategy="linear", cycle_momentum=False
        ),
    ),
    "three phases, optax": Comparison(
        la.one_cycle_schedule(PEAK, 100, pct_final=0.85, anneal_strategy="linear"),
        lambda step: three_phases(step, 30, 85, 100),
        150,
        optax.linear_onecycle_schedule(100, PEAK),
    ),
    "three phases, PyTorch": Comparison(
        la.one_cycle_schedule(
            PEAK, 99, pct_start=29.5 / 99, pct_final=58.5 / 99, anneal_strategy="linear"
        ),
        lambda step: three_phases(step, 29, 58, 99),
        100,
        from_pytorch=lambda lr, sgd: lr.OneCycleLR(
            sgd, PEAK, 100, anneal_strategy="linear", three_phase=True, cycle_momentum=False
        ),
    ),
    "three cosine phases, PyTorch": Comparison(
        la.one_cycle_schedule(PEAK, 99, pct_start=29.5 / 99, pct_final=58.5 / 99),
        lambda step: three_cosines(step, 29, 58, 99),
        100,
        from_pytorch=lambda lr, sgd: lr.OneCycleLR(
            sgd, PEAK, 100, three_phase=True, cycle_momentum=False
        ),
    ),
    "triangular": triangular("triangular", lambda step, cycle: 1.0),
    "triangular2": triangular("triangular2", lambda step, cycle: 2.0 ** (1 - cycle)),
    "exp_range": triangular("exp_range", lambda step, cycle: 0.99**step, 0.99),
    "short rise": triangular("triangular", lambda step, cycle: 1.0, None, 3, 41),
    "long rise": triangular("triangular2", lambda step, cycle: 2.0 ** (1 - cycle), None, 41, 3),
    "exp_range, unequal": triangular("exp_range", lambda step, cycle: 0.99**step, 0.99, 5, 12),
}


@pytest.mark.parametrize(("name", "peer"), peers.pairs(COMPARISONS))
def test_schedule_matches_peer(name, peer):
    peers.assert_matches(COMPARISONS[name], peer)


def test_one_cycle_peaks_and_ends_one_step_later_than_in_pytorch():
    theirs = peers.pytorch_values(COMPARISONS["one cycle, PyTorch"].from_pytorch, 100)
    ours = np.asarray(la.tabulate(la.one_cycle_schedule(PEAK, 100), 101))
    assert (theirs.argmax(), ours.argmax()) == (29, 30)
    np.testing.assert_allclose([theirs[99], ours[100]], PEAK / 25e4, rtol=1e-6)


@pytest.mark.parametrize(("up", "down"), [(1, 1), (41, 41), (1, 41), (41, 1), (49, 3), (3, 49)])
def test_triangle_is_exact_at_its_corners(up, down):
    schedule = jax.jit(la.triangular_schedule(END, PEAK, up_steps=up, down_steps=down))
    starts = np.arange(5) * (up + down)
    assert (schedule(starts) == np.float32(END)).all()
    assert (schedule(starts + up) == np.float32(PEAK)).all()


def test_falling_triangle_is_the_momentum_of_a_rising_one():
    falling = la.tabulate(la.triangular_schedule(0.95, 0.85, 8), 40)
    rising = la.tabulate(la.triangular_schedule(0.85, 0.95, 8), 40)
    np.testing.assert_allclose(np.asarray(falling) + np.asarray(rising), 1.8, rtol=1e-6)
    assert falling[0] == np.float32(0.95)
    assert falling[8] == np.float32(0.85)


def test_one_cycle_without_warmup_starts_at_peak():
    schedule = la.one_cycle_schedule(PEAK, 10, pct_start=0.0)
    assert schedule(0) == np.float32(PEAK)
    np.testing.assert_allclose(schedule(jnp.array([10, 99])), PEAK / 25e4, rtol=1e-6)
