"""Looks up steps in tables; the results keep the sharding of the steps.

On a mesh with explicit axes, the default of `make_mesh`, indexing and `jnp.searchsorted` fail or
lose the sharding of sharded or mapped steps. There, the functions compare each step with every
entry of the table, and XLA fuses the comparisons with the sum.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def take(table: ArrayLike, index: jax.Array) -> jax.Array:
    """Returns `table[index]`.

    Args:
      table: Array of shape `[n]`.
      index: Integers from 0 to `n - 1`, of any shape.

    >>> print(take(jnp.array([5, 6, 7]), jnp.array([[2, 0]])))
    [[7 5]]
    """
    table = jnp.asarray(table)
    if not (_has_explicit_axes(index) or _has_explicit_axes(table)):
        return table[index]
    entries = _with_leading_axes(table, index.ndim)
    positions = _with_leading_axes(jnp.arange(table.shape[0], dtype=index.dtype), index.ndim)
    is_entry = jnp.expand_dims(index, -1) == positions
    return jnp.sum(jnp.where(is_entry, entries, jnp.zeros_like(entries)), -1, dtype=table.dtype)


def count_at_most(table: ArrayLike, values: jax.Array) -> jax.Array:
    """Counts the entries of a sorted table that are at most each value.

    Args:
      table: Sorted array of shape `[n]`.
      values: Values of any shape, with the dtype of the table.

    Returns:
      int32 numbers from 0 to `n`, with the shape of `values`.

    >>> print(count_at_most(jnp.array([10, 20, 20]), jnp.array([9, 10, 25])))
    [0 1 3]
    """
    table = jnp.asarray(table)
    if not _has_explicit_axes(values):
        return jnp.searchsorted(table, values, side="right")
    entries = _with_leading_axes(table, values.ndim)
    return jnp.sum(entries <= jnp.expand_dims(values, -1), -1, dtype=jnp.int32)


def _with_leading_axes(table: jax.Array, num_axes: int) -> jax.Array:
    return jnp.expand_dims(table, tuple(range(num_axes)))


def _has_explicit_axes(array: jax.Array) -> bool:
    """Returns whether an array is on a mesh with explicit axes."""
    typeof = getattr(jax, "typeof", None)  # older versions of JAX have no explicit axes
    sharding = None if typeof is None else getattr(typeof(array), "sharding", None)
    return sharding is not None and bool(getattr(sharding.mesh, "explicit_axes", ()))
