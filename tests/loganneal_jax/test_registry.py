"""Tests that each named schedule equals the one built by hand, and that errors list choices."""

import inspect

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import loganneal_jax as la
from loganneal_jax import shapes, standard
from loganneal_jax.named import ALIASES, SCHEDULES
from loganneal_jax.range_test import range_test_schedule
from loganneal_jax.registry import make_schedule, options_of, resolve
from loganneal_jax.schedule import Schedule

# Name -> options, and the schedule of 100 steps with a peak of 0.1, 10 steps of warmup, and an end
# of 0.01 (or no end, if the schedule has none). `usual_case` makes the case of any other name.
CASES = {
    "constant": ({}, la.with_warmup(standard.constant_schedule(0.1), 10)),
    "cosine": (
        {"exponent": 2.0, "warmup": "cosine", "warmup_init_value": 0.02},
        la.with_warmup(
            standard.cosine_decay_schedule(0.1, 0.01, 90, exponent=2.0), 10, 0.02, warmup="cosine"
        ),
    ),
    "cosine_restarts": (
        {"restart_interval": 20, "restart_multiplier": 2.0, "num_cycles": 2},
        la.with_warmup(
            la.restarts(
                shapes.cosine,
                0.1,
                0.01,
                restart_interval=20,
                restart_multiplier=2.0,
                num_cycles=2,
            ),
            10,
        ),
    ),
    "cyclical_cosine": (
        {"init_decay_steps": 30, "restart_interval": 20},
        la.cyclical_cosine_schedule(
            0.1, 0.01, init_decay_steps=30, restart_interval=20, warmup_steps=10
        ),
    ),
    "cyclical_log_annealing": (
        {"init_decay_steps": 30, "warmup_init_value": 0.02},
        la.cyclical_log_annealing_schedule(
            0.1, 0.01, init_decay_steps=30, warmup_steps=10, warmup_init_value=0.02
        ),
    ),
    "exponential": ({}, la.with_warmup(la.exponential_decay_schedule(0.1, 0.01, 90), 10)),
    "inverse_sqrt": (
        {"timescale": 50},
        la.inverse_sqrt_schedule(0.1, warmup_steps=10, timescale=50),
    ),
    "inverse_time": (
        {"time_steps": 20, "decay_rate": 0.5},
        la.with_warmup(standard.inverse_time_schedule(0.1, 20, decay_rate=0.5), 10),
    ),
    "linear": ({}, la.with_warmup(la.linear_decay_schedule(0.1, 0.01, 90), 10)),
    "linear_to_zero": ({}, la.with_warmup(la.linear_decay_schedule(0.1, 0.0, 90), 10)),
    "log_annealing": (
        {"variant": "paper"},
        la.with_warmup(la.log_annealing_schedule(0.1, 0.01, 90, variant="paper"), 10),
    ),
    "log_step_size": ({}, la.with_warmup(la.log_step_size_schedule(0.1, 90), 10)),
    "one_cycle": (
        {"div_factor": 10.0},
        la.one_cycle_schedule(0.1, 100, pct_start=0.105, div_factor=10.0),
    ),
    "polynomial": (
        {"power": 3.0, "cycle": True},
        la.with_warmup(
            standard.polynomial_decay_schedule(0.1, 0.01, 90, power=3.0, cycle=True), 10
        ),
    ),
    "range_test": ({"min_value": 1e-4}, range_test_schedule(1e-4, 0.1, 100)),
    "repeated_sigmoid": (
        {"repeats": 3},
        la.with_warmup(la.repeated_sigmoid_schedule(0.1, 0.01, 30, repeats=3), 10),
    ),
    "rex": ({}, la.with_warmup(la.rex_schedule(0.1, 0.01, 90), 10)),
    "sigmoid": (
        {"slope": 4.0},
        la.with_warmup(la.sigmoid_decay_schedule(0.1, 0.01, 90, slope=4.0), 10),
    ),
    "staircase": (
        {"boundaries": [30, 60]},
        la.warmup_staircase_schedule(0.1, boundaries=[30, 60], warmup_steps=10),
    ),
    "step": (
        {"step_size": 40, "decay_rate": 0.5},
        la.with_warmup(la.staircase_schedule(0.1, boundaries=[40, 80], decay_rate=0.5), 10),
    ),
    "tanh": (
        {"lower": -6.0},
        la.with_warmup(standard.tanh_decay_schedule(0.1, 0.01, 90, lower=-6.0), 10),
    ),
    "trapezoid": (
        {"cooldown": "1-sqrt"},
        la.trapezoid_schedule(
            0.1, 0.01, 100, warmup_steps=10, cooldown_steps=20, cooldown="1-sqrt"
        ),
    ),
    "triangular": (
        {"half_cycle_steps": 8},
        la.with_warmup(la.triangular_schedule(0.01, 0.1, 8), 10),
    ),
    "triangular2": (
        {"up_steps": 8, "down_steps": 4},
        la.with_warmup(
            la.triangular_schedule(0.01, 0.1, mode="triangular2", up_steps=8, down_steps=4), 10
        ),
    ),
    "triangular_exp_range": (
        {"half_cycle_steps": 8, "decay_rate": 0.9},
        la.with_warmup(la.triangular_schedule(0.01, 0.1, 8, mode="exp_range", decay_rate=0.9), 10),
    ),
}


def usual_case(name):
    """Returns the case of a name that needs no options: its factory with the usual arguments."""
    parameters = inspect.signature(SCHEDULES[name]).parameters
    usual = {"decay_steps": 90, "total_steps": 100, "warmup_steps": 10, "end_value": 0.01}
    usual |= dict.fromkeys(("value", "init_value", "peak_value"), 0.1)
    own = {key: value for key, value in usual.items() if key in parameters}
    schedule = SCHEDULES[name](**own)
    return {}, schedule if "warmup_steps" in own else la.with_warmup(schedule, 10)


CASES |= {name: usual_case(name) for name in SCHEDULES if name not in CASES}
ENDLESS = {
    "constant",
    "inverse_sqrt",
    "inverse_time",
    "linear_to_zero",
    "log_step_size",
    "one_cycle",
    "range_test",
    "staircase",
    "step",
}
ENDLESS |= {
    name for name in CASES if "end_value" not in inspect.signature(SCHEDULES[name]).parameters
}


def run(name):
    """Returns the arguments of the run that a name supports."""
    arguments = {"peak_value": 0.1, "total_steps": 100}
    if name != "range_test":
        arguments["warmup_steps"] = 10
    return arguments if name in ENDLESS else {**arguments, "end_value": 0.01}


def test_every_name_is_tested_and_every_alias_stands_for_a_name():
    assert set(CASES) == set(SCHEDULES)
    assert set(ALIASES.values()) <= set(SCHEDULES)
    assert not set(ALIASES) & set(SCHEDULES)


@pytest.mark.parametrize("name", CASES)
def test_schedule_equals_the_one_built_by_hand(name):
    options, by_hand = CASES[name]
    schedule = make_schedule(name, **run(name), **options)
    assert isinstance(schedule, Schedule)
    assert schedule == by_hand


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - ENDLESS))
def test_end_fraction_is_relative_to_the_peak(name):
    options, _ = CASES[name]
    arguments = {**run(name), "peak_value": 0.5, "end_value": 0.125}
    by_value = make_schedule(name, **arguments, **options)
    arguments["end_value"] = 0.0
    assert make_schedule(name, **arguments, end_fraction=0.25, **options) == by_value
    arguments["end_value"] = 0.125
    with pytest.raises(ValueError, match="Set end_value or end_fraction"):
        make_schedule(name, **arguments, end_fraction=0.25, **options)


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_schedule_without_an_end_refuses_end_values(name):
    options, _ = CASES[name]
    for end in ({"end_value": 0.01}, {"end_fraction": 0.1}, {"end_fraction": 0.0}):
        with pytest.raises(ValueError, match=f"schedule '{name}' has no end value"):
            make_schedule(name, **run(name), **end, **options)


@pytest.mark.parametrize("name", CASES)
def test_unknown_option_lists_the_options(name):
    options, _ = CASES[name]
    with pytest.raises(ValueError, match="'no_such_option' is not an option") as error:
        make_schedule(name, **run(name), **options, no_such_option=1)
    assert all(option in str(error.value) for option in {*options, *options_of(name)})


@pytest.mark.parametrize("name", sorted(set(CASES) - {"one_cycle", "range_test"}))
def test_warmup_option_without_a_warmup_raises(name):
    options, _ = CASES[name]
    arguments = {**run(name), "warmup_steps": 0}
    options = {key: value for key, value in options.items() if key != "warmup"}
    with pytest.raises(ValueError, match="init_value must be left at its default"):
        make_schedule(name, **arguments, **{**options, "warmup_init_value": 0.02})


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("cyclical_cosine", "init_decay_steps"),
        ("inverse_time", "time_steps"),
        ("range_test", "min_value"),
        ("staircase", "boundaries"),
        ("step", "step_size"),
    ],
)
def test_missing_option_is_named(name, option):
    with pytest.raises(ValueError, match=f"needs the option '{option}'"):
        make_schedule(name, **run(name))


def test_unknown_name_lists_names_and_suggests_the_closest():
    with pytest.raises(
        ValueError, match=r"'cosin' is not a schedule.*Did you mean 'cosine'"
    ) as error:
        make_schedule("cosin", peak_value=0.1, total_steps=100)
    assert all(name in str(error.value) for name in (*SCHEDULES, *ALIASES))
    with pytest.raises(ValueError, match=r"optax\.contrib\.reduce_on_plateau"):
        resolve("ReduceLROnPlateau")
    with pytest.raises(TypeError, match="name must be a string"):
        resolve(la.rex_schedule)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("wsd", "trapezoid"),
        ("Warmup-Cosine", "cosine"),
        ("cosine_with_restarts", "cosine_restarts"),
        ("onecycle", "one_cycle"),
        ("One Cycle", "one_cycle"),
        ("SIG+", "sigmoid"),
        ("rsqrt", "inverse_sqrt"),
    ],
)
def test_alias_stands_for_its_name(alias, name):
    assert resolve(alias) == name
    options, by_hand = CASES[name]
    assert make_schedule(alias, **run(name), **options) == by_hand


def test_cosine_restarts_fill_the_run():
    schedule = make_schedule(
        "sgdr",
        peak_value=1.0,
        total_steps=50,
        warmup_steps=10,
        num_cycles=3,
        restart_multiplier=2.0,
    )
    # 40 steps are shared by cycles of 40/7, 80/7, and 160/7 steps.
    starts = 10 + 40 / 7 * np.array([0, 1, 3, 7])
    steps = np.arange(10, 60)
    cycle = np.searchsorted(starts, steps, side="right") - 1
    x = (steps - starts[cycle]) / (40 / 7 * 2.0**cycle)
    expected = np.where(steps < 50, 0.5 * (1 + np.cos(np.pi * x)), 0.0)
    np.testing.assert_allclose(schedule(steps), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="Set num_cycles or restart_interval"):
        make_schedule("sgdr", peak_value=1.0, total_steps=50)
    with pytest.raises(ValueError, match="num_cycles=60 is too large for 50 steps"):
        make_schedule("sgdr", peak_value=1.0, total_steps=50, num_cycles=60)


@hypothesis.settings(max_examples=200, deadline=None, derandomize=True, database=None)
@hypothesis.given(total_steps=st.integers(2, 10**7), data=st.data())
def test_one_cycle_warms_up_for_exactly_the_given_steps(total_steps, data):
    warmup_steps = data.draw(st.integers(1, total_steps - 1))
    schedule = make_schedule(
        "one_cycle", peak_value=0.1, total_steps=total_steps, warmup_steps=warmup_steps
    )
    assert int(schedule.arguments["pct_start"] * total_steps) == warmup_steps


def test_values_that_exclude_each_other_raise():
    with pytest.raises(ValueError, match="warmup_steps must be less than total_steps=100"):
        make_schedule("linear", peak_value=0.1, total_steps=100, warmup_steps=100)
    with pytest.raises(ValueError, match="Set warmup_steps or pct_start"):
        make_schedule("one_cycle", **run("one_cycle"), pct_start=0.5)
    with pytest.raises(ValueError, match="A range test has no warmup"):
        make_schedule("range_test", **{**run("range_test"), "warmup_steps": 3}, min_value=1e-4)
    with pytest.raises(ValueError, match="total_steps must be an int"):
        make_schedule("linear", peak_value=0.1, total_steps=0)


def test_peak_and_end_may_be_mapped():
    @jax.vmap
    def sweep(peak, fraction):
        schedule = make_schedule(
            "wsd", peak_value=peak, total_steps=100, warmup_steps=10, end_fraction=fraction
        )
        return schedule(jnp.array([10, 100]))

    got = sweep(jnp.array([0.5, 0.25]), jnp.array([0.5, 0.25]))
    np.testing.assert_allclose(got, [[0.5, 0.25], [0.25, 0.0625]], rtol=1e-6)
