"""Checks on the arguments of a schedule, made once, when it is constructed.

Each raises one sentence that names the parameter, its value and what is allowed. Values that are
being traced by a JAX transformation have no number yet, so of those only rank and type are checked.
What is returned is a Python number where it is known: a float is a value whose limits were checked.
"""

from collections.abc import Callable, Sequence
from typing import TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

MAX_STEPS = 2**31 - 1
# Eq. (4) multiplies its range by up to 1e8, next to base 1: float32 must hold that too.
_LARGEST = 1e30
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def _is_traced(value: object) -> TypeGuard[jax.Array]:
    """Whether `value` is a placeholder inside jit, vmap or grad, without a number of its own."""
    return isinstance(value, jax.core.Tracer)


def steps(name: str, value: object, *, least: int = 1) -> int:
    """Returns a number of steps as an int, from `least` to the largest int32."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be an int, a number of steps, got {value!r}.")
    if not isinstance(value, int | np.integer) or not least <= value <= MAX_STEPS:
        raise ValueError(f"{name} must be a whole number from {least} to {MAX_STEPS}, got {value}.")
    return int(value)


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
) -> float | jax.Array:
    """Returns a scalar as a finite float inside the limits, or as it came if it is traced."""
    allowed = int | float | np.number | np.ndarray | jax.Array
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise TypeError(f"{name} must be a real number, got {value!r}.")
    if np.ndim(value) != 0:
        raise ValueError(f"{name} must be a scalar, got an array of shape {np.shape(value)}.")
    if not isinstance(value, int | float):
        is_real = jnp.issubdtype(value.dtype, np.floating) or jnp.issubdtype(
            value.dtype, np.integer
        )
        if not is_real:
            raise TypeError(f"{name} must be a real number, got one of type {value.dtype}.")
    if _is_traced(value):
        return value
    # Written so that NaN, which compares false with everything, is refused; an int is compared
    # before it is made a float because it may be too large for one.
    known = value if isinstance(value, int) else float(value)
    if not abs(known) <= _LARGEST:
        raise ValueError(f"{name} must be finite, at most {_LARGEST:g} in size, got {value}.")
    # Limits are checked on what float32 makes of the number, for that is what is computed with.
    rounded = float(np.float32(known))
    if above is not None and not rounded > above:
        raise ValueError(f"{name} must be above {above:g}, got {value}.")
    if least is not None and not rounded >= np.float32(least):
        raise ValueError(f"{name} must be at least {least:g}, got {value}.")
    if most is not None and not rounded <= np.float32(most):
        raise ValueError(f"{name} must be at most {most:g}, got {value}.")
    return float(known)


def ordered(low_name: str, low: float | jax.Array, high_name: str, high: float | jax.Array) -> None:
    """Refuses a lower bound above the upper one, where both are known."""
    if isinstance(low, float) and isinstance(high, float) and low > high:
        raise ValueError(f"{low_name} must not be above {high_name}={high}, got {low}.")


def concrete(
    name: str, value: object, *, above: float | None = None, least: float | None = None
) -> float:
    """Returns a number that shapes the program, and so must be known when that is built."""
    if _is_traced(value):
        raise TypeError(f"{name} must be a Python number, known when tracing, got {value!r}.")
    return float(number(name, value, above=above, least=least))


def choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Refuses a word that is not one of `allowed`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")


def function(name: str, value: Callable[..., ArrayLike]) -> None:
    """Refuses what cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}.")


def boundaries(name: str, values: object, *, after: int = 0) -> list[int]:
    """Returns increasing step counts, all of them past `after`."""
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise TypeError(f"{name} must be a sequence of step counts, got {values!r}.")
    if np.ndim(values) != 1:
        raise ValueError(f"{name} must have one dimension, got {values!r}.")
    checked = [steps(f"{name}[{i}]", value) for i, value in enumerate(values)]
    if any(low >= high for low, high in zip([after, *checked], checked, strict=False)):
        raise ValueError(f"{name} must increase and lie past step {after}, got {checked}.")
    return checked


def array(name: str, values: object) -> np.ndarray | jax.Array:
    """Returns finite float32 numbers of shape [num_steps], or a traced array of that shape."""
    if _is_traced(values):
        shape = values.shape
    else:
        try:
            numbers = np.asarray(values, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{name} must be an array of numbers, got {values!r}.") from None
        shape = numbers.shape
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"{name} must have shape [num_steps], num_steps >= 1, got {shape}.")
    if _is_traced(values):
        return values
    good = np.abs(numbers) <= _FLOAT32_MAX
    if not good.all():
        worst = int(np.argmin(good))
        raise ValueError(f"{name} must be finite in float32, got {numbers[worst]} at {worst}.")
    return numbers.astype(np.float32)
