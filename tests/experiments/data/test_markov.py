"""The Markov chain: its entropy rate, and samples that follow its probabilities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import markov

seeds = st.integers(0, 2**32 - 1)


@given(st.integers(2, 5), st.floats(0.05, 5), seeds)
def test_stationary_distribution_stays_the_same_after_a_step(size, concentration, seed):
    chain = markov.random_chain(size, concentration=concentration, seed=seed)
    np.testing.assert_allclose(chain.sum(axis=2), 1)
    pairs = markov.stationary(chain)
    assert pairs.sum() == pytest.approx(1)
    assert pairs.min() > -1e-9
    np.testing.assert_allclose(np.einsum("ab,abc->bc", pairs, chain), pairs, atol=1e-9)


@given(st.integers(2, 6), st.floats(0.001, 0.999))
def test_entropy_rate_of_a_symmetric_chain_is_known(size, stay):
    """A symbol stays with one probability, and else changes to any of the others."""
    chain = np.full((size, size, size), (1 - stay) / (size - 1))
    for b in range(size):
        chain[:, b, b] = stay
    expected = -stay * math.log(stay) - (1 - stay) * math.log((1 - stay) / (size - 1))
    assert markov.entropy_rate(chain) == pytest.approx(expected, rel=1e-9)


def test_entropy_rate_uses_both_earlier_symbols():
    """The next symbol is the sum of the last two, or one more, with equal probabilities."""
    chain = np.zeros((3, 3, 3))
    for a in range(3):
        for b in range(3):
            chain[a, b, [(a + b) % 3, (a + b + 1) % 3]] = 0.5
    assert markov.entropy_rate(chain) == pytest.approx(math.log(2))


def test_sample_has_the_probabilities_and_the_entropy_of_its_chain():
    chain = markov.random_chain(3, concentration=1.0, seed=5)
    drawn = markov.sample(chain, 200_000)
    assert drawn.dtype == np.uint8
    counts = np.zeros((3, 3, 3))
    np.add.at(counts, (drawn[:-2], drawn[1:-1], drawn[2:]), 1)
    found = counts / counts.sum(axis=2, keepdims=True)
    deviation = np.sqrt(chain * (1 - chain) / counts.sum(axis=2, keepdims=True))
    assert (np.abs(found - chain) < 5 * deviation + 1e-9).all()
    losses = -np.log(chain[drawn[:-2], drawn[1:-1], drawn[2:]])
    assert losses.mean() == pytest.approx(markov.entropy_rate(chain), abs=5 * losses.std() / 447)


def test_sample_depends_on_the_seed_only():
    chain = markov.random_chain()
    np.testing.assert_array_equal(markov.sample(chain, 50), markov.sample(chain, 50))
    assert not np.array_equal(markov.sample(chain, 50), markov.sample(chain, 50, seed=1))
    # The floor of every published result.
    assert markov.entropy_rate(chain) == pytest.approx(1.25046595845, rel=1e-9)
