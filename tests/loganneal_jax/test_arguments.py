"""Tests that invalid arguments raise an error that names the argument and its value."""

import functools

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
PAPER = {"variant": "paper"}
LINEAR = {"shape": shapes.linear, "peak_value": 0.1, "end_value": 0.0, "restart_interval": 9}
# (call, pattern that the error message must match)
INVALID_VALUES = [
    (lambda: la.log_annealing_schedule(0.1, 0.001, 0), "decay_steps must be .* got 0"),
    (lambda: la.log_annealing_schedule(0.1, 0.001, -5), "decay_steps must be .* got -5"),
    (lambda: la.log_annealing_schedule(0.1, 0.001, 1.5), "decay_steps must be .* got 1.5"),
    (lambda: la.log_annealing_schedule(0.1, 0.001, 2**31), "decay_steps must be .* got 2147483648"),
    (lambda: la.log_annealing_schedule(0.1, 0.2, 9, **PAPER), "end_value must not .*=0.1, got 0.2"),
    (lambda: la.log_annealing_schedule(np.nan, 0.0, 9), "peak_value must be finite.* got nan"),
    (lambda: la.log_annealing_schedule(np.inf, 0.0, 9), "peak_value must be finite.* got inf"),
    (lambda: la.log_annealing_schedule(1e39, 0.0, 9), "peak_value must be finite.* got 1e\\+39"),
    (lambda: la.log_annealing_schedule(10**400, 0.0, 9), "peak_value must be finite"),
    (lambda: la.log_annealing_schedule(0.1, -np.inf, 9), "end_value must be finite.* got -inf"),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, base=0.0, **PAPER), "base must be .* got 0"),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, base=-2.0, **PAPER), "base must be .* got -2"),
    (
        lambda: la.log_annealing_schedule(0.1, 0.0, 9, base=1.0, **PAPER),
        "base must not be 1.* got 1",
    ),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, base=1 + 1e-9, **PAPER), "base must not be 1"),
    (
        lambda: la.log_annealing_schedule(1.0, 0.0, 9, **PAPER),
        "peak_value - end_value must not be 1",
    ),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, first_step=0), "first_step must be .* got 0"),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, variant="new"), "variant must .* got 'new'"),
    (
        lambda: la.log_annealing_schedule(np.array([0.1, 0.2]), 0.0, 9),
        r"peak_value must be a scalar, got an array of shape \(2,\)",
    ),
    (
        lambda: la.cyclical_log_annealing_schedule(
            0.1, 0.001, **CYCLIC, restart_value=1.001, **PAPER
        ),
        "restart_value - end_value must not be 1",
    ),
    (
        lambda: la.cyclical_log_annealing_schedule(4.0, 0.0, **CYCLIC, restart_decay=0.5, **PAPER),
        "must not be 1, .* in cycle 2",
    ),
    # The default base is 1 / range. Other schedules may rise.
    (
        lambda: la.cyclical_log_annealing_schedule(0.0001, 0.001, **CYCLIC, **PAPER),
        "end_value must not be above peak_value=0.0001, got 0.001",
    ),
    (
        lambda: la.cyclical_log_annealing_schedule(
            0.1, 0.01, **CYCLIC, **PAPER, restart_value=0.001
        ),
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
    (lambda: la.multiply_schedules(), "schedules must contain at least one"),
    (lambda: la.shift_schedule(CONSTANT, 2**31), "offset must be an int .* got 2147483648"),
    (lambda: la.linear_decay_schedule(0.1, 0.0, 1000.0), "decay_steps must be an int, got 1000.0"),
    (lambda: la.cyclical_cosine_schedule(0.1, 0.0, **CYCLIC, num_cycles=1), "num_cycles must be"),
    (
        lambda: la.restarts(**LINEAR, round_lengths=False),
        "num_cycles must be an int between 1 and 65536 if round_lengths is False, got None",
    ),
    (
        lambda: la.restarts(
            **(LINEAR | {"restart_interval": 0.5}), num_cycles=2, round_lengths=False
        ),
        "restart_interval must be at least 1, got 0.5",
    ),
    (
        lambda: la.restarts(**(LINEAR | {"restart_interval": 7.5})),
        "restart_interval must be an int",
    ),
    (lambda: la.staircase_schedule(1e29, boundaries=[1, 2], decay_rate=10.0), "init_value .* must"),
    (lambda: la.staircase_schedule(1.0, boundaries=[1, 2], decay_rate=1e20), "decay_rate must not"),
    (lambda: la.inverse_sqrt_schedule(0.1, warmup_steps=0), "timescale must be set"),
    (
        lambda: la.inverse_sqrt_schedule(0.1, warmup_steps=5, shift=-5),
        "shift must be above -timescale=-5.0, got -5",
    ),
    (
        lambda: la.one_cycle_schedule(0.1, 10, pct_final=0.3),
        "pct_final must be above pct_start=0.3",
    ),
    (lambda: la.one_cycle_schedule(0.1, 10, pct_final=1.0), "pct_final must be .* below 1"),
    (lambda: la.triangular_schedule(0.0, 0.1), "half_cycle_steps, or both .* must be set"),
    (lambda: la.triangular_schedule(0.0, 0.1, 5, up_steps=3), "half_cycle_steps, or both"),
    (lambda: la.triangular_schedule(0.0, 0.1, up_steps=3), "half_cycle_steps, or both"),
    (lambda: la.tabulate(CONSTANT, 0), "num_steps must be .* got 0"),
    (lambda: la.from_values([[0.1]]), r"values must have shape \[num_steps\].* got \(1, 1\)"),
    (lambda: la.from_values([]), r"values must have shape .* got \(0,\)"),
    (lambda: la.from_values([0.1, np.nan]), "values must be finite .* got nan at index 1"),
]
FIVE_STEPS = {"init_decay_steps": 5}
# Arguments that could have no effect: (call, name of the argument, what it needs)
IGNORED = [
    *[
        (functools.partial(make, 0.1, 0.0, **FIVE_STEPS, **{name: value}), name, "restart_interval")
        for make in (la.cyclical_cosine_schedule, la.cyclical_log_annealing_schedule)
        for name, value in [
            ("restart_multiplier", 2.0),
            ("restart_value", 0.05),
            ("restart_decay", 0.5),
            ("num_cycles", 3),
        ]
    ],
    *[
        (
            functools.partial(make, 0.1, 0.0, **CYCLIC, num_cycles=2, **{name: 0.5}),
            name,
            "num_cycles of at least 3",
        )
        for make in (la.cyclical_cosine_schedule, la.cyclical_log_annealing_schedule)
        for name in ("restart_multiplier", "restart_decay")
    ],
    *[
        (call, "warmup_init_value", "warmup_steps of at least 1")
        for call in (
            lambda: la.cyclical_cosine_schedule(0.1, 0.0, **CYCLIC, warmup_init_value=0.01),
            lambda: la.cyclical_log_annealing_schedule(0.1, 0.0, **CYCLIC, warmup_init_value=0.01),
            lambda: la.restarts(**LINEAR, warmup_init_value=0.01),
            lambda: la.trapezoid_schedule(
                0.1, 0.0, 9, warmup_steps=0, cooldown_steps=5, warmup_init_value=0.01
            ),
            lambda: la.warmup_sigmoid_decay_schedule(
                0.1, 0.0, 9, warmup_steps=0, warmup_init_value=0.01
            ),
            lambda: la.warmup_staircase_schedule(
                0.1, boundaries=[3], warmup_steps=0, warmup_init_value=0.01
            ),
            lambda: la.inverse_sqrt_schedule(
                0.1, warmup_steps=0, timescale=5, warmup_init_value=0.01
            ),
        )
    ],
    (lambda: la.with_warmup(CONSTANT, 0, 0.01), "init_value", "warmup_steps"),
    (lambda: la.with_warmup(CONSTANT, 0, warmup="cosine"), "warmup", "warmup_steps"),
    (
        lambda: la.trapezoid_schedule(
            0.1, 0.0, 9, warmup_steps=2, cooldown_steps=0, cooldown="cosine"
        ),
        "cooldown",
        "cooldown_steps of at least 1",
    ),
    (lambda: la.log_annealing_schedule(0.1, 0.0, 9, base=10.0), "base", 'variant="paper"'),
    (
        lambda: la.cyclical_log_annealing_schedule(0.1, 0.0, **CYCLIC, base=10.0),
        "base",
        'variant="paper"',
    ),
    (
        lambda: la.restarts(**LINEAR, num_cycles=1, restart_multiplier=2.0),
        "restart_multiplier",
        "num_cycles of at least 2",
    ),
    (
        lambda: la.restarts(**LINEAR, num_cycles=1, restart_decay=0.5),
        "restart_decay",
        "num_cycles of at least 2",
    ),
    (
        lambda: la.restarts(**LINEAR, num_cycles=2, round_lengths=False, warmup_steps=3),
        "warmup_steps",
        "round_lengths=True",
    ),
    (
        lambda: la.restarts(**LINEAR, num_cycles=2, round_lengths=False, hold_steps=3),
        "hold_steps",
        "round_lengths=True",
    ),
    (
        lambda: la.staircase_schedule(0.1, boundaries=[], decay_rate=0.5),
        "decay_rate",
        "at least one boundary",
    ),
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
    (lambda: la.with_warmup(0.1, 5), "schedule must be a function of the step count, got 0.1"),
    (lambda: la.anneal("cosine", 0.1, 0.0, 5), "shape must be a function of .* got 'cosine'"),
    (lambda: la.from_values(["a"]), "values must be an array of numbers"),
    (
        lambda: la.with_warmup(la.linear_decay_schedule, 5),
        r"if it is a factory, pass what it returns: linear_decay_schedule\(\.\.\.\)",
    ),
    (lambda: la.with_warmup(la.from_values, 5), "schedule must be .* what it returns: from_values"),
    (lambda: la.scale_schedule(optax.linear_schedule, 5), "what it returns: linear_schedule"),
    (lambda: la.anneal(la.anneal, 0.1, 0.0, 5), "shape must be .* what it returns: anneal"),
    (lambda: la.anneal(CONSTANT, 0.1, 0.0, 5), "shape must be a function of the elapsed and rem"),
    (lambda: la.chain_schedules([la.rex_schedule] * 2, [5]), r"schedules\[0\] must be .* rex_sch"),
    (lambda: la.chain_schedules(CONSTANT, [5]), "schedules must be a sequence of schedules, got"),
    (lambda: la.staircase_schedule(0.1, boundaries="35"), "boundaries must be a sequence"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), INVALID_VALUES)
def test_invalid_value_raises_value_error_that_names_it(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("call", "message"), INVALID_TYPES)
def test_invalid_type_raises_type_error_that_names_it(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(("call", "name", "needs"), IGNORED)
def test_argument_without_effect_raises_value_error(call, name, needs):
    message = f"^{name} must be left at its default, .* no effect without {needs}.*, got .*"
    with pytest.raises(ValueError, match=message):
        call()


def test_traced_argument_without_effect_raises_value_error():
    with pytest.raises(ValueError, match="warmup_init_value must be left at its default"):
        jax.jit(lambda v: la.restarts(**LINEAR, warmup_init_value=v)(0))(0.0)


def test_defaults_may_be_passed_explicitly_where_they_have_no_effect():
    schedule = la.cyclical_cosine_schedule(
        0.1,
        0.0,
        init_decay_steps=5,
        restart_interval=None,
        restart_multiplier=1,
        restart_value=None,
        restart_decay=np.float32(1.0),
        num_cycles=None,
        warmup_steps=0,
        warmup_init_value=0,
    )
    assert schedule == la.cyclical_cosine_schedule(0.1, 0.0, init_decay_steps=5)


@pytest.mark.parametrize("convert", [int, np.int32, np.uint8, jnp.int32, np.array, jnp.array])
def test_integer_scalars_of_numpy_and_jax_are_steps(convert):
    assert la.linear_decay_schedule(0.1, 0.0, convert(10))(10) == 0.0
    assert la.shift_schedule(CONSTANT, convert(5))(0) == np.float32(0.1)
    assert la.staircase_schedule(0.1, boundaries=[convert(3)], decay_rate=0.5)(3) == np.float32(
        0.05
    )


@pytest.mark.parametrize("convert", [list, tuple, np.array, jnp.array, lambda b: np.array(b, "u1")])
def test_boundaries_may_be_any_sequence_of_integers(convert):
    expected = la.staircase_schedule(0.1, boundaries=[3, 5])
    np.testing.assert_array_equal(
        la.staircase_schedule(0.1, boundaries=convert([3, 5]))(np.arange(9)), expected(np.arange(9))
    )
    chained = la.chain_schedules([CONSTANT] * 3, convert([3, 5]))
    assert chained(4) == np.float32(0.1)


def test_traced_steps_raise_type_error():
    with pytest.raises(TypeError, match="decay_steps must be a Python number"):
        jax.jit(lambda n: la.linear_decay_schedule(0.1, 0.0, n)(0))(5)
    with pytest.raises(TypeError, match="boundaries must be a Python number"):
        jax.jit(lambda b: la.staircase_schedule(0.1, boundaries=b)(0))(jnp.array([3, 5]))


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
