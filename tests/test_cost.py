"""One evaluation costs the same whatever the number of restarts behind or ahead."""

import re

import jax
import jax.numpy as jnp
import optax

from loganneal_jax import cyclical_cosine_schedule, cyclical_log_annealing_schedule


def instructions(schedule):
    """How many instructions the compiled program of one evaluation has."""
    text = jax.jit(schedule).lower(jnp.int32(0)).compile().as_text()
    return len(re.findall(r"^\s+(?:ROOT )?%?[\w.-]+ = ", text, re.MULTILINE))


def cosine_restarts(interval, multiplier):
    return cyclical_cosine_schedule(
        0.1, 0.001, init_decay_steps=10, restart_interval=interval, restart_multiplier=multiplier
    )


def test_a_thousand_restarts_cost_as_much_as_one():
    # Of 2**31 steps: one restart, about a thousand, and a thousand that grow.
    one = instructions(cosine_restarts(2**31 - 1, 1.0))
    assert instructions(cosine_restarts(2**31 // 1000, 1.0)) <= 1.2 * one
    few = instructions(cosine_restarts(2**30, 2.0))
    assert instructions(cosine_restarts(10, 1.017)) <= 1.2 * few


def test_a_twentieth_of_optax_at_a_thousand_restarts():
    cycle = {"init_value": 0.1, "peak_value": 0.1, "warmup_steps": 0, "decay_steps": 10}
    # Before compiling, which takes optax's version ten seconds: it has a branch a restart.
    theirs = jax.jit(optax.sgdr_schedule([cycle] * 1000)).lower(jnp.int32(0)).as_text()
    for make in (cyclical_cosine_schedule, cyclical_log_annealing_schedule):
        ours = make(0.1, 0.001, init_decay_steps=10, restart_interval=10, restart_multiplier=1.5)
        text = jax.jit(ours).lower(jnp.int32(0)).as_text()
        assert text.count(" = ") <= theirs.count(" = ") / 20
