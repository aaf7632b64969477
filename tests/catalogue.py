"""Every schedule the library makes, as data: what the guarantees of test_catalogue.py run over.

A new schedule joins by a row in CASES. Its `structure` holds what shapes the program, its `values`
the numbers that may be traced; both are JSON. `edges` are the steps where something changes,
`exact` values it must have to the bit, `bounds` those it keeps to as a function of its values.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import loganneal_jax
from loganneal_jax import shapes

LAST = 2**31 - 1


class Case(NamedTuple):
    make: Callable
    structure: dict
    values: dict
    edges: list[int]
    exact: dict[int, float]
    bounds: Callable[[dict], tuple[float, float]]


# From where the values of a run are drawn that were not written down; float32 holds both ends.
DRAWS = {
    "init_value": (0.05, 0.5),
    "peak_value": (0.05, 0.5),
    "restart_value": (0.05, 0.5),
    "end_value": (0.0009765625, 0.04),
    "warmup_init_value": (0.0, 0.04),
    "restart_decay": (0.25, 1.0),
    "decay_rate": (0.25, 1.0),
    "base": (1.5, 50.0),
    "first_step": (1.0, 4.0),
    "slope": (0.5, 20.0),
    "div_factor": (1.0, 50.0),
    "final_div_factor": (1.0, 1e5),
    "power": (0.5, 4.0),
}


def starts(interval, multiplier, offset=0, extra=0):
    """The first steps of all cycles that begin by the last countable step."""
    found, start, cycle = [], offset, 0
    while start <= LAST and cycle < 40:
        found.append(start)
        start += max(1, round(interval * multiplier**cycle)) + extra
        cycle += 1
    return found


def top(values):
    return max(values.get(name, 0.0) for name in ("init_value", "peak_value", "restart_value"))


def between(values):
    """From the lowest to the highest of the values given."""
    low = min(values["end_value"], values.get("warmup_init_value", values["end_value"]))
    return low, top(values)


def above(factor=50.0):
    """Never negative, and not far beyond: eq. (4) is not kept to its range."""
    return lambda values: (0.0, factor * top(values))


CYCLIC_VALUES = {
    "init_value": 0.1,
    "end_value": 0.001,
    "restart_value": 0.05,
    "restart_decay": 1.0,
    "warmup_init_value": 0.0001,
}
CYCLIC_STRUCTURE = {
    "init_decay_steps": 12,
    "restart_interval": 10,
    "restart_multiplier": 1.5,
    "warmup_steps": 5,
}
CYCLIC_EDGES = [5, *starts(10, 1.5, offset=17)]
ONCE = {"init_value": 0.1, "end_value": 0.001}
PEAKED = {"peak_value": 0.1, "end_value": 0.001}


def restarting(multiplier, interval):
    """Linear annealing that restarts: its peak is reached at the restarts and nowhere else."""
    firsts = starts(interval, multiplier)
    return Case(
        functools.partial(loganneal_jax.restarts, shapes.linear),
        {"restart_interval": interval, "restart_multiplier": multiplier},
        {"peak_value": 0.1, "end_value": 0.001, "restart_decay": 1.0},
        firsts,
        dict.fromkeys(firsts, 0.1),
        between,
    )


CASES = {
    "log_annealing": Case(
        loganneal_jax.log_annealing_schedule,
        {"decay_steps": 40},
        {**PEAKED, "first_step": 1.0},
        [39, 40],
        {},
        above(),
    ),
    "log_annealing, base given": Case(
        loganneal_jax.log_annealing_schedule,
        {"decay_steps": 40},
        {**PEAKED, "base": 10.0, "first_step": 1.0},
        [39, 40],
        {},
        above(),
    ),
    "log_annealing, normalised": Case(
        loganneal_jax.log_annealing_schedule,
        {"decay_steps": 40, "variant": "normalised"},
        {**PEAKED, "first_step": 1.0},
        [39, 40],
        {-1: 0.1, 0: 0.1, 39: 0.001, 40: 0.001, LAST: 0.001},
        between,
    ),
    "cyclical_log_annealing": Case(
        loganneal_jax.cyclical_log_annealing_schedule,
        CYCLIC_STRUCTURE,
        {**CYCLIC_VALUES, "first_step": 1.0},
        CYCLIC_EDGES,
        {-1: 0.0001, 0: 0.0001},
        above(),
    ),
    "cyclical_log_annealing, normalised": Case(
        loganneal_jax.cyclical_log_annealing_schedule,
        {**CYCLIC_STRUCTURE, "variant": "normalised"},
        {**CYCLIC_VALUES, "first_step": 1.0},
        CYCLIC_EDGES,
        {0: 0.0001, 5: 0.1, 16: 0.001, 17: 0.05, 26: 0.001, 27: 0.05, 41: 0.001, 42: 0.05},
        between,
    ),
    "cyclical_log_annealing, no restarts": Case(
        loganneal_jax.cyclical_log_annealing_schedule,
        {"init_decay_steps": 12},
        {**ONCE, "base": 0.5},
        [12],
        {12: 0.001, LAST: 0.001},
        above(),
    ),
    "cyclical_cosine": Case(
        loganneal_jax.cyclical_cosine_schedule,
        CYCLIC_STRUCTURE,
        CYCLIC_VALUES,
        CYCLIC_EDGES,
        {0: 0.0001, 5: 0.1, 17: 0.05, 27: 0.05, 42: 0.05},
        between,
    ),
    "log_step_size": Case(
        loganneal_jax.log_step_size_schedule,
        {"restart_interval": 10, "restart_multiplier": 0.5},
        {"init_value": 0.1},
        starts(10, 0.5),
        {0: 0.1, 9: 0.0, 10: 0.1, 14: 0.0, 15: 0.1, 16: 0.0, 17: 0.1, 18: 0.1, LAST: 0.1},
        lambda values: (0.0, values["init_value"]),
    ),
    "restarts, multiplier 1": restarting(1.0, 81910),
    "restarts, multiplier 1.5": restarting(1.5, 1210),
    "restarts, multiplier 2": restarting(2.0, 81910),
    "restarts, multiplier 3": restarting(3.0, 1210),
    "restarts, multiplier 10": restarting(10.0, 7),
    "restarts, multiplier 0.5": restarting(0.5, 81910),
    # 41 is the least number that float32 does not get 1 from when it multiplies by its inverse.
    "restarts, warmup and hold": Case(
        functools.partial(loganneal_jax.restarts, shapes.cosine),
        {"restart_interval": 6, "restart_multiplier": 2.0, "warmup_steps": 41, "hold_steps": 2},
        {**PEAKED, "restart_decay": 1.0, "warmup_init_value": 0.0},
        starts(6, 2.0, extra=43),
        {0: 0.0, 41: 0.1, 47: 0.001, 48: 0.001, 49: 0.0, 90: 0.1, 102: 0.001, 103: 0.001, 104: 0.0},
        between,
    ),
    "linear_decay": Case(
        loganneal_jax.linear_decay_schedule,
        {"decay_steps": 40},
        ONCE,
        [40],
        {-1: 0.1, 0: 0.1, 40: 0.001, LAST: 0.001},
        between,
    ),
    "exponential_decay": Case(
        loganneal_jax.exponential_decay_schedule,
        {"decay_steps": 40},
        ONCE,
        [40],
        {0: 0.1, 40: 0.001, LAST: 0.001},
        between,
    ),
    "polynomial": Case(
        lambda power, **kwargs: loganneal_jax.anneal(
            lambda elapsed, remaining: shapes.polynomial(elapsed, remaining, power), **kwargs
        ),
        {"decay_steps": 40},
        {**PEAKED, "power": 2.0},
        [40],
        {0: 0.1, 40: 0.001, LAST: 0.001},
        between,
    ),
    "constant": Case(
        functools.partial(loganneal_jax.anneal, shapes.constant),
        {"decay_steps": 40},
        PEAKED,
        [40],
        {0: 0.1, 40: 0.1, LAST: 0.1},
        between,
    ),
    "sigmoid_decay": Case(
        loganneal_jax.sigmoid_decay_schedule,
        {"decay_steps": 40},
        {**ONCE, "slope": 5.0},
        [40],
        {},
        between,
    ),
    "warmup_sigmoid_decay": Case(
        loganneal_jax.warmup_sigmoid_decay_schedule,
        {"total_steps": 50, "warmup_steps": 5},
        {**PEAKED, "warmup_init_value": 0.01, "slope": 5.0},
        [5, 50],
        {0: 0.01},
        between,
    ),
    "repeated_sigmoid": Case(
        loganneal_jax.repeated_sigmoid_schedule,
        {"decay_steps": 20, "repeats": 2},
        {**ONCE, "slope": 5.0},
        [20, 40],
        {},
        between,
    ),
    "rex": Case(
        loganneal_jax.rex_schedule,
        {"decay_steps": 40},
        ONCE,
        [40],
        {0: 0.1, 40: 0.001, LAST: 0.001},
        between,
    ),
    "inverse_sqrt": Case(
        loganneal_jax.inverse_sqrt_schedule,
        {"warmup_steps": 4},
        {"peak_value": 0.125, "warmup_init_value": 0.0},
        [4],
        {0: 0.0, 4: 0.125, 16: 0.0625, 64: 0.03125},
        lambda values: (0.0, max(values.values())),
    ),
    "staircase": Case(
        loganneal_jax.staircase_schedule,
        {"boundaries": [10, 20]},
        {"init_value": 0.1, "decay_rate": 0.5},
        [10, 20],
        {0: 0.1, 9: 0.1, 10: 0.05, 19: 0.05, 20: 0.025, LAST: 0.025},
        lambda values: (0.0, values["init_value"]),
    ),
    "warmup_staircase": Case(
        loganneal_jax.warmup_staircase_schedule,
        {"boundaries": [10, 20], "warmup_steps": 5},
        {"peak_value": 0.1, "decay_rate": 0.5, "warmup_init_value": 0.01},
        [5, 10, 20],
        {0: 0.01, 5: 0.1, 9: 0.1, 10: 0.05, 20: 0.025},
        lambda values: (0.0, max(values["peak_value"], values["warmup_init_value"])),
    ),
    **{
        f"trapezoid, {cooldown}": Case(
            loganneal_jax.trapezoid_schedule,
            {"total_steps": 50, "warmup_steps": 5, "cooldown_steps": 20, "cooldown": cooldown},
            {**PEAKED, "warmup_init_value": 0.01},
            [5, 30, 50],
            {0: 0.01, 5: 0.1, 29: 0.1, 30: 0.1, 50: 0.001, LAST: 0.001},
            between,
        )
        for cooldown in ("linear", "1-sqrt", "cosine")
    },
    "one_cycle": Case(
        loganneal_jax.one_cycle_schedule,
        {"total_steps": 50, "pct_start": 0.3},
        {"peak_value": 0.5, "div_factor": 4.0, "final_div_factor": 2.0},
        [15, 50],
        {0: 0.125, 15: 0.5, 50: 0.0625},
        lambda values: (0.0, values["peak_value"]),
    ),
    **{
        f"triangular, {mode}": Case(
            loganneal_jax.triangular_schedule,
            {"half_cycle_steps": 41, "mode": mode},
            {"peak_value": 0.1, "init_value": 0.001},
            [41, 82, 123, 164],
            {0: 0.001, 41: 0.1, 82: 0.001, 164: 0.001},
            lambda values: (0.0, top(values)),
        )
        for mode in ("triangular", "triangular2")
    },
    "triangular, exp_range": Case(
        loganneal_jax.triangular_schedule,
        {"half_cycle_steps": 8, "mode": "exp_range"},
        {"peak_value": 0.1, "init_value": 0.001, "decay_rate": 0.99},
        [8, 16, 24, 32],
        {0: 0.001, 16: 0.001, 32: 0.001},
        lambda values: (0.0, top(values)),
    ),
}


def draw_intervals(case):
    """The interval each value is drawn from: whatever is drawn is a valid schedule."""
    lowest = {"init_value": DRAWS["end_value"]} if "peak_value" in case.values else {}
    return {name: lowest.get(name, DRAWS[name]) for name in case.values}
