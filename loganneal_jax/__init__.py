"""Learning-rate schedules for Optax: cyclical log annealing and common alternatives."""

from loganneal_jax import shapes
from loganneal_jax.annealing import anneal, restarts
from loganneal_jax.bridges import learning_rate_of, to_keras, to_torch
from loganneal_jax.compose import (
    chain_schedules,
    clip_schedule,
    from_values,
    multiply_schedules,
    per_epoch,
    repeat_schedule,
    scale_for_batch_size,
    scale_schedule,
    shift_schedule,
    tabulate,
)
from loganneal_jax.cyclical import (
    cyclical_cosine_schedule,
    cyclical_log_annealing_schedule,
    log_annealing_schedule,
    log_step_size_schedule,
)
from loganneal_jax.decays import (
    exponential_decay_schedule,
    inverse_sqrt_schedule,
    linear_decay_schedule,
    rex_schedule,
    sigmoid_decay_schedule,
    staircase_schedule,
)
from loganneal_jax.momentum import one_cycle_momentum_schedule
from loganneal_jax.phases import (
    repeated_sigmoid_schedule,
    trapezoid_schedule,
    warmup_sigmoid_decay_schedule,
    warmup_staircase_schedule,
)
from loganneal_jax.range_test import range_test_schedule
from loganneal_jax.registry import make_schedule
from loganneal_jax.schedule import Schedule
from loganneal_jax.standard import (
    constant_schedule,
    cosine_decay_schedule,
    inverse_time_schedule,
    polynomial_decay_schedule,
    tanh_decay_schedule,
)
from loganneal_jax.triangular import one_cycle_schedule, triangular_schedule
from loganneal_jax.warmups import with_cooldown, with_warmup

__version__ = "0.1.0"

__all__ = [
    "Schedule",
    "__version__",
    "anneal",
    "chain_schedules",
    "clip_schedule",
    "constant_schedule",
    "cosine_decay_schedule",
    "cyclical_cosine_schedule",
    "cyclical_log_annealing_schedule",
    "exponential_decay_schedule",
    "from_values",
    "inverse_sqrt_schedule",
    "inverse_time_schedule",
    "learning_rate_of",
    "linear_decay_schedule",
    "log_annealing_schedule",
    "log_step_size_schedule",
    "make_schedule",
    "multiply_schedules",
    "one_cycle_momentum_schedule",
    "one_cycle_schedule",
    "per_epoch",
    "polynomial_decay_schedule",
    "range_test_schedule",
    "repeat_schedule",
    "repeated_sigmoid_schedule",
    "restarts",
    "rex_schedule",
    "scale_for_batch_size",
    "scale_schedule",
    "shapes",
    "shift_schedule",
    "sigmoid_decay_schedule",
    "staircase_schedule",
    "tabulate",
    "tanh_decay_schedule",
    "to_keras",
    "to_torch",
    "trapezoid_schedule",
    "triangular_schedule",
    "warmup_sigmoid_decay_schedule",
    "warmup_staircase_schedule",
    "with_cooldown",
    "with_warmup",
]


def __dir__() -> list[str]:
    return sorted(__all__)
