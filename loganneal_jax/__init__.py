"""Cyclical log annealing and the learning-rate schedules it is compared with, for Optax."""

from loganneal_jax.compose import chain_schedules, from_values, tabulate, with_warmup
from loganneal_jax.schedules import (
    anneal,
    cyclical_cosine_schedule,
    cyclical_log_annealing_schedule,
    log_annealing_schedule,
    restarts,
)

__all__ = [
    "anneal",
    "chain_schedules",
    "cyclical_cosine_schedule",
    "cyclical_log_annealing_schedule",
    "from_values",
    "log_annealing_schedule",
    "restarts",
    "tabulate",
    "with_warmup",
]
