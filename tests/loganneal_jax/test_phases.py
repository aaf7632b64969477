"""Tests of the schedules with several phases: equality with formulas and exact values."""

import numpy as np
import pytest

import loganneal_jax as la
from loganneal_jax.phases import COOLDOWNS
from tests.loganneal_jax.peers import END, PEAK

COOLDOWN_FORMULAS = {
    "linear": lambda x: 1 - x,
    "1-sqrt": lambda x: 1 - np.sqrt(x),
    "cosine": lambda x: 0.5 * (1 + np.cos(np.pi * x)),
}


@pytest.mark.parametrize("cooldown", COOLDOWNS)
@pytest.mark.parametrize(("peak", "end"), [(PEAK, END), (END, PEAK)], ids=["falling", "rising"])
def test_trapezoid_equals_its_formula(cooldown, peak, end):
    schedule = la.trapezoid_schedule(
        peak, end, 50, warmup_steps=10, cooldown_steps=20, warmup_init_value=0.01, cooldown=cooldown
    )
    step = np.arange(70)
    fall = COOLDOWN_FORMULAS[cooldown](np.clip((step - 30) / 20, 0, 1))
    expected = np.where(step < 10, 0.01 + (peak - 0.01) * step / 10, end + (peak - end) * fall)
    # Rising values are accurate relative to the largest one.
    atol = 0.0 if peak > end else 1e-7 * PEAK
    np.testing.assert_allclose(la.tabulate(schedule, 70), expected, rtol=2e-6, atol=atol)


def test_trapezoid_without_plateau_or_cooldown():
    triangle = la.trapezoid_schedule(1.0, 0.0, 8, warmup_steps=4, cooldown_steps=4)
    np.testing.assert_allclose(
        la.tabulate(triangle, 10), [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0, 0], atol=1e-7
    )
    plateau = la.trapezoid_schedule(1.0, 0.0, 8, warmup_steps=4, cooldown_steps=0)
    np.testing.assert_allclose(la.tabulate(plateau, 10), [0, 0.25, 0.5, 0.75, *[1] * 6], atol=1e-7)


def test_warmup_staircase_counts_boundaries_from_step_zero():
    schedule = la.warmup_staircase_schedule(
        1.0, boundaries=[6, 6, 9], warmup_steps=4, decay_rate=0.5
    )
    np.testing.assert_array_equal(
        la.tabulate(schedule, 11), [0, 0.25, 0.5, 0.75, 1, 1, 0.25, 0.25, 0.25, 0.125, 0.125]
    )


def test_repeated_sigmoid_restarts_and_may_rise():
    falling = np.asarray(la.tabulate(la.repeated_sigmoid_schedule(PEAK, END, 10, repeats=3), 40))
    np.testing.assert_array_equal(falling[:10], falling[10:20])
    np.testing.assert_array_equal(falling[:10], falling[20:30])
    assert (falling[30:] == falling[30]).all()
    rising = np.asarray(la.tabulate(la.repeated_sigmoid_schedule(END, PEAK, 10, repeats=3), 40))
    np.testing.assert_allclose(rising, PEAK + END - falling, rtol=1e-6, atol=1e-7 * PEAK)
