"""Validates the arguments of schedule factories.

Validation runs once, when a schedule is constructed. Each error names the parameter, its value, and
the allowed range. A value traced by a JAX transformation has no concrete number yet, so only its
rank and dtype are checked. Concrete numbers are returned as Python floats, so a float is always a
value whose range was checked.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np

MAX_STEPS = 2**31 - 1
# For bases close to 1, eq. (4) scales the range by up to 1e8, and the result must fit in float32.
MAX_MAGNITUDE = 1e30
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def _is_traced(value: object) -> TypeGuard[jax.Array]:
    """Returns whether `value` is a tracer inside jit, vmap, or grad."""
    return isinstance(value, jax.core.Tracer)


def steps(name: str, value: object, *, minimum: int = 1) -> int:
    """Returns a number of steps as an int between `minimum` and the largest int32.

    An integer scalar of NumPy or JAX counts as an int.
    """
    _check_not_traced(name, value)
    if isinstance(value, np.ndarray | jax.Array) and np.ndim(value) == 0:
        value = np.asarray(value)[()]
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be an int (a number of steps), got {value!r}.")
    if not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be an int, got {value}; convert it with int() or round().")
    if not minimum <= value <= MAX_STEPS:
        raise ValueError(f"{name} must be an int between {minimum} and {MAX_STEPS}, got {value}.")
    return int(value)


def number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> float | jax.Array:
    """Returns a scalar as a finite float within the given limits.

    A traced scalar is returned unchanged.
    """
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
            raise TypeError(f"{name} must be a real number, got an array of dtype {value.dtype}.")
    if _is_traced(value):
        return value
    # The negated comparison also rejects NaN. A Python int is compared before the conversion to
    # float, which overflows for large ints.
    concrete = value if isinstance(value, int) else float(value)
    if not abs(concrete) <= MAX_MAGNITUDE:
        raise ValueError(
            f"{name} must be finite and at most {MAX_MAGNITUDE:g} in magnitude, got {value}."
        )
    # Schedules compute in float32, so check the limits after rounding to float32.
    rounded = float(np.float32(concrete))
    if above is not None and not rounded > above:
        raise ValueError(f"{name} must be above {above:g}, got {value}.")
    if minimum is not None and not rounded >= np.float32(minimum):
        raise ValueError(f"{name} must be at least {minimum:g}, got {value}.")
    if maximum is not None and not rounded <= np.float32(maximum):
        raise ValueError(f"{name} must be at most {maximum:g}, got {value}.")
    return float(concrete)


def ordered(low_name: str, low: float | jax.Array, high_name: str, high: float | jax.Array) -> None:
    """Raises a ValueError if `low > high` and both are concrete."""
    if isinstance(low, float) and isinstance(high, float) and low > high:
        raise ValueError(f"{low_name} must not be above {high_name}={high}, got {low}.")


def static_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> float:
    """Returns a number that determines the program's structure, so it cannot be traced."""
    _check_not_traced(name, value)
    return float(number(name, value, above=above, minimum=minimum, maximum=maximum))


def unused(name: str, value: Any, default: object, *, needs: str) -> None:
    """Raises a ValueError if an argument without effect differs from its default.

    Args:
      name: Name of the argument.
      value: Its value.
      default: Its default, a string, a number, or None.
      needs: What gives the argument an effect, such as "warmup_steps of at least 1".
    """
    if value is default:
        return
    if not _is_traced(value) and np.ndim(value) == 0 and np.asarray(value) == default:
        return
    raise ValueError(
        f"{name} must be left at its default, {default!r}, because it has no effect without "
        f"{needs}, got {value!r}."
    )


def warmup(warmup_steps: object, warmup_init_value: object) -> tuple[int, float | jax.Array]:
    """Returns the number of steps and the initial value of a linear warmup, validated."""
    num_steps = steps("warmup_steps", warmup_steps, minimum=0)
    init_value = number("warmup_init_value", warmup_init_value)
    if num_steps == 0:
        unused("warmup_init_value", init_value, 0.0, needs="warmup_steps of at least 1")
    return num_steps, init_value


def choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Raises an error if `value` is not one of the strings in `allowed`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}.")


def schedule(name: str, value: object) -> None:
    """Raises a TypeError if `value` is not a function of a step count."""
    _function(name, value, "a function of the step count", (0,))


def shape(name: str, value: object) -> None:
    """Raises a TypeError if `value` is not a function of the elapsed and remaining steps."""
    _function(name, value, "a function of the elapsed and remaining steps", (0, 0))


def schedules(name: str, values: object) -> None:
    """Raises a TypeError if `values` is not a sequence of functions of a step count."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must be a sequence of schedules, got {values!r}.")
    for i, value in enumerate(values):
        schedule(f"{name}[{i}]", value)


def boundaries(name: str, values: object, *, after: int = 0, repeats: bool = False) -> list[int]:
    """Returns increasing step counts, all greater than `after`.

    They increase strictly, unless `repeats` allows equal ones.
    """
    _check_not_traced(name, values)
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray | jax.Array):
        raise TypeError(f"{name} must be a sequence of step counts, got {values!r}.")
    if np.ndim(values) != 1:
        raise ValueError(f"{name} must be one-dimensional, got {values!r}.")
    values = np.asarray(values) if isinstance(values, jax.Array) else values
    checked = [steps(f"{name}[{i}]", value) for i, value in enumerate(values)]
    if repeats and sorted(checked) == checked and all(value > after for value in checked[:1]):
        return checked
    if any(low >= high for low, high in zip([after, *checked], checked, strict=False)):
        order = "must not decrease" if repeats else "must be strictly increasing"
        raise ValueError(f"{name} {order} and must be greater than {after}, got {checked}.")
    return checked


def array(name: str, values: object) -> np.ndarray | jax.Array:
    """Returns finite values as a float32 array of shape [num_steps].

    A traced array of that shape is returned unchanged.
    """
    if _is_traced(values):
        shape = values.shape
    else:
        try:
            numbers = np.asarray(values, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise TypeError(f"{name} must be an array of numbers, got {values!r}.") from None
        shape = numbers.shape
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"{name} must have shape [num_steps] with num_steps >= 1, got {shape}.")
    if _is_traced(values):
        return values
    is_finite = np.abs(numbers) <= _FLOAT32_MAX
    if not is_finite.all():
        index = int(np.argmin(is_finite))
        raise ValueError(
            f"{name} must be finite in float32, got {numbers[index]} at index {index}."
        )
    return numbers.astype(np.float32)


def _check_not_traced(name: str, value: object) -> None:
    if _is_traced(value):
        raise TypeError(
            f"{name} must be a Python number, because its value is needed at trace time, "
            f"got {value!r}."
        )


def _function(name: str, value: object, kind: str, arguments: tuple[Any, ...]) -> None:
    """Raises a TypeError if `value` cannot be called with the given arguments."""
    if not callable(value):
        raise TypeError(f"{name} must be {kind}, got {value!r}.")
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # some builtins have no signature
        return
    try:
        signature.bind(*arguments)
        is_factory = hasattr(value, "is_schedule_factory")
    except TypeError:
        is_factory = True
    if is_factory:
        called = getattr(value, "__name__", repr(value))
        raise TypeError(
            f"{name} must be {kind}, got {value!r}, which needs other arguments; "
            f"if it is a factory, pass what it returns: {called}(...)."
        )
