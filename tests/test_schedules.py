"""The paper's two schedules: equal to their formulas, finite for ever, the same however called."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from loganneal_jax import (
    cyclical_cosine_schedule,
    cyclical_log_annealing_schedule,
    log_annealing_schedule,
    tabulate,
)

LAST = 2**31 - 1
PEAK, END, RESTART, DECAY = 0.1, 0.001, 0.08, 0.9
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
    "paper": cyclical_log_annealing_schedule(PEAK, END, **CYCLES),
    "base 10": cyclical_log_annealing_schedule(PEAK, END, **CYCLES, base=10.0, first_step=2.5),
    "normalised": cyclical_log_annealing_schedule(PEAK, END, **CYCLES, variant="normalised"),
    "cosine": cyclical_cosine_schedule(PEAK, END, **CYCLES),
}
# To one compiled function a schedule, one array of counts: compiling is what these tests cost.
COMPILED = {name: jax.jit(schedule) for name, schedule in SCHEDULES.items()}


def formula(name, peak, elapsed, period):
    """Equations (3) and (4) in float64, for one step of one cycle."""
    span = peak - END
    if name == "cosine":
        return END + 0.5 * span * (1 + np.cos(np.pi * elapsed / period))
    first_step = 2.5 if name == "base 10" else 1
    current = min(elapsed + first_step, period)
    if name == "normalised":
        return END + span * np.log(period / current) / np.log(period / first_step)
    base = 10.0 if name == "base 10" else 1 / span
    return abs(END + 0.5 * span * (1 + np.log(np.pi * period / current) / np.log(base)))


def expected(name, num_steps):
    """The whole schedule, one step after another: warmup, first decay, restarts."""
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
def test_equals_the_formula_computed_in_float64(name):
    values = COMPILED[name](jnp.arange(20000))
    np.testing.assert_allclose(values, expected(name, 20000), rtol=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_finite_at_every_step_of_a_long_run_and_at_its_extremes(name):
    chex.assert_tree_all_finite(COMPILED[name](jnp.arange(300_000)))
    starts = np.cumsum([WARMUP, FIRST] + [round(INTERVAL * MULTIPLIER**k) for k in range(42)])
    edges = [-(2**31), -1, 0, 2**24 + 1, LAST - 1, LAST]
    counts = np.concatenate([starts[starts < LAST] + d for d in (-1, 0, 1)] + [edges])
    values = COMPILED[name](counts.astype(np.int32))
    chex.assert_tree_all_finite(values)
    assert (values >= END * (1 - 1e-6)).all()
    # Eq. (4) passes its eta_max: the longest cycle starts at 1/2 (1 + log_b(pi T)) of its range.
    assert (values <= (PEAK if name in ("normalised", "cosine") else 1.0) * (1 + 1e-6)).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_same_eager_compiled_mapped_and_for_any_shape(name):
    counts = jnp.array([[0, 9, 10], [40, 60, 90], [1234, 2**24 + 1, LAST]])
    compiled = COMPILED[name](counts)
    assert compiled.dtype == jnp.float32
    assert compiled.shape == counts.shape
    np.testing.assert_allclose(SCHEDULES[name](counts), compiled, rtol=1e-6)
    mapped = jax.vmap(SCHEDULES[name])(counts.ravel())
    np.testing.assert_allclose(mapped, compiled.ravel(), rtol=1e-6)
    np.testing.assert_allclose(SCHEDULES[name](1234), compiled[2, 0], rtol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_traces_once(name):
    chex.clear_trace_counter()
    schedule = jax.jit(chex.assert_max_traces(SCHEDULES[name], n=1))
    for count in (0, 10, 40, 41, LAST):
        chex.assert_tree_all_finite(schedule(jnp.int32(count)))


class VariantsTest(chex.TestCase):
    """Each value equals the formula with jit, without it, and on every device under pmap."""

    @chex.variants(with_jit=True, without_jit=True, with_pmap=True)
    def test_every_schedule(self):
        @self.variant
        def values(counts):
            return {name: schedule(counts) for name, schedule in SCHEDULES.items()}

        counts = np.arange(0, 200, 7)
        for name, got in values(jnp.asarray(counts)).items():
            np.testing.assert_allclose(got, expected(name, 200)[counts], rtol=1e-5)


def test_log_annealing_ends_on_its_last_step_and_stays_there():
    paper = tabulate(log_annealing_schedule(PEAK, END, 10), 12)
    np.testing.assert_allclose(
        paper[np.array([0, 9, 11])], [0.124287, 0.075002, 0.075002], rtol=1e-5
    )
    normalised = tabulate(log_annealing_schedule(PEAK, END, 10, variant="normalised"), 12)
    assert normalised[0] == np.float32(PEAK)
    assert (normalised[9:] == np.float32(END)).all()
    assert (normalised[:9] > np.float32(END)).all()


def test_a_long_cycle_of_the_paper_starts_far_above_its_peak():
    np.testing.assert_allclose(log_annealing_schedule(PEAK, END, 3910)(0), 0.252042, rtol=1e-5)


def test_a_base_below_one_touches_zero_and_turns():
    values = np.asarray(tabulate(log_annealing_schedule(0.1, 0.0, 1000, base=0.1), 1000))
    # 1 + log_0.1(pi T / t) = 0 at t = pi T / 10.
    lowest = int(values.argmin())
    assert lowest == round(np.pi * 100) - 1
    assert (np.diff(values[: lowest + 1]) < 0).all()
    assert (np.diff(values[lowest + 1 :]) > 0).all()
    assert (values >= 0).all()


def test_without_restarts_the_end_is_held():
    for make in (cyclical_log_annealing_schedule, cyclical_cosine_schedule):
        values = make(PEAK, END, init_decay_steps=5)(jnp.array([5, 6, 1000, LAST]))
        assert (values == np.float32(END)).all()


def test_cycles_of_one_step_are_their_peak():
    schedule = cyclical_log_annealing_schedule(
        PEAK, END, init_decay_steps=1, restart_interval=1, variant="normalised"
    )
    assert (schedule(jnp.arange(5)) == np.float32(PEAK)).all()


def test_a_vanished_range_is_its_only_value():
    schedule = cyclical_log_annealing_schedule(
        PEAK, 0.05, init_decay_steps=4, restart_interval=4, restart_decay=0.5
    )
    # Peaks 0.1, 0.05, and then the end, which no peak goes under.
    np.testing.assert_allclose(schedule(jnp.arange(8, 100)), 0.05, rtol=2e-7)


@pytest.mark.parametrize(
    ("init_value", "end_value", "restart_value", "restart_decay"),
    [
        (0.1, 0.1, 0.1, 1.0),  # no range at all
        (0.0, 0.0, 0.0, 1.0),
        (0.1, 0.0, 0.1, 0.5),  # a range that halves until float32 has no more of it
        (1.0, 0.0, 4.0, 0.5),  # ranges of 1, where the paper's base is 1: refused if not traced
    ],
)
@pytest.mark.parametrize("variant", ["paper", "normalised"])
def test_a_vanishing_range_keeps_values_and_gradients_finite(
    variant, init_value, end_value, restart_value, restart_decay
):
    def value(values, count):
        schedule = cyclical_log_annealing_schedule(
            values["init_value"],
            values["end_value"],
            init_decay_steps=3,
            restart_interval=2,
            restart_value=values["restart_value"],
            restart_decay=values["restart_decay"],
            variant=variant,
        )
        return schedule(count)

    values = {
        "init_value": init_value,
        "end_value": end_value,
        "restart_value": restart_value,
        "restart_decay": restart_decay,
    }
    counts = jnp.array([0, 2, 3, 4, 5, 7, 100, 200, 250, 259, 263, 280, 300, 400, 10**6, LAST])
    both = jax.jit(jax.vmap(jax.value_and_grad(value), (None, 0)))(values, counts)
    chex.assert_tree_all_finite(both)
