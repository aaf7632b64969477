"""Hashes of arrays, by which checkpoints and summaries know them."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def leaves(tree: Any) -> dict[str, Any]:
    """Returns the arrays of a tree, or their shapes, by path, dtype, and shape.

    Args:
      tree: pytree of arrays, or of `jax.ShapeDtypeStruct`.
    """
    return {
        f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}": leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def leaf_sha256s(tree: Any) -> dict[str, str]:
    """Returns a hash of every array in a tree, by the names of `leaves`.

    Args:
      tree: pytree of arrays; a PRNG key is hashed by its data.
    """
    return {
        name: tree_sha256(
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        )
        for name, leaf in leaves(tree).items()
    }


def tree_sha256(tree: Any) -> str:
    """Returns one hash of the paths, dtypes, shapes, and bytes of all arrays in a tree.

    Args:
      tree: pytree of arrays.

    Returns:
      64 hexadecimal digits.

    >>> tree_sha256({"a": np.zeros(2)}) == tree_sha256({"a": np.zeros(2)})
    True
    >>> tree_sha256({"a": np.zeros(2)}) == tree_sha256({"a": np.zeros(2, np.float32)})
    False
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
