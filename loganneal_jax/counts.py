"""Converts step counts to nonnegative int32, so that no count wraps around or is rounded.

Counts are integers of any width. Counts above the largest int32 saturate, and negative counts
become 0, because `optax.join_schedules` evaluates every branch, even at negative counts.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

MAX_COUNT = 2**31 - 1


def as_count(count: ArrayLike) -> jax.Array:
    """Converts a step count of any integer type to int32 between 0 and `MAX_COUNT`.

    Args:
      count: An integer, or an array or nested list of integers.

    Returns:
      An int32 array with the shape of `count`.

    Raises:
      TypeError: If `count` does not consist of integers.

    >>> print(as_count(np.array([-1, 3, 2**40])))
    [         0          3 2147483647]
    """
    integers = as_integers(count)
    if isinstance(integers, np.ndarray):
        return jnp.asarray(integers)
    if integers.dtype.itemsize > 4 or integers.dtype == jnp.uint32:
        integers = jnp.minimum(integers, MAX_COUNT)
        # The comparison is made before the conversion, which wraps around for a wide integer.
        return jnp.maximum(integers, 0).astype(jnp.int32)
    return jnp.maximum(integers.astype(jnp.int32), 0)


def as_integers(count: Any) -> np.ndarray | jax.Array:
    """Checks a count and returns it as an array of integers, without computing on a device.

    A count on the host becomes an int32 NumPy array between 0 and `MAX_COUNT`. A JAX array or a
    tracer is returned unchanged.
    """
    if type(count) is int:
        return np.asarray(min(max(count, 0), MAX_COUNT), np.int32)
    if isinstance(count, list | tuple) and any(
        isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(count)
    ):
        count = jnp.asarray(count)
    elif not isinstance(count, jax.Array) and hasattr(count, "__jax_array__"):
        count = count.__jax_array__()  # such as a flax.nnx.Variable
    if isinstance(count, jax.Array):
        if not jnp.issubdtype(count.dtype, jnp.integer):
            raise TypeError(_message(f"an array of dtype {count.dtype}"))
        return count
    values = _as_numpy(count)
    if values.dtype == object and all(type(value) is int for value in values.flat):
        return _saturate(values)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise TypeError(_message(repr(count)))
    if values.dtype.itemsize < 4:  # MAX_COUNT does not fit in these types
        values = values.astype(np.int32)
    return _saturate(values)


def _saturate(values: np.ndarray) -> np.ndarray:
    saturated: np.ndarray = np.clip(values, 0, MAX_COUNT).astype(np.int32)
    return saturated


def _as_numpy(count: object) -> np.ndarray:
    try:
        return np.asarray(count)
    except (TypeError, ValueError):
        raise TypeError(_message(repr(count))) from None


def _message(got: str) -> str:
    return (
        f"count must be an integer or an array of integers, got {got}; "
        "convert it first, for example with int(count) or jnp.int32(count)."
    )
