"""Catalog of the schedules of standard.py, range_test.py, and momentum.py; see catalog.py.

Each case is a tuple of the fields of `catalog.Case`.
"""

import loganneal_jax

LAST = 2**31 - 1  # largest count
INIT_AND_END = {"init_value": 0.1, "end_value": 0.001}
ENDS = {-1: 0.1, 0: 0.1, 40: 0.001, LAST: 0.001}

# Intervals from which random values are drawn, as in catalog.py.
INTERVALS = {
    "value": (0.05, 0.5),
    "min_value": (0.0009765625, 0.04),
    "max_value": (0.05, 0.5),
    "min_momentum": (0.8, 0.875),
    "max_momentum": (0.9, 0.99),
    "exponent": (0.5, 4.0),
    "k": (0.5, 4.0),
    "lower": (-8.0, -1.0),
    "upper": (1.0, 4.0),
}


def between(low, high):
    """Bounds a schedule by two of its values."""
    return lambda values: (values[low], values[high])


CASES = {
    "constant_schedule": (
        loganneal_jax.constant_schedule,
        {},
        {"value": 0.1},
        [],
        {-1: 0.1, 0: 0.1, LAST: 0.1},
        between("value", "value"),
    ),
    "cosine_decay": (
        loganneal_jax.cosine_decay_schedule,
        {"decay_steps": 40},
        {**INIT_AND_END, "exponent": 2.0, "k": 1.5},
        [40],
        ENDS,
        between("end_value", "init_value"),
    ),
    "polynomial_decay": (
        loganneal_jax.polynomial_decay_schedule,
        {"decay_steps": 40},
        {**INIT_AND_END, "power": 2.0, "k": 1.5},
        [40],
        ENDS,
        between("end_value", "init_value"),
    ),
    "polynomial_decay, cycles": (
        loganneal_jax.polynomial_decay_schedule,
        {"decay_steps": 7, "cycle": True},
        {**INIT_AND_END, "power": 2.0},
        [7, 14, 21, 28],
        {0: 0.1, 7: 0.001, 14: 0.001, 28: 0.001},
        between("end_value", "init_value"),
    ),
    "tanh_decay": (
        loganneal_jax.tanh_decay_schedule,
        {"decay_steps": 40},
        {**INIT_AND_END, "lower": -6.0, "upper": 4.0},
        [40],
        {},
        between("end_value", "init_value"),
    ),
    **{
        f"inverse_time, staircase={staircase}": (
            loganneal_jax.inverse_time_schedule,
            {"decay_steps": 10, "staircase": staircase},
            {"init_value": 0.1, "decay_rate": 0.5},
            [10, 20, 30],
            {0: 0.1},
            lambda values: (0.0, values["init_value"]),
        )
        for staircase in (False, True)
    },
    **{
        f"range_test, {spacing}": (
            loganneal_jax.range_test_schedule,
            {"num_steps": 40, "spacing": spacing},
            {"min_value": 0.001, "max_value": 0.5},
            [39, 40],
            {-1: 0.001, 0: 0.001, 39: 0.5, LAST: 0.5},
            between("min_value", "max_value"),
        )
        for spacing in ("exponential", "linear")
    },
    "one_cycle_momentum": (
        loganneal_jax.one_cycle_momentum_schedule,
        {"total_steps": 40},
        {"max_momentum": 0.95, "min_momentum": 0.85},
        [12, 40],
        {0: 0.95, 12: 0.85, 40: 0.95, LAST: 0.95},
        between("min_momentum", "max_momentum"),
    ),
}
