"""Tests of the schedules with several phases: equality with formulas, optax, and PyTorch."""

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


def triangular(mode, amplitude, decay_rate=None):
    """Builds the comparison of a triangular schedule with half cycles of 8 steps."""

    def formula(step):
        cycle = np.floor(1 + step / (2 * 8))
        height = np.maximum(0, 1 - np.abs(step / 8 - 2 * cycle + 1))
        return END + (PEAK - END) * height * amplitude(step, cycle)

    return Comparison(
        la.triangular_schedule(END, PEAK, 8, mode=mode, decay_rate=decay_rate),
        formula,
        200,
        from_pytorch=lambda lr, sgd: lr.CyclicLR(
            sgd, END, PEAK, 8, mode=mode, gamma=decay_rate or 1.0, cycle_momentum=False
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
    "triangular": triangular("triangular", lambda step, cycle: 1.0),
    "triangular2": triangular("triangular2", lambda step, cycle: 2.0 ** (1 - cycle)),
    "exp_range": triangular("exp_range", lambda step, cycle: 0.99**step, 0.99),
}


@pytest.mark.parametrize(("name", "peer"), peers.pairs(COMPARISONS))
def test_schedule_matches_peer(name, peer):
    peers.assert_matches(COMPARISONS[name], peer)


def test_one_cycle_peaks_and_ends_one_step_later_than_in_pytorch():
    theirs = peers.pytorch_values(COMPARISONS["one cycle, PyTorch"].from_pytorch, 100)
    ours = np.asarray(la.tabulate(la.one_cycle_schedule(PEAK, 100), 101))
    assert (theirs.argmax(), ours.argmax()) == (29, 30)
    np.testing.assert_allclose([theirs[99], ours[100]], PEAK / 25e4, rtol=1e-6)
