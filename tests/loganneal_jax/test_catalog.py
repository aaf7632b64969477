"""Tests of the properties that every schedule in the catalog has."""

import functools
import json

import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import loganneal_jax
from loganneal_jax import tabulate
from tests.loganneal_jax.catalog import CASES, LAST, enable_x64, value_intervals

EXTREME_COUNTS = [-(2**31), -1, 0, 1, 2**24 - 1, 2**24, 2**24 + 1, LAST - 1, LAST]
NUM_COUNTS = 160


def counts_of(name, seed=0):
    """Returns the edges of a schedule and their neighbors, extreme counts, and random counts."""
    case = CASES[name]
    edges = [edge + d for edge in case.edges for d in (-1, 0, 1) if edge + d <= LAST]
    listed = [*EXTREME_COUNTS, *case.exact, *edges]
    generator = np.random.default_rng(seed)
    others = generator.integers(0, [100, 10**4, LAST], (NUM_COUNTS, 3)).ravel()
    return np.concatenate([listed, others])[:NUM_COUNTS].astype(np.int32)


def draw_values(name, seed):
    """Returns three rows of float32 values: those of the catalog, and two random draws."""
    generator = np.random.default_rng(seed)
    intervals = value_intervals(CASES[name])
    return {
        key: np.array([value, *generator.uniform(*intervals[key], 2)], np.float32)
        for key, value in CASES[name].values.items()
    }


def build(name, values):
    return CASES[name].make(**CASES[name].structure, **values)


@functools.cache
def traced(name):
    """Returns a function from (values, counts) to values and gradients of shape [row, count].

    It builds the schedule inside jit, grad, and vmap, and asserts that this happens only once.
    """
    traces = []

    def evaluate(values, count):
        traces.append(name)
        assert len(traces) == 1
        return build(name, values)(count)

    over_counts = jax.vmap(jax.value_and_grad(evaluate), (None, 0))
    return jax.jit(jax.vmap(over_counts, (0, None)))


@functools.cache
def compiled_values(shape=(NUM_COUNTS,)):
    """Evaluates every schedule of the catalog at its counts, in one compiled program."""
    schedules = {name: build(name, case.values) for name, case in CASES.items()}
    evaluate = jax.jit(lambda counts: {name: schedules[name](c) for name, c in counts.items()})
    return evaluate({name: counts_of(name).reshape(shape) for name in CASES})


@pytest.mark.parametrize("name", CASES)
@hypothesis.settings(max_examples=6, deadline=None, derandomize=True, database=None)
@hypothesis.given(seed=st.integers(0, 2**32 - 1))
def test_values_are_bounded_and_gradients_finite(name, seed):
    rows = draw_values(name, seed)
    counts = counts_of(name, seed)
    values, gradients = traced(name)(rows, counts)
    assert values.shape == (3, NUM_COUNTS)
    chex.assert_tree_all_finite((values, gradients))
    for row in range(3):
        low, high = CASES[name].bounds({key: float(drawn[row]) for key, drawn in rows.items()})
        assert values[row].min() >= low * (1 - 1e-6)
        assert values[row].max() <= high * (1 + 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_vmap_over_values_equals_python_loop(name):
    rows = draw_values(name, seed=7)
    counts = counts_of(name)
    mapped, _ = traced(name)(rows, counts)
    # Evaluate eagerly, and treat NaN and implicit dtype promotion as errors.
    with jax.debug_nans(True), jax.numpy_dtype_promotion("strict"):
        for row in range(2):
            schedule = build(name, {key: float(drawn[row]) for key, drawn in rows.items()})
            np.testing.assert_allclose(mapped[row], schedule(counts), rtol=2e-5, atol=1e-8)


@pytest.mark.parametrize("name", CASES)
def test_compiled_schedule_has_exact_values(name):
    exact = CASES[name].exact
    values = dict(zip(counts_of(name).tolist(), np.asarray(compiled_values()[name]), strict=True))
    assert {count: values[count] for count in exact} == {
        count: np.float32(value) for count, value in exact.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_counts_may_have_any_shape(name):
    block = compiled_values((4, 1, NUM_COUNTS // 4))[name]
    assert block.dtype == jnp.float32
    assert block.shape == (4, 1, NUM_COUNTS // 4)
    np.testing.assert_allclose(block.ravel(), compiled_values()[name], rtol=2e-6, atol=1e-9)


def test_pmap_equals_jit():
    schedules = {name: build(name, case.values) for name, case in CASES.items()}
    counts = {name: counts_of(name).reshape(8, -1) for name in CASES}
    mapped = jax.pmap(lambda c: {name: schedules[name](c[name]) for name in CASES})(counts)
    for name in CASES:
        np.testing.assert_allclose(
            mapped[name].ravel(), compiled_values()[name], rtol=2e-6, atol=1e-9
        )


@pytest.mark.parametrize("name", CASES)
def test_schedule_rebuilt_from_json_is_bitwise_equal(name):
    case = CASES[name]
    arguments = json.loads(json.dumps({**case.structure, **case.values}))
    counts = counts_of(name)
    schedule = build(name, case.values)
    first = np.asarray(schedule(counts))
    rebuilt = case.make(**arguments)
    np.testing.assert_array_equal(rebuilt(counts), first)
    # Schedules are pure: earlier calls do not affect later ones.
    schedule(np.flip(counts))
    np.testing.assert_array_equal(schedule(counts), first)
    np.testing.assert_allclose(first, compiled_values()[name], rtol=2e-6, atol=1e-9)


def test_catalog_contains_every_public_schedule():
    tested = {getattr(case.make, "func", case.make) for case in CASES.values()}
    public = {loganneal_jax.anneal, loganneal_jax.restarts} | {
        getattr(loganneal_jax, name)
        for name in loganneal_jax.__all__
        if name.endswith("_schedule")
        and name
        not in (
            "clip_schedule",
            "make_schedule",
            "repeat_schedule",
            "scale_schedule",
            "shift_schedule",
        )
    }
    assert public <= tested


def test_values_are_finite_at_every_step_of_long_run():
    schedules = {name: build(name, case.values) for name, case in CASES.items()}
    run = jax.jit(lambda: {name: tabulate(schedules[name], 50_000) for name in CASES})()
    chex.assert_tree_all_finite(run)


def test_values_are_float32_and_equal_with_64_bit_types_enabled():
    values = {
        name: {key: np.float64(np.float32(value)) for key, value in case.values.items()}
        for name, case in CASES.items()
    }
    counts = {name: counts_of(name).astype(np.int64) for name in CASES}
    with enable_x64():
        wide = jax.jit(lambda v, c: {name: build(name, v[name])(c[name]) for name in CASES})
        results = wide(values, counts)
    for name in CASES:
        assert results[name].dtype == jnp.float32, name
        np.testing.assert_allclose(results[name], compiled_values()[name], rtol=2e-5, atol=1e-8)
