"""The keys of a run: one for each use of random numbers."""

import jax
import numpy as np

from experiments.program.state import run_keys


def test_keys_of_a_run_differ_by_use_and_by_run():
    data = [
        tuple(np.asarray(jax.random.key_data(key)).tolist())
        for seed in (0, 1)
        for key in run_keys(jax.random.key(seed))
    ]
    assert len(set(data)) == 8


def test_keys_of_a_run_are_always_the_same():
    once, again = (run_keys(jax.random.key(3)) for _ in range(2))
    for first, second in zip(once, again, strict=True):
        np.testing.assert_array_equal(jax.random.key_data(first), jax.random.key_data(second))
