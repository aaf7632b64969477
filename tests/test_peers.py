"""Ours beside PyTorch's and optax's own, and beside timm's and CyclicCosineDecayLR's formulas.

Every row holds the formula in float64 too, so that what PyTorch computes is tested where it is not
installed. It is in no extra, because on Linux its package brings gigabytes of CUDA: for these tests
install its CPU build, torch==2.13.0, as pytorch.org says.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loganneal_jax as la
from loganneal_jax import shapes

PEAK, END = 0.1, 0.001


class Row(NamedTuple):
    ours: optax.Schedule
    formula: Callable[[np.ndarray], np.ndarray]
    steps: int  # for how long all agree
    in_optax: optax.Schedule | None = None
    in_torch: Callable[[Any, Any], Any] | None = None  # (torch.optim.lr_scheduler, optimizer)


def cosine(elapsed, period, peak=PEAK, end=END):
    return end + (peak - end) * 0.5 * (1 + np.cos(np.pi * elapsed / period))


def warmed(step, steps, start, after):
    """Linear warmup to what a formula begins with."""
    rise = start + (after(np.zeros(1)) - start) * step / steps
    return np.where(step < steps, rise, after(np.maximum(step - steps, 0)))


def sgdr(interval, multiplier, cycles):
    cycle = {"init_value": PEAK, "peak_value": PEAK, "warmup_steps": 0, "end_value": END}
    lengths = [interval * multiplier**k for k in range(cycles)]
    return optax.sgdr_schedule([{**cycle, "decay_steps": length} for length in lengths])


def doubling(step):
    """Cosine cycles of 10, 20, 40 .. steps: cycle k starts at 10 (2**k - 1)."""
    cycle = np.floor(np.log2(step / 10 + 1))
    return cosine(step - 10 * (2**cycle - 1), 10 * 2**cycle)


def triangle(step, half=8):
    cycle = np.floor(1 + step / (2 * half))
    return np.maximum(0, 1 - np.abs(step / half - 2 * cycle + 1)), cycle


def triangular(mode, amplitude, rate=None):
    def formula(step):
        height, cycle = triangle(step)
        return END + (PEAK - END) * height * amplitude(step, cycle)

    return Row(
        la.triangular_schedule(END, PEAK, 8, mode=mode, decay_rate=rate),
        formula,
        200,
        in_torch=lambda lr, sgd: lr.CyclicLR(
            sgd, END, PEAK, 8, mode=mode, gamma=rate or 1.0, cycle_momentum=False
        ),
    )


ROWS = {
    "cosine with doubling restarts": Row(
        la.restarts(shapes.cosine, PEAK, END, restart_interval=10, restart_multiplier=2),
        doubling,
        310,
        sgdr(10, 2, 5),
        lambda lr, sgd: lr.CosineAnnealingWarmRestarts(sgd, 10, 2, END),
    ),
    "cosine with equal restarts": Row(
        la.cyclical_cosine_schedule(PEAK, END, init_decay_steps=10, restart_interval=10),
        lambda step: cosine(step % 10, 10),
        300,
        sgdr(10, 1, 30),
        lambda lr, sgd: lr.CosineAnnealingWarmRestarts(sgd, 10, 1, END),
    ),
    "cosine": Row(
        la.cyclical_cosine_schedule(PEAK, END, init_decay_steps=100),
        lambda step: cosine(step, 100),
        101,
        optax.cosine_decay_schedule(PEAK, 100, alpha=END / PEAK),
        lambda lr, sgd: lr.CosineAnnealingLR(sgd, 100, END),
    ),
    "warmup and cosine": Row(
        la.cyclical_cosine_schedule(
            PEAK, END, init_decay_steps=90, warmup_steps=10, warmup_init_value=0.01
        ),
        lambda step: warmed(step, 10, 0.01, lambda t: cosine(t, 90)),
        101,
        optax.warmup_cosine_decay_schedule(0.01, PEAK, 10, 100, END),
        lambda lr, sgd: lr.SequentialLR(
            sgd, [lr.LinearLR(sgd, 0.1, 1.0, 10), lr.CosineAnnealingLR(sgd, 90, END)], [10]
        ),
    ),
    "multi-step": Row(
        la.staircase_schedule(PEAK, boundaries=[30, 60], decay_rate=0.1),
        lambda step: PEAK * 0.1 ** ((step >= 30).astype(float) + (step >= 60)),
        100,
        optax.piecewise_constant_schedule(PEAK, {30: 0.1, 60: 0.1}),
        lambda lr, sgd: lr.MultiStepLR(sgd, [30, 60], 0.1),
    ),
    "exponential": Row(
        la.exponential_decay_schedule(PEAK, END, 100),
        lambda step: PEAK * (END / PEAK) ** (step / 100),
        101,
        optax.exponential_decay(PEAK, 100, END / PEAK, end_value=END),
        lambda lr, sgd: lr.ExponentialLR(sgd, (END / PEAK) ** (1 / 100)),
    ),
    "linear": Row(
        la.linear_decay_schedule(PEAK, END, 100),
        lambda step: PEAK + (END - PEAK) * np.minimum(step / 100, 1),
        200,
        optax.linear_schedule(PEAK, END, 100),
        lambda lr, sgd: lr.LinearLR(sgd, 1.0, END / PEAK, 100),
    ),
    "polynomial": Row(
        la.anneal(lambda e, r: shapes.polynomial(e, r, 3.0), PEAK, 0.0, 100),
        lambda step: PEAK * (1 - np.minimum(step / 100, 1)) ** 3,
        200,
        optax.polynomial_schedule(PEAK, 0.0, 3, 100),
        lambda lr, sgd: lr.PolynomialLR(sgd, 100, 3.0),
    ),
    "constant with warmup": Row(
        la.with_warmup(optax.constant_schedule(PEAK), 10, 0.01),
        lambda step: warmed(step, 10, 0.01, lambda t: np.full(t.shape, PEAK)),
        50,
        optax.warmup_constant_schedule(0.01, PEAK, 10),
        lambda lr, sgd: lr.LinearLR(sgd, 0.1, 1.0, 10),
    ),
    "one cycle of optax": Row(
        la.one_cycle_schedule(PEAK, 100),
        lambda step: np.where(
            step < 30, cosine(step, 30, PEAK / 25, PEAK), cosine(step - 30, 70, PEAK, PEAK / 25e4)
        ),
        101,
        optax.cosine_onecycle_schedule(100, PEAK),
    ),
    # PyTorch counts from the first step to the last, not to the one after it: one step less of all.
    "one cycle of PyTorch": Row(
        la.one_cycle_schedule(PEAK, 99, pct_start=29.5 / 99),
        lambda step: np.where(
            step < 29, cosine(step, 29, PEAK / 25, PEAK), cosine(step - 29, 70, PEAK, PEAK / 25e4)
        ),
        100,
        in_torch=lambda lr, sgd: lr.OneCycleLR(sgd, PEAK, 100, cycle_momentum=False),
    ),
    "triangular": triangular("triangular", lambda step, cycle: 1.0),
    "triangular2": triangular("triangular2", lambda step, cycle: 2.0 ** (1 - cycle)),
    "exp_range": triangular("exp_range", lambda step, cycle: 0.99**step, 0.99),
}


def torch_values(make, num_steps):
    """The learning rates of PyTorch's optimizer, one step after another."""
    torch = pytest.importorskip("torch")
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    scheduler = make(torch.optim.lr_scheduler, sgd)
    values = []
    for step in range(num_steps):
        values.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if step + 1 < num_steps:
            scheduler.step()
    return np.array(values)


@functools.cache
def tables():
    """Ours and optax's values of every row, from one compiled program."""
    make = lambda row: [la.tabulate(s, row.steps) for s in (row.ours, row.in_optax) if s]  # noqa: E731
    return jax.jit(lambda: {name: make(row) for name, row in ROWS.items()})()


@pytest.mark.parametrize("name", ROWS)
def test_ours_is_the_formula_in_float64(name):
    expected = ROWS[name].formula(np.arange(ROWS[name].steps, dtype=float))
    np.testing.assert_allclose(tables()[name][0], expected, rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.in_optax])
def test_ours_is_optax(name):
    ours, theirs = tables()[name]
    # Ours is the more accurate of the two near zero, hence a tolerance relative to the peak.
    np.testing.assert_allclose(ours, theirs, atol=2e-8)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.in_torch])
def test_ours_is_pytorch(name):
    theirs = torch_values(ROWS[name].in_torch, ROWS[name].steps)
    np.testing.assert_allclose(tables()[name][0], theirs, rtol=2e-6, atol=1e-12)


def test_a_schedule_stepped_once_an_epoch_in_pytorch_is_held_per_epoch():
    theirs = torch_values(lambda lr, sgd: lr.LinearLR(sgd, 1.0, 0.01, 5), 7)
    ours = la.tabulate(la.per_epoch(la.linear_decay_schedule(PEAK, END, 5 * 40), 40), 7 * 40)
    np.testing.assert_allclose(ours, np.repeat(theirs, 40), rtol=2e-6)


def test_after_the_end_pytorch_goes_on_and_ours_is_held():
    rises = torch_values(ROWS["cosine"].in_torch, 201)
    np.testing.assert_allclose(rises[[150, 200]], [(PEAK + END) / 2, PEAK], rtol=1e-9)
    falls = torch_values(ROWS["exponential"].in_torch, 201)
    np.testing.assert_allclose(falls[[150, 200]], [1e-4, 1e-5], rtol=1e-9)
    for name in ("cosine", "exponential"):
        assert (ROWS[name].ours(jnp.array([150, 200])) == np.float32(END)).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda lr, sgd: lr.CosineAnnealingWarmRestarts(sgd, 10, 1.5),
        lambda lr, sgd: lr.LinearLR(sgd, 0.0, 1.0, 10),
    ],
    ids=["a multiplier that is not whole", "a warmup from zero"],
)
def test_pytorch_refuses_what_ours_takes(make):
    with pytest.raises(ValueError, match=r"T_mult|Starting"):
        torch_values(make, 1)


def test_after_the_last_cycle_optax_is_held_and_ours_restarts():
    np.testing.assert_allclose(sgdr(10, 2, 5)(310), END, rtol=1e-5)
    assert ROWS["cosine with doubling restarts"].ours(310) == np.float32(PEAK)


def test_one_cycle_peaks_and_ends_a_step_earlier_in_pytorch_than_in_optax():
    theirs = torch_values(ROWS["one cycle of PyTorch"].in_torch, 100)
    ours = np.asarray(la.tabulate(la.one_cycle_schedule(PEAK, 100), 101))
    assert (theirs.argmax(), ours.argmax()) == (29, 30)
    np.testing.assert_allclose([theirs[99], ours[100]], PEAK / 25e4, rtol=1e-6)


def timm_cosine(step, interval, multiplier, decay, warmup_steps, warmup_init, *, prefix):
    """timm's CosineLRScheduler for one step, from its documentation and source."""
    if step < warmup_steps:
        return warmup_init + step * (PEAK - warmup_init) / warmup_steps
    step -= warmup_steps if prefix else 0
    if multiplier == 1:
        cycle, start = step // interval, step // interval * interval
    else:
        cycle = math.floor(math.log(1 - step / interval * (1 - multiplier), multiplier))
        start = (1 - multiplier**cycle) / (1 - multiplier) * interval
    return cosine(step - start, interval * multiplier**cycle, PEAK * decay**cycle)


@pytest.mark.parametrize("multiplier", [1.0, 2.0])
def test_cyclical_cosine_is_that_of_timm_with_its_warmup_before_it(multiplier):
    cycles = (10, multiplier, 0.5, 5, 0.01)
    ours = la.with_warmup(
        la.restarts(
            shapes.cosine, PEAK, END, restart_interval=10, restart_multiplier=multiplier,
            restart_decay=0.5,
        ),
        5,
        0.01,
    )  # fmt: skip
    values = np.asarray(la.tabulate(ours, 75))
    np.testing.assert_allclose(
        values, [timm_cosine(step, *cycles, prefix=True) for step in range(75)], rtol=2e-6
    )
    # By default timm's warmup hides the first steps of the cosine, and the peak is never reached.
    hidden = [timm_cosine(step, *cycles, prefix=False) for step in range(10)]
    assert values[5] == np.float32(PEAK)
    np.testing.assert_allclose(hidden[5:], cosine(np.arange(5, 10), 10), rtol=1e-12)
    assert max(hidden) < 0.9 * PEAK


def decay_lr(step, interval, multiplier):
    """CyclicCosineDecayLR for one step: 5 steps of warmup from 0.002, 20 of decay, cycles."""
    if step < 5:
        return cosine(step, 5, 0.002, PEAK)
    if step < 25:
        return cosine(step - 5, 20)
    step -= 25
    cycle, start = step // interval, step // interval * interval
    if multiplier != 1:
        cycle = math.floor(math.log(1 - (1 - multiplier) * step / interval, multiplier))
        start = interval * (1 - multiplier**cycle) / (1 - multiplier)
    return cosine(step - start, interval * multiplier**cycle, 0.05)


@pytest.mark.parametrize("multiplier", [1.0, 2.0])
def test_cyclical_cosine_with_an_initial_decay_has_the_parameters_of_the_paper(multiplier):
    decay = la.cyclical_cosine_schedule(
        PEAK, END, init_decay_steps=20, restart_interval=10, restart_multiplier=multiplier,
        restart_value=0.05,
    )  # fmt: skip
    # Its warmup is half a cosine; that of our factories is a line.
    ours = la.with_warmup(decay, 5, 0.002, warmup="cosine")
    expected = [decay_lr(step, 10, multiplier) for step in range(95)]
    np.testing.assert_allclose(la.tabulate(ours, 95), expected, rtol=2e-6)


def test_cycles_that_are_no_whole_steps_are_rounded_and_start_at_their_peak():
    ours = la.cyclical_cosine_schedule(
        PEAK, END, init_decay_steps=20, restart_interval=5, restart_multiplier=1.5,
        restart_value=0.05,
    )  # fmt: skip
    # Cycles of 5, 7.5 and 11.25 steps: theirs pass the peak between two steps, at 37.5.
    theirs = [decay_lr(step + 5, 5, 1.5) for step in (20, 25, 32, 33)]
    np.testing.assert_allclose(theirs[:2], 0.05, rtol=1e-12)
    np.testing.assert_allclose(
        theirs[2:], [cosine(7, 7.5, 0.05), cosine(0.5, 11.25, 0.05)], rtol=1e-12
    )
    # Ours are of 5, 8 and 11: round(7.5) is 8.
    np.testing.assert_allclose(
        ours(jnp.array([20, 25, 32, 33])), [0.05, 0.05, cosine(7, 8, 0.05), 0.05], rtol=2e-6
    )


def test_a_logarithm_misplaces_a_restart_which_a_table_does_not():
    # Cycles of 10, 30, .. 810 steps end at step 1210, where log_3(243) rounds to less than 5.
    assert timm_cosine(1210, 10, 3.0, 1.0, 0, 0.0, prefix=True) == pytest.approx(END)
    ours = la.restarts(shapes.cosine, PEAK, END, restart_interval=10, restart_multiplier=3.0)
    assert ours(1210) == np.float32(PEAK)
