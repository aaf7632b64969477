"""Hashes tell trees of arrays apart."""

import numpy as np
import pytest

from experiments.runtime import hashes


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.array([1.0, 3.0]), "b": np.zeros((1, 2))},
        {"a": np.array([1.0, 2.0]), "b": np.zeros((2, 1))},
        {"a": np.array([1.0, 2.0]), "c": np.zeros((1, 2))},
        {"a": np.array([1.0, 2.0], np.float32), "b": np.zeros((1, 2))},
    ],
    ids=["value", "shape", "name", "dtype"],
)
def test_hash_distinguishes_trees(other):
    tree = {"a": np.array([1.0, 2.0]), "b": np.zeros((1, 2))}
    assert hashes.tree_sha256(tree) == hashes.tree_sha256(dict(reversed(tree.items())))
    assert hashes.tree_sha256(tree) != hashes.tree_sha256(other)
