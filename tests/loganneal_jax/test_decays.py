"""Tests of the decays: equality with their formulas, optax, and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loganneal_jax as la
from tests.loganneal_jax import peers
from tests.loganneal_jax.peers import END, PEAK, Comparison

COMPARISONS = {
    "linear": Comparison(
        la.linear_decay_schedule(PEAK, END, 100),
        lambda step: PEAK + (END - PEAK) * np.minimum(step / 100, 1),
        200,
        optax.linear_schedule(PEAK, END, 100),
        lambda lr, sgd: lr.LinearLR(sgd, 1.0, END / PEAK, 100),
    ),
    "exponential": Comparison(
        la.exponential_decay_schedule(PEAK, END, 100),
        lambda step: PEAK * (END / PEAK) ** (step / 100),
        101,
        optax.exponential_decay(PEAK, 100, END / PEAK, end_value=END),
        lambda lr, sgd: lr.ExponentialLR(sgd, (END / PEAK) ** (1 / 100)),
    ),
    "rising linear": Comparison(
        la.linear_decay_schedule(END, PEAK, 100),
        lambda step: END + (PEAK - END) * np.minimum(step / 100, 1),
        200,
        optax.linear_schedule(END, PEAK, 100),
    ),
    "rising exponential": Comparison(
        la.exponential_decay_schedule(END, PEAK, 100),
        lambda step: END * (PEAK / END) ** np.minimum(step / 100, 1),
        200,
        optax.exponential_decay(END, 100, PEAK / END, end_value=PEAK),
    ),
    "exponential range test": Comparison(
        la.exponential_decay_schedule(1e-6, PEAK, 100),
        lambda step: 1e-6 * (PEAK / 1e-6) ** np.minimum(step / 100, 1),
        200,
    ),
    "rising staircase": Comparison(
        la.staircase_schedule(END, boundaries=[30, 60], decay_rate=3.0),
        lambda step: END * 3.0 ** ((step >= 30).astype(float) + (step >= 60)),
        100,
        optax.piecewise_constant_schedule(END, {30: 3.0, 60: 3.0}),
        lambda lr, sgd: lr.LambdaLR(
            sgd, lambda step: END / PEAK * 3.0 ** ((step >= 30) + (step >= 60))
        ),
    ),
    # PyTorch counts repeated milestones with a Counter.
    "repeated milestones": Comparison(
        la.staircase_schedule(PEAK, boundaries=[30, 30, 60], decay_rate=0.5),
        lambda step: PEAK * 0.5 ** (2.0 * (step >= 30) + (step >= 60)),
        100,
        from_pytorch=lambda lr, sgd: lr.MultiStepLR(sgd, [30, 30, 60], 0.5),
    ),
    "staircase": Comparison(
        la.staircase_schedule(PEAK, boundaries=[30, 60], decay_rate=0.1),
        lambda step: PEAK * 0.1 ** ((step >= 30).astype(float) + (step >= 60)),
        100,
        optax.piecewise_constant_schedule(PEAK, {30: 0.1, 60: 0.1}),
        lambda lr, sgd: lr.MultiStepLR(sgd, [30, 60], 0.1),
    ),
}


@pytest.mark.parametrize(("name", "peer"), peers.pairs(COMPARISONS))
def test_schedule_matches_peer(name, peer):
    peers.assert_matches(COMPARISONS[name], peer)


def test_exponential_decay_holds_its_end_where_pytorch_continues_to_decay():
    exponential = COMPARISONS["exponential"]
    theirs = peers.pytorch_values(exponential.from_pytorch, 201)
    np.testing.assert_allclose(theirs[[150, 200]], [1e-4, 1e-5], rtol=1e-9)
    assert (exponential.ours(jnp.array([150, 200])) == np.float32(END)).all()


def test_inverse_sqrt_matches_published_formula():
    step = np.arange(1, 5000)
    ours = la.inverse_sqrt_schedule(0.1, warmup_steps=400)(jnp.asarray(step))
    expected = 0.1 * np.sqrt(400) * np.minimum(step**-0.5, step * 400**-1.5)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize(("timescale", "shift"), [(None, 0), (10_000, 0), (50, 25), (50, -20)])
@pytest.mark.parametrize("warmup_steps", [40, 1])
def test_inverse_sqrt_matches_big_vision(timescale, shift, warmup_steps):
    """The formula is `decay_type="rsqrt"` in big_vision's `utils.create_learning_rate_schedule`."""
    if timescale is None:
        timescale = 400
    step = np.arange(3000)
    in_decay = PEAK / np.sqrt(1 + (np.maximum(step - warmup_steps, 0) + shift) / timescale)
    in_warmup = PEAK / np.sqrt(1 + shift / timescale)
    expected = np.where(step >= warmup_steps, in_decay, in_warmup)
    expected = expected * np.minimum(1.0, step / warmup_steps)
    ours = la.inverse_sqrt_schedule(
        PEAK, warmup_steps=warmup_steps, timescale=timescale, shift=shift
    )
    np.testing.assert_allclose(ours(step), expected, rtol=2e-6)


@pytest.mark.parametrize("timescale", [None, 500])
def test_inverse_sqrt_matches_transformers(timescale):
    """The formula is `get_inverse_sqrt_schedule` of transformers 4.57."""
    step = np.arange(3000)
    shift = (timescale or 40) - 40
    decay = 1.0 / np.sqrt((np.maximum(step, 40) + shift) / (timescale or 40))
    expected = PEAK * np.where(step < 40, step / 40, decay)
    ours = la.inverse_sqrt_schedule(PEAK, warmup_steps=40, timescale=timescale)
    np.testing.assert_allclose(ours(step), expected, rtol=2e-6)


def test_inverse_sqrt_without_warmup_starts_at_peak():
    schedule = la.inverse_sqrt_schedule(PEAK, warmup_steps=0, timescale=100)
    assert schedule(0) == np.float32(PEAK)
    np.testing.assert_allclose(schedule(300), PEAK / 2, rtol=1e-6)


def test_rising_decays_end_exactly():
    for make in (la.linear_decay_schedule, la.exponential_decay_schedule, la.rex_schedule):
        schedule = make(END, PEAK, 41)
        assert schedule(0) == np.float32(END)
        assert (schedule(jnp.array([41, 42, 2**31 - 1])) == np.float32(PEAK)).all()
        assert (np.diff(la.tabulate(schedule, 41)) > 0).all()


def test_exponential_decay_with_traced_values_falls_and_rises():
    evaluate = jax.jit(
        jax.vmap(lambda a, b: la.tabulate(la.exponential_decay_schedule(a, b, 9), 12))
    )
    starts, ends = np.float32([PEAK, END, 0.05]), np.float32([END, PEAK, 0.05])
    x = np.minimum(np.arange(12) / 9, 1)
    expected = starts[:, None] * (ends / starts)[:, None] ** x
    np.testing.assert_allclose(evaluate(starts, ends), expected, rtol=2e-6)
    slope = jax.grad(lambda a, b: la.exponential_decay_schedule(a, b, 9)(4), (0, 1))
    for start, end in zip(starts, ends, strict=True):
        assert np.isfinite(slope(start, end)).all()


@pytest.mark.parametrize("boundaries", [[], [1], [1, 1, 1], list(range(1, 500))])
def test_staircase_of_any_number_of_boundaries_equals_formula(boundaries):
    schedule = la.staircase_schedule(PEAK, boundaries=boundaries)
    step = np.arange(600)
    passed = np.searchsorted(boundaries, step, side="right") if boundaries else 0 * step
    np.testing.assert_allclose(schedule(step), PEAK * 0.1**passed, rtol=2e-5, atol=1e-37)
