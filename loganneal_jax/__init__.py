"""Learning-rate schedules for Optax: cyclical log annealing and common alternatives."""

from loganneal_jax.annealing import anneal, restarts
from loganneal_jax.compose import (
    chain_schedules,
    clip_schedule,
    from_values,
    per_epoch,
    repeat_schedule,
    scale_for_batch_size,
    scale_schedule,
    tabulate,
    with_warmup,
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
from loganneal_jax.phases import (
    one_cycle_schedule,
    repeated_sigmoid_schedule,
    trapezoid_schedule,
    triangular_schedule,
    warmup_sigmoid_decay_schedule,
    warmup_staircase_schedule,
)

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "anneal",
    "chain_schedules",
    "clip_schedule",
    "cyclical_cosine_schedule",
    "cyclical_log_annealing_schedule",
    "exponential_decay_schedule",
    "from_values",
    "inverse_sqrt_schedule",
    "linear_decay_schedule",
    "log_annealing_schedule",
    "log_step_size_schedule",
    "one_cycle_schedule",
    "per_epoch",
    "repeat_schedule",
    "repeated_sigmoid_schedule",
    "restarts",
    "rex_schedule",
    "scale_for_batch_size",
    "scale_schedule",
    "sigmoid_decay_schedule",
    "staircase_schedule",
    "tabulate",
    "trapezoid_schedule",
    "triangular_schedule",
    "warmup_sigmoid_decay_schedule",
    "warmup_staircase_schedule",
    "with_warmup",
]
