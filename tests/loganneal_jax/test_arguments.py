"""Tests that invalid arguments raise an error that names the argument and its value."""

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loganneal_jax as la
from loganneal_jax import shapes
from tests.loganneal_jax.catalog import CASES

CONSTANT = optax.constant_schedule(0.1)
CYCLIC = {"init_decay_steps": 10, "restart_interval": 10}
# (call, pattern that the error message must match)
INVALID_VALUES = [
    (lambda: la.log_annealing_schedule(0.1, 0.001, 0), "decay_steps must be .* got 0"),
    (lambda: la.log_annealing_schedule(0.1, 0.001, -5), "decay_steps must be .* got -5"),
    (lambda: la.log_annealing_schedule(0.1, 0.001, 1.5), "decay_steps must be .* got 1.5"),
    (lambda: la.log_annealing_schedule(0.1, 0.001, 2**31), "decay_steps must be .* got 2147483648"),
    (lambda: la.log_annealing_schedule(0.1, 0.2, 9), "end_value must not .*=0.1, got 0.2"),
    (lambda: la.log_annealing_schedule(np.nan, 0.0, 9), "peak_value must be finite.* got nan"),
    (lambda: la.log_annealing_schedule(np.inf, 0.0, 9), "peak_value must be finite.* got inf"),
    (lambda: la.log_annealing_schedule(1e39, 0.0, 9), "peak_value must be finite.* got 1e\\+39"),
    (lambda: la.log_annealing_schedule(10**400, 0.0, 9), "peak_value must be finite"),
    (lambda: la.log_annealing_schedule(0.1, -np.inf, 9), "end_value must be finite.* got -inf"),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, base=0.0), "base must be .* got 0"),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, base=-2.0), "base must be .* got -2"),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, base=1.0), "base must not be 1.* got 1"),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, base=1 + 1e-9), "base must not be 1"),
    (lambda: la.log_annealing_schedule(1.0, 0.0, 9), "peak_value - end_value must not be 1"),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, first_step=0), "first_step must be .* got 0"),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, variant="new"), "variant must .* got 'new'"),
    (
        lambda: la.log_annealing_schedule(np.array([0.1, 0.2]), 0.0, 9),
        r"peak_value must be a scalar, got an array of shape \(2,\)",
    ),
    (
        lambda: la.cyclical_log_annealing_schedule(0.1, 0.001, **CYCLIC, restart_value=1.001),
        "restart_value - end_value must not be 1",
    ),
    (
        lambda: la.cyclical_log_annealing_schedule(4.0, 0.0, **CYCLIC, restart_decay=0.5),
        "must not be 1, .* in cycle 2",
    ),
    (lambda: la.cyclical_cosine_schedule(0.0001, 0.001, **CYCLIC), "end_value must not be above"),
    (
        lambda: la.cyclical_cosine_schedule(0.1, 0.01, **CYCLIC, restart_value=0.001),
        "end_value must not be above restart_value=0.001, got 0.01",
    ),
    (
        lambda: la.cyclical_cosine_schedule(0.1, 0.0, **CYCLIC, restart_multiplier=0),
        "restart_multiplier must be above 0, got 0",
    ),
    (
        lambda: la.cyclical_cosine_schedule(0.1, 0.0, **CYCLIC, restart_multiplier=np.nan),
        "restart_multiplier must be finite.* got nan",
    ),
    (
        lambda: la.cyclical_cosine_schedule(0.1, 0.0, init_decay_steps=5, restart_multiplier=-1.0),
        "restart_multiplier must be above 0, got -1",
    ),
    (
        lambda: la.cyclical_cosine_schedule(0.1, 0.0, init_decay_steps=5, restart_interval=0),
        "restart_interval must be .* got 0",
    ),
    (
        lambda: la.cyclical_cosine_schedule(0.1, 0.0, **CYCLIC, restart_decay=1.5),
        "restart_decay must be at most 1, got 1.5",
    ),
    (
        lambda: la.cyclical_cosine_schedule(0.1, 0.0, **CYCLIC, warmup_steps=-1),
        "warmup_steps must be .* got -1",
    ),
    (
        lambda: la.trapezoid_schedule(0.1, 0.0, 10, warmup_steps=6, cooldown_steps=5),
        "warmup_steps .* at most total_steps=10, got 6 \\+ 5",
    ),
    (
        lambda: la.warmup_sigmoid_decay_schedule(0.1, 0.0, 10, warmup_steps=10),
        "warmup_steps must be less than total_steps=10, got 10",
    ),
    (
        lambda: la.warmup_staircase_schedule(0.1, boundaries=[5, 9], warmup_steps=5),
        r"boundaries must .* greater than 5, got \[5, 9\]",
    ),
    (lambda: la.staircase_schedule(0.1, boundaries=[9, 5]), r"boundaries must .* got \[9, 5\]"),
    (lambda: la.staircase_schedule(0.1, boundaries=[[1, 2]]), "boundaries must be one-dimensional"),
    (lambda: la.staircase_schedule(0.1, boundaries=[0]), r"boundaries\[0\] must be .* got 0"),
    (lambda: la.exponential_decay_schedule(0.1, 0.0, 10), "end_value must be .* got 0"),
    (lambda: la.one_cycle_schedule(0.1, 10, pct_start=1.0), "pct_start must be below 1, got 1"),
    (lambda: la.triangular_schedule(0.2, 0.1, 5), "init_value must not be above peak_value=0.1"),
    (lambda: la.triangular_schedule(0.0, 0.1, 5, mode="exp_range"), "decay_rate must be set"),
    (lambda: la.triangular_schedule(0.0, 0.1, 5, decay_rate=0.9), "decay_rate must be set"),
    (lambda: la.with_warmup(CONSTANT, 5, warmup="exponential"), "init_value must be above 0"),
    (lambda: la.chain_schedules([CONSTANT] * 3, [5, 5]), "boundaries must be strictly increasing"),
    (
        lambda: la.chain_schedules([CONSTANT], [5]),
        "schedules must have length 2, one more than boundaries, got length 1",
    ),
    (lambda: la.clip_schedule(CONSTANT, 0.2, 0.1), "min_value must not be above max_value=0.1"),
    (lambda: la.repeat_schedule(CONSTANT, 5, times=0), "times must be .* got 0"),
    (lambda: la.tabulate(CONSTANT, 0), "num_steps must be .* got 0"),
    (lambda: la.from_values([[0.1]]), r"values must have shape \[num_steps\].* got \(1, 1\)"),
    (lambda: la.from_values([]), r"values must have shape .* got \(0,\)"),
    (lambda: la.from_values([0.1, np.nan]), "values must be finite .* got nan at index 1"),
]
INVALID_TYPES = [
    (lambda: la.linear_decay_schedule("0.1", 0.0, 9), "init_value must be a real .* '0.1'"),
    (lambda: la.linear_decay_schedule(None, 0.0, 9), "init_value must be a real number, got None"),
    (lambda: la.linear_decay_schedule(0.1j, 0.0, 9), "init_value must be a real number"),
    (lambda: la.linear_decay_schedule(np.complex64(1), 0.0, 9), "init_value must be a real number"),
    (lambda: la.linear_decay_schedule([0.1], 0.0, 9), "init_value must be a real number"),
    (lambda: la.linear_decay_schedule(True, 0.0, 9), "init_value must be a real number, got True"),
    (lambda: la.linear_decay_schedule(0.1, 0.0, "9"), "decay_steps must be an int"),
    (lambda: la.linear_decay_schedule(0.1, 0.0, True), "decay_steps must be an int"),
    (lambda: la.staircase_schedule(0.1, boundaries=5), "boundaries must be a sequence"),
    (lambda: la.triangular_schedule(0.1, 0.2, 9, mode=1), "mode must be one of .* got 1"),
    (lambda: la.with_warmup(0.1, 5), "schedule must be a function, got 0.1"),
    (lambda: la.anneal("cosine", 0.1, 0.0, 5), "shape must be a function, got 'cosine'"),
    (lambda: la.from_values(["a"]), "values must be an array of numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), INVALID_VALUES)
def test_invalid_value_raises_value_error_that_names_it(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("call", "message"), INVALID_TYPES)
def test_invalid_type_raises_type_error_that_names_it(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_only_rank_and_dtype_of_traced_value_are_checked():
    def first_value(end_value):
        return la.linear_decay_schedule(0.1, end_value, 4)(4)

    # The value exceeds the peak, but it is unknown at trace time.
    np.testing.assert_allclose(jax.jit(first_value)(0.5), 0.5, rtol=1e-6)
    with pytest.raises(ValueError, match="end_value must be a scalar"):
        jax.jit(first_value)(jnp.zeros(3))
    with pytest.raises(TypeError, match="restart_multiplier must be a Python number"):
        jax.jit(lambda m: la.restarts(shapes.linear, 1.0, 0.0, restart_interval=2,
                                      restart_multiplier=m)(0))(2.0)  # fmt: skip


INVALID_OR_UNUSUAL = [
    *[np.nan, np.inf, -np.inf, -1, 0, 1, 2, 0.5, 1.5, 1e-45, 1e-30, 1e30, 1e39, -1e39],
    *[10**400, 2**31 - 1, 2**31, True, None, "x", b"x", [0.1], [3, 2], {}, object(), 1j],
    *[np.float64(0.3), np.int64(7), np.zeros(2), np.array(0.1), np.array("x"), np.array(None)],
    *[np.bool_(True), np.datetime64(1, "s"), jnp.float32(0.2), jnp.int32(5), jnp.bfloat16(0.25)],
]


@pytest.mark.parametrize("name", CASES)
@hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
@hypothesis.given(data=st.data())
def test_random_arguments_yield_finite_schedule_or_clear_error(name, data):
    case = CASES[name]
    kwargs = {**case.structure, **case.values}
    names = sorted(set(kwargs) - {"power"})
    changed = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    for key in changed:
        kwargs[key] = data.draw(st.sampled_from(INVALID_OR_UNUSUAL))
    try:
        schedule = case.make(**kwargs)
    except (ValueError, TypeError) as error:
        message = str(error)
        assert any(key in message for key in kwargs), message
        assert "must" in message
        assert message.endswith(".")
        assert "\n" not in message
    else:
        assert np.isfinite(schedule(np.array([-1, 0, 7, 2**31 - 1], np.int32))).all()
