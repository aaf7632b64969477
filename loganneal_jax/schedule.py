"""Schedules as values: they can be printed, compared, hashed, pickled, and called cheaply.

A factory is a function that validates its arguments and returns a function from a count to values.
The decorator `returns_schedule` turns the result into a `Schedule`:

    @returns_schedule
    def double_schedule(schedule: ScheduleLike, factor: ArrayLike = 2.0) -> ScheduleFunction:
        '''Multiplies a schedule by a factor.'''
        arguments.schedule("schedule", schedule)
        factor = arguments.number("factor", factor)
        values = as_function(schedule)
        return lambda count: values(count) * jnp.asarray(factor, jnp.float32)

The inner function gets nonnegative int32 counts and must return float32 values of the same shape.
A factory may also return the `Schedule` of another factory. `as_function(schedule)` converts any
schedule, also of other libraries, to such an inner function. Factories are defined at the top
level of a module, so that `pickle` finds them by name.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from loganneal_jax import counts

# What a factory's body returns, and what the public functions accept as a schedule.
ScheduleFunction = Callable[[jax.Array], jax.Array]
ScheduleLike = Callable[[Any], ArrayLike]

_P = ParamSpec("_P")
_PRINTED_ELEMENTS = 20  # of an array, in a repr


class Schedule:
    """A learning-rate schedule: a pure function from a step count to a value.

    A schedule is an `optax.Schedule`. It maps an integer, or an array of integers of any shape, to
    float32 values of the same shape. Counts above the largest int32 saturate, and negative counts
    are treated as 0. Other counts, such as floats, raise a TypeError.

    A schedule is also a value. Its `repr` is the call that creates it. Schedules of the same
    factory with equal arguments are equal and have equal hashes, so passing one as a static
    argument of `jax.jit` traces once. Schedules can be pickled and copied. Functions among the
    arguments, such as schedules of other libraries, are compared by identity.

    Outside of a trace, a call runs one compiled function, which equal schedules share. Functions
    among the arguments must therefore be pure, as `jax.jit` requires.

    A schedule with traced arguments works inside the trace, but it has no hash.

    >>> from loganneal_jax import linear_decay_schedule
    >>> schedule = linear_decay_schedule(0.1, end_value=0.0, decay_steps=100)
    >>> schedule
    linear_decay_schedule(0.1, 0.0, 100)
    >>> print(schedule(50))
    0.05
    >>> schedule == linear_decay_schedule(0.1, 0.0, 100)
    True
    """

    _function: ScheduleFunction

    __slots__ = ("__weakref__", "_bound", "_factory", "_function", "_hash", "_is_traced", "_key")

    def __init__(
        self,
        factory: Callable[..., Schedule],
        bound: inspect.BoundArguments,
        function: ScheduleFunction,
    ) -> None:
        """Initializes a schedule; use a factory instead.

        Args:
          factory: The decorated factory.
          bound: Its arguments, including defaults.
          function: The function from counts to values.
        """
        for name, value in bound.arguments.items():
            bound.arguments[name] = _freeze(value)
        self._factory = factory
        self._bound = bound
        self._function = function._function if isinstance(function, Schedule) else function
        self._is_traced = any(map(_contains_tracer, bound.arguments.values()))
        self._key: Any = None
        self._hash: int | None = None

    @property
    def factory(self) -> Callable[..., Schedule]:
        """The factory that built the schedule."""
        return self._factory

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the factory by name, including defaults."""
        return types.MappingProxyType(self._bound.arguments)

    @property
    def __name__(self) -> str:
        return self._factory.__name__

    @property
    def __wrapped__(self) -> ScheduleFunction:
        # `inspect` finds the source and the signature of a schedule here.
        return self._function

    def __call__(self, count: ArrayLike) -> jax.Array:
        """Returns the value at each count, as float32 with the shape of `count`."""
        integers = counts.as_integers(count)
        if self._is_traced or isinstance(integers, jax.core.Tracer):
            return self._function(counts.as_count(integers))
        try:
            value: jax.Array = _evaluate(self, integers)
            return value
        except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
            # A function among the arguments needs concrete counts, as in `if count < 5`.
            return self._function(counts.as_count(integers))

    def __repr__(self) -> str:
        call: list[str] = []
        for parameter in inspect.signature(self._factory).parameters.values():
            value = self._bound.arguments[parameter.name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                call += map(_label, value)
            elif parameter.kind is parameter.VAR_KEYWORD:
                call += [f"{name}={_label(option)}" for name, option in value.items()]
            elif parameter.default is parameter.empty and parameter.kind is not (
                parameter.KEYWORD_ONLY
            ):
                call.append(_label(value))
            elif _comparable(value) != _comparable(_freeze(parameter.default)):
                call.append(f"{parameter.name}={_label(value)}")
        return f"{self._factory.__name__}({', '.join(call)})"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Schedule):
            return NotImplemented
        if self._is_traced or other._is_traced:
            return False
        return (
            self._factory is other._factory
            and hash(self) == hash(other)
            and self._identity() == other._identity()
        )

    def __hash__(self) -> int:
        if self._hash is None:
            if self._is_traced:
                traced = [k for k, v in self._bound.arguments.items() if _contains_tracer(v)]
                raise TypeError(
                    f"{self!r} has no hash, because {', '.join(traced)} is traced by a JAX "
                    "transformation; call the schedule inside the transformation, and do not pass "
                    "it to jax.jit or as a static argument."
                )
            self._hash = hash((self._factory, self._identity()))
        return self._hash

    def _identity(self) -> Any:
        """Returns what the arguments are compared and hashed by."""
        if self._key is None:
            self._key = _comparable(dict(self._bound.arguments))
        return self._key

    def __reduce__(self) -> tuple[Any, ...]:
        return _call, (self._factory, self._bound.args, self._bound.kwargs)

    def __copy__(self) -> Schedule:
        return self


def returns_schedule(make: Callable[_P, ScheduleFunction]) -> Callable[_P, Schedule]:
    """Decorates a factory so that it returns a `Schedule`, with the factory's own signature."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def factory(*args: _P.args, **kwargs: _P.kwargs) -> Schedule:
        function = make(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return Schedule(factory, bound, function)

    factory.__annotations__ = {**make.__annotations__, "return": Schedule}
    factory.__dict__["__signature__"] = signature.replace(return_annotation="Schedule")
    factory.__dict__["is_schedule_factory"] = True
    return factory


def as_function(schedule: ScheduleLike) -> ScheduleFunction:
    """Returns a function from nonnegative int32 counts to float32 values of the same shape.

    It runs a `Schedule` as part of the current trace. It calls any other schedule, and broadcasts
    the result if the schedule returns a scalar, as `optax.constant_schedule` does.
    """
    if isinstance(schedule, Schedule):
        return schedule._function

    def function(count: jax.Array) -> jax.Array:
        values = jnp.asarray(schedule(count), jnp.float32)
        if values.shape == count.shape:
            return values
        if values.shape == ():
            return jnp.full_like(count, values, dtype=jnp.float32)
        return jnp.broadcast_to(values, count.shape)

    return function


@functools.partial(jax.jit, static_argnums=0, inline=True)
def _evaluate(schedule: Schedule, count: jax.Array) -> jax.Array:
    return schedule._function(counts.as_count(count))


def _call(factory: Callable[..., Schedule], args: Any, kwargs: Any) -> Schedule:
    return factory(*args, **kwargs)


def _freeze(value: Any) -> Any:
    """Returns an argument as an immutable value, with arrays and scalars on the host."""
    if isinstance(value, list | tuple | range):
        return tuple(map(_freeze, value))
    if isinstance(value, dict):
        return {key: _freeze(item) for key, item in value.items()}
    if isinstance(value, jax.core.Tracer):
        return value
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        array = np.array(value)
        if array.ndim == 0 and jnp.issubdtype(array.dtype, np.floating):
            return float(array)
        if array.ndim == 0 and jnp.issubdtype(array.dtype, np.integer):
            return int(array)
        array.flags.writeable = False
        return array
    return value


def _contains_tracer(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(map(_contains_tracer, value))
    if isinstance(value, dict):
        return any(map(_contains_tracer, value.values()))
    if isinstance(value, functools.partial):
        return _contains_tracer(value.args) or _contains_tracer(value.keywords)
    return isinstance(value, jax.core.Tracer) or (isinstance(value, Schedule) and value._is_traced)


class _ByIdentity:
    """An object that equals only itself, whatever its own `==` says."""

    _function: ScheduleFunction

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def _comparable(value: Any) -> Any:
    """Converts a frozen argument to an object with the `==` and hash that schedules need."""
    if isinstance(value, Schedule | str | int | float | None) and not isinstance(value, bool):
        return value
    if isinstance(value, tuple):
        return tuple(map(_comparable, value))
    if isinstance(value, dict):
        return tuple((key, _comparable(item)) for key, item in value.items())
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, types.MethodType):
        return types.MethodType, value.__func__, _ByIdentity(value.__self__)
    if isinstance(value, functools.partial):
        parts = (value.func, _freeze(value.args), _freeze(value.keywords))
        return (functools.partial, *map(_comparable, parts))
    return _ByIdentity(value)


def _label(value: Any) -> str:
    """Returns the text of an argument in the `repr` of a schedule."""
    if isinstance(value, jax.core.Tracer):
        return f"<traced {value.dtype.name}{list(value.shape)}>"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_label, value))}]"
    if isinstance(value, np.ndarray):
        with np.printoptions(threshold=_PRINTED_ELEMENTS):
            elements = np.array2string(value, separator=", ", max_line_width=10**9)
        return f"np.array({elements.replace(chr(10), '')}, np.{value.dtype.name})"
    if isinstance(value, functools.partial):
        options = [f"{name}={_label(option)}" for name, option in value.keywords.items()]
        parts = [_label(value.func), *map(_label, value.args), *options]
        return f"functools.partial({', '.join(parts)})"
    if not callable(value) or isinstance(value, Schedule):
        return repr(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    name = f"{named.__module__}.{named.__qualname__}".removeprefix("loganneal_jax.")
    return name if named is value else f"<{name} object>"
