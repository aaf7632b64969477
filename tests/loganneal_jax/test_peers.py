"""Tests that our schedules have the values of those of optax, PyTorch, timm, transformers, Keras.

The peers' values are recorded in peer_values.json, with the exact calls and versions. Where a peer
is installed, a second test checks that it still returns the recorded values.
"""

import pathlib

import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import loganneal_jax as la
from loganneal_jax import named, registry
from tests.loganneal_jax import peer_rows
from tests.loganneal_jax.peer_rows import ROWS

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PAIRS = [(row, library) for row in ROWS for library in row.peers]
IDS = [f"{row.behavior}-{library}" for row, library in PAIRS]
# Relative and absolute tolerances; the peak of each row is 0.1 or 1. Those of float64 peers are the
# errors of our float32 arithmetic, at most 3e-7 and 1e-9 with jax 0.10. optax and Keras compute
# `1 + cos` in float32, which cancels near the end.
TOLERANCES = {
    "PyTorch": (1e-6, 1e-9),
    "timm": (1e-6, 1e-9),
    "transformers": (1e-6, 1e-9),
    "optax": (1e-6, 2e-8),
    "Keras": (1e-6, 2e-8),
}


@pytest.mark.parametrize(("row", "library"), PAIRS, ids=IDS)
def test_our_values_equal_the_recorded_values_of_the_peer(row, library):
    rtol, atol = TOLERANCES[library]
    expected = peer_rows.recorded(row, library)
    assert len(expected) == row.num_steps
    np.testing.assert_allclose(peer_rows.ours(row), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("row", "library"), PAIRS, ids=IDS)
@pytest.mark.filterwarnings("ignore")  # of the peers
def test_recorded_values_are_those_of_the_installed_peer(row, library):
    pytest.importorskip(peer_rows.PACKAGES.get(library, library))
    values = peer_rows.theirs(row, library)
    # Keras and optax compute in float32, and other versions of JAX round differently.
    np.testing.assert_allclose(values, peer_rows.recorded(row, library), rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if not row.peers], ids=lambda row: row.behavior
)
def test_our_call_without_a_peer_is_finite(row):
    values = peer_rows.ours(row)
    assert np.isfinite(values).all()
    assert len(np.unique(values)) >= 10


def test_recording_contains_no_other_calls():
    for library in peer_rows.MODULES:
        calls = {peer_rows.key(row, library) for row in ROWS if library in row.peers}
        assert set(peer_rows.recording()[library]["values"]) == calls


def test_rows_are_distinct():
    assert len({row.behavior for row in ROWS}) == len(ROWS)
    assert len({row.ours for row in ROWS}) == len(ROWS)


def test_docs_contain_the_table_and_the_recorded_versions():
    text = (DOCS / "peers.md").read_text()
    assert peer_rows.table() in text, "run python -m tests.loganneal_jax.peer_rows"
    for library in peer_rows.MODULES:
        assert f"{library} {peer_rows.recording()[library]['version']}" in text


def test_docs_list_every_name_and_alias_of_make_schedule():
    text = (DOCS / "schedules.md").read_text()
    section = text[text.index("## Schedules by name") :].split("\n## ")[0]
    for name in (*named.SCHEDULES, *named.ALIASES):
        assert f'"{name}"' in section, name
    for name in named.SCHEDULES:
        (line,) = [line for line in section.splitlines() if line.startswith(f'| `"{name}"`')]
        for option in set(registry.options_of(name)) - {"warmup", "warmup_init_value"}:
            assert f"`{option}`" in line, (name, option)


def last_step(schedule, peak):
    """Returns the last step at which a schedule has its peak."""
    return int(np.flatnonzero(np.isclose(la.tabulate(schedule, 60), peak)).max())


def test_keras_applies_a_boundary_one_step_later_and_timm_one_step_earlier():
    keras = pytest.importorskip("keras.optimizers.schedules")
    ours = la.staircase_schedule(0.1, boundaries=[10])
    assert last_step(ours, 0.1) == 9
    assert last_step(keras.PiecewiseConstantDecay([10], [0.1, 0.01]), 0.1) == 10
    pytest.importorskip("timm.scheduler")
    row = peer_rows.Row("", "", {"timm": "MultiStepLRScheduler(sgd, [10], decay_rate=0.1)"})
    assert np.flatnonzero(peer_rows.theirs(row, "timm") == 0.1).max() == 8


@pytest.mark.parametrize("num_steps", [10, 41, 100])
def test_one_cycle_of_n_steps_in_pytorch_is_ours_of_n_minus_1(num_steps):
    call = f"OneCycleLR(sgd, 0.1, {num_steps}, pct_start=0.3)"
    pytest.importorskip("torch")
    theirs = peer_rows.theirs(peer_rows.Row("", "", {"PyTorch": call}, num_steps), "PyTorch")
    # PyTorch peaks between two steps, so compare with the two phases as they are.
    start, peak, end = 0.1 / 25, 0.3 * num_steps - 1, 0.1 / 25e4
    step = np.arange(num_steps)
    rising = start + (0.1 - start) * 0.5 * (1 - np.cos(np.pi * step / peak))
    falling = end + (0.1 - end) * 0.5 * (1 + np.cos(np.pi * (step - peak) / (num_steps - 1 - peak)))
    np.testing.assert_allclose(theirs, np.where(step <= peak, rising, falling), rtol=1e-9)
    if peak == int(peak):
        ours = la.one_cycle_schedule(0.1, num_steps - 1, pct_start=(peak + 0.5) / (num_steps - 1))
        np.testing.assert_allclose(la.tabulate(ours, num_steps), theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("make", [optax.contrib.prodigy, optax.contrib.dadapt_adamw])
def test_adaptive_optimizers_need_a_positive_first_rate(make):
    def train(schedule):
        optimizer = make(schedule)
        params = jnp.ones(3)
        state = optimizer.init(params)
        for _ in range(3):
            updates, state = optimizer.update(2 * params, state, params)
            params = optax.apply_updates(params, updates)
        return params

    constant = la.constant_schedule(1.0)
    assert np.isnan(train(la.with_warmup(constant, 10))).all()
    assert np.isfinite(train(la.with_warmup(constant, 10, warmup="1/n"))).all()
    assert np.isfinite(train(la.with_warmup(constant, 10, 1e-6))).all()
    # A rate of 0 does no harm later.
    assert np.isfinite(train(la.linear_decay_schedule(1.0, 0.0, 2))).all()


def test_keras_misplaces_a_restart_of_a_long_run():
    keras = pytest.importorskip("keras.optimizers.schedules")
    theirs = keras.CosineDecayRestarts(0.1, 10, t_mul=2.0, alpha=0.01)
    ours = la.restarts(la.shapes.cosine, 0.1, 0.001, restart_interval=10, restart_multiplier=2.0)
    assert float(theirs(81_910)) == pytest.approx(0.001)
    assert float(ours(81_910)) == np.float32(0.1)


def test_rex_equals_that_of_pytorch_optimizer():
    # pytorch_optimizer 4.1.0: the learning rate of SGD before each step with
    # `REXScheduler(sgd, 40, max_lr=0.1, min_lr=0.001)`. Its very first value is `min_lr`.
    recorded = {
        1: 0.09874683544303797,
        10: 0.08585714285714285,
        20: 0.067,
        30: 0.0406,
        39: 0.005829268292682932,
        40: 0.001,
        44: 0.001,
    }
    ours = la.rex_schedule(0.1, 0.001, 40)(np.array([*recorded]))
    np.testing.assert_allclose(ours, [*recorded.values()], rtol=1e-6)
