"""Catalog of every schedule in the library, as data for test_catalog.py.

A new schedule whose parameters have the usual names is tested by `usual_case`. To test its other
parameters, or its exact values, add a case to CASES.
"""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax

import loganneal_jax
from loganneal_jax import shapes
from tests.loganneal_jax import catalog_standard

LAST = 2**31 - 1  # largest count


class Case(NamedTuple):
    """A schedule and its expected properties.

    Attributes:
      make: Factory of the schedule.
      structure: Arguments that determine the program's structure, serializable as JSON.
      values: Numeric arguments that may be traced, serializable as JSON.
      edges: Steps at which the schedule changes, such as restarts.
      exact: Values that must match bit for bit, by step.
      bounds: Function that maps `values` to the lower and upper bound of the schedule.
    """

    make: Callable
    structure: dict
    values: dict
    edges: list[int]
    exact: dict[int, float]
    bounds: Callable[[dict], tuple[float, float]]


# Intervals from which random values are drawn. Float32 represents both ends.
INTERVALS = {
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
    **catalog_standard.INTERVALS,
}


def cycle_starts(interval, multiplier, offset=0, extra=0):
    """Returns the first step of each cycle that starts at or before `LAST`, at most 40 of them."""
    starts, start, cycle = [], offset, 0
    while start <= LAST and cycle < 40:
        starts.append(start)
        start += max(1, round(interval * multiplier**cycle)) + extra
        cycle += 1
    return starts


def highest(values):
    """Returns the highest of the given learning rates."""
    return max(values.get(name, 0.0) for name in ("init_value", "peak_value", "restart_value"))


def within_range(values):
    """Bounds the schedule by the lowest and the highest of the given learning rates."""
    low = min(values["end_value"], values.get("warmup_init_value", values["end_value"]))
    return low, highest(values)


def nonnegative(values):
    """Bounds eq. (4), which is nonnegative but may exceed `peak_value` by a large factor."""
    return 0.0, 50.0 * highest(values)


CYCLIC_VALUES = {
    "peak_value": 0.1,
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
CYCLIC_EDGES = [5, *cycle_starts(10, 1.5, offset=17)]
INIT_AND_END = {"init_value": 0.1, "end_value": 0.001}
PEAK_AND_END = {"peak_value": 0.1, "end_value": 0.001}


def linear_restarts(multiplier, interval):
    """Returns a case of linear annealing, which reaches its peak only at the restarts."""
    first_steps = cycle_starts(interval, multiplier)
    return Case(
        functools.partial(loganneal_jax.restarts, shapes.linear),
        {"restart_interval": interval, "restart_multiplier": multiplier},
        {"peak_value": 0.1, "end_value": 0.001, "restart_decay": 1.0},
        first_steps,
        dict.fromkeys(first_steps, 0.1),
        within_range,
    )


CASES = {
    "log_annealing": Case(
        loganneal_jax.log_annealing_schedule,
        {"decay_steps": 40, "variant": "paper"},
        {**PEAK_AND_END, "first_step": 1.0},
        [39, 40],
        {},
        nonnegative,
    ),
    "log_annealing, explicit base": Case(
        loganneal_jax.log_annealing_schedule,
        {"decay_steps": 40, "variant": "paper"},
        {**PEAK_AND_END, "base": 10.0, "first_step": 1.0},
        [39, 40],
        {},
        nonnegative,
    ),
    "log_annealing, normalized": Case(
        loganneal_jax.log_annealing_schedule,
        {"decay_steps": 40},
        {**PEAK_AND_END, "first_step": 1.0},
        [39, 40],
        {-1: 0.1, 0: 0.1, 39: 0.001, 40: 0.001, LAST: 0.001},
        within_range,
    ),
    "cyclical_log_annealing": Case(
        loganneal_jax.cyclical_log_annealing_schedule,
        {**CYCLIC_STRUCTURE, "variant": "paper"},
        {**CYCLIC_VALUES, "first_step": 1.0},
        CYCLIC_EDGES,
        {-1: 0.0001, 0: 0.0001},
        nonnegative,
    ),
    "cyclical_log_annealing, normalized": Case(
        loganneal_jax.cyclical_log_annealing_schedule,
        CYCLIC_STRUCTURE,
        {**CYCLIC_VALUES, "first_step": 1.0},
        CYCLIC_EDGES,
        {0: 0.0001, 5: 0.1, 16: 0.001, 17: 0.05, 26: 0.001, 27: 0.05, 41: 0.001, 42: 0.05},
        within_range,
    ),
    "cyclical_log_annealing, no restarts": Case(
        loganneal_jax.cyclical_log_annealing_schedule,
        {"init_decay_steps": 12, "variant": "paper"},
        {**PEAK_AND_END, "base": 0.5},
        [12],
        {12: 0.001, LAST: 0.001},
        nonnegative,
    ),
    "cyclical_cosine": Case(
        loganneal_jax.cyclical_cosine_schedule,
        CYCLIC_STRUCTURE,
        CYCLIC_VALUES,
        CYCLIC_EDGES,
        {0: 0.0001, 5: 0.1, 17: 0.05, 27: 0.05, 42: 0.05},
        within_range,
    ),
    "log_step_size": Case(
        loganneal_jax.log_step_size_schedule,
        {"restart_interval": 10, "restart_multiplier": 0.5},
        {"peak_value": 0.1},
        cycle_starts(10, 0.5),
        {0: 0.1, 9: 0.0, 10: 0.1, 14: 0.0, 15: 0.1, 16: 0.0, 17: 0.1, 18: 0.1, LAST: 0.1},
        lambda values: (0.0, values["peak_value"]),
    ),
    "restarts, multiplier 1": linear_restarts(1.0, 81910),
    "restarts, multiplier 1.5": linear_restarts(1.5, 1210),
    "restarts, multiplier 2": linear_restarts(2.0, 81910),
    "restarts, multiplier 3": linear_restarts(3.0, 1210),
    "restarts, multiplier 10": linear_restarts(10.0, 7),
    "restarts, multiplier 0.5": linear_restarts(0.5, 81910),
    # 41 is the smallest n for which n * (1 / n) differs from 1 in float32.
    "restarts, warmup and hold": Case(
        functools.partial(loganneal_jax.restarts, shapes.cosine),
        {"restart_interval": 6, "restart_multiplier": 2.0, "warmup_steps": 41, "hold_steps": 2},
        {**PEAK_AND_END, "restart_decay": 1.0, "warmup_init_value": 0.0},
        cycle_starts(6, 2.0, extra=43),
        {0: 0.0, 41: 0.1, 47: 0.001, 48: 0.001, 49: 0.0, 90: 0.1, 102: 0.001, 103: 0.001, 104: 0.0},
        within_range,
    ),
    "linear_decay": Case(
        loganneal_jax.linear_decay_schedule,
        {"decay_steps": 40},
        INIT_AND_END,
        [40],
        {-1: 0.1, 0: 0.1, 40: 0.001, LAST: 0.001},
        within_range,
    ),
    "exponential_decay": Case(
        loganneal_jax.exponential_decay_schedule,
        {"decay_steps": 40},
        INIT_AND_END,
        [40],
        {0: 0.1, 40: 0.001, LAST: 0.001},
        within_range,
    ),
    "polynomial": Case(
        lambda power, **kwargs: loganneal_jax.anneal(
            lambda elapsed, remaining: shapes.polynomial(elapsed, remaining, power), **kwargs
        ),
        {"decay_steps": 40},
        {**PEAK_AND_END, "power": 2.0},
        [40],
        {0: 0.1, 40: 0.001, LAST: 0.001},
        within_range,
    ),
    **{name: Case(*fields) for name, fields in catalog_standard.CASES.items()},
    "constant": Case(
        functools.partial(loganneal_jax.anneal, shapes.constant),
        {"decay_steps": 40},
        PEAK_AND_END,
        [40],
        {0: 0.1, 40: 0.1, LAST: 0.1},
        within_range,
    ),
    "sigmoid_decay": Case(
        loganneal_jax.sigmoid_decay_schedule,
        {"decay_steps": 40},
        {**INIT_AND_END, "slope": 5.0},
        [40],
        {},
        within_range,
    ),
    "warmup_sigmoid_decay": Case(
        loganneal_jax.warmup_sigmoid_decay_schedule,
        {"total_steps": 50, "warmup_steps": 5},
        {**PEAK_AND_END, "warmup_init_value": 0.01, "slope": 5.0},
        [5, 50],
        {0: 0.01},
        within_range,
    ),
    "repeated_sigmoid": Case(
        loganneal_jax.repeated_sigmoid_schedule,
        {"decay_steps": 20, "repeats": 2},
        {**INIT_AND_END, "slope": 5.0},
        [20, 40],
        {},
        within_range,
    ),
    "rex": Case(
        loganneal_jax.rex_schedule,
        {"decay_steps": 40},
        INIT_AND_END,
        [40],
        {0: 0.1, 40: 0.001, LAST: 0.001},
        within_range,
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
            {**PEAK_AND_END, "warmup_init_value": 0.01},
            [5, 30, 50],
            {0: 0.01, 5: 0.1, 29: 0.1, 30: 0.1, 50: 0.001, LAST: 0.001},
            within_range,
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
            lambda values: (0.0, highest(values)),
        )
        for mode in ("triangular", "triangular2")
    },
    "triangular, exp_range": Case(
        loganneal_jax.triangular_schedule,
        {"half_cycle_steps": 8, "mode": "exp_range"},
        {"peak_value": 0.1, "init_value": 0.001, "decay_rate": 0.99},
        [8, 16, 24, 32],
        {0: 0.001, 16: 0.001, 32: 0.001},
        lambda values: (0.0, highest(values)),
    ),
}


def usual_case(factory):
    """Returns a case of a schedule whose required parameters have the usual names."""
    parameters = inspect.signature(factory).parameters
    lengths = {"decay_steps": 40, "total_steps": 50, "warmup_steps": 5}
    usual = {**INIT_AND_END, **PEAK_AND_END}
    structure = {name: number for name, number in lengths.items() if name in parameters}
    values = {name: number for name, number in usual.items() if name in parameters}
    return Case(factory, structure, values, [5, 40, 50], {}, nonnegative)


# A factory that takes a schedule or a shape has cases of its own, here or in test_compose.py.
_COVERED = {getattr(case.make, "func", case.make) for case in CASES.values()}
CASES |= {
    factory.__name__: usual_case(factory)
    for factory in (getattr(loganneal_jax, name) for name in loganneal_jax.__all__)
    if hasattr(factory, "is_schedule_factory")
    and factory not in _COVERED
    and not {"schedule", "schedules", "shape", "values"}
    & set(inspect.signature(factory).parameters)
}


def value_intervals(case):
    """Returns the interval of each value, chosen so that any draw yields a valid schedule."""
    # If a schedule has both, init_value is a lower bound and must not exceed peak_value.
    overrides = {"init_value": INTERVALS["end_value"]} if "peak_value" in case.values else {}
    return {name: overrides.get(name, INTERVALS[name]) for name in case.values}


def build(name):
    """Builds a schedule of the catalog."""
    case = CASES[name]
    return case.make(**case.structure, **case.values)


def enable_x64():
    """Returns a context with 64-bit types, in old and new versions of JAX."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    return jax.experimental.enable_x64()
