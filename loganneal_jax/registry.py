"""Builds schedules by name, for configs and command lines.

The dicts `named.SCHEDULES` and `named.ALIASES` list the names.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from typing import Any

from jax.core import Tracer
from jax.typing import ArrayLike

from loganneal_jax import arguments, standard, warmups
from loganneal_jax.named import ALIASES, SCHEDULES
from loganneal_jax.schedule import Schedule

_START = ("value", "init_value", "peak_value")  # the parameters that `peak_value` sets
_RUN = (*_START, "end_value", "decay_steps", "total_steps", "warmup_steps")
_WARMUP_OPTIONS = {"warmup": "linear", "warmup_init_value": 0.0}
_NOT_PURE = (
    "depends on the loss and is not a function of the step; use optax.contrib.reduce_on_plateau"
)


def make_schedule(
    name: str,
    *,
    peak_value: ArrayLike,
    total_steps: int,
    warmup_steps: int = 0,
    end_value: ArrayLike = 0.0,
    end_fraction: ArrayLike | None = None,
    **options: Any,
) -> Schedule:
    """Builds the schedule of a given name for a run of `total_steps` steps.

    The schedule warms up for `warmup_steps` steps, then decays for the remaining steps. The result
    is the schedule of the factories that the name stands for, so it equals one built by hand.

    Args:
      name: A name or an alias in `loganneal_jax.named`, such as "cosine",
        "wsd", or "onecycle". Case does not matter, and "-" is the same as "_".
      peak_value: Value after the warmup, a scalar.
      total_steps: Number of steps of the run, including the warmup. Schedules without an end, such
        as "constant" and "inverse_sqrt", do not depend on it.
      warmup_steps: Number of warmup steps; 0 means no warmup.
      end_value: Last value, a scalar. Schedules without an end refuse it.
      end_fraction: Last value as a fraction of `peak_value`, a scalar, instead of `end_value`.
      **options: Options of the name, which an error about an unknown one lists. Every schedule has
        `warmup_init_value`, and all that have no warmup of their own have `warmup`, the kind of
        warmup of `with_warmup`.

    Returns:
      A schedule that maps an integer count of any shape to float32 values of the same shape.

    Raises:
      ValueError: If the name or an option is unknown, an option is missing, or a value is outside
        its range or has no effect.
      TypeError: If an argument has the wrong type.

    >>> make_schedule("cosine", peak_value=0.1, total_steps=100, warmup_steps=10)
    with_warmup(cosine_decay_schedule(0.1, 0.0, 90), 10)
    >>> make_schedule("wsd", peak_value=0.1, total_steps=100, warmup_steps=10, end_fraction=0.5)
    trapezoid_schedule(0.1, 0.05, 100, warmup_steps=10, cooldown_steps=20)
    """
    known = resolve(name)
    factory = SCHEDULES[known]
    end = _end_value(peak_value, end_value, end_fraction)
    total_steps = arguments.steps("total_steps", total_steps)
    warmup_steps = arguments.steps("warmup_steps", warmup_steps, minimum=0)
    parameters = inspect.signature(factory).parameters
    _check_options(known, options)
    run: dict[str, Any] = dict.fromkeys(_START, peak_value)
    run |= {"end_value": end, "total_steps": total_steps, "warmup_steps": warmup_steps}
    if not has_end_value(known) and not (end_fraction is None and _is_zero(end)):
        raise ValueError(
            f"The schedule {known!r} has no end value; leave end_value at 0 and end_fraction at "
            f"None, got end_value={end_value} and end_fraction={end_fraction}."
        )
    if "decay_steps" in parameters:
        if warmup_steps >= total_steps:
            raise ValueError(
                f"warmup_steps must be less than total_steps={total_steps}, got {warmup_steps}."
            )
        run["decay_steps"] = total_steps - warmup_steps
    run = {key: value for key, value in run.items() if key in parameters}
    if "warmup_steps" in parameters:
        return factory(**run, **options)
    warmup = {key: options.pop(key, default) for key, default in _WARMUP_OPTIONS.items()}
    schedule = factory(**run, **options)
    if warmup_steps == 0:
        for key, default in _WARMUP_OPTIONS.items():
            arguments.unused(key, warmup[key], default, needs="warmup_steps of at least 1")
        return schedule
    return warmups.with_warmup(
        schedule, warmup_steps, warmup["warmup_init_value"], warmup=warmup["warmup"]
    )


def resolve(name: str) -> str:
    """Returns the name in `SCHEDULES` that a name or alias stands for.

    Args:
      name: A name or an alias.

    Returns:
      A key of `SCHEDULES`.

    Raises:
      ValueError: If the name is unknown. The error lists the names and suggests the closest.
      TypeError: If `name` is not a string.

    >>> resolve("SGDR"), resolve("warmup-cosine")
    ('cosine_restarts', 'cosine')
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string, got {name!r}.")
    key = name.strip().lower().replace("-", "_").replace(" ", "_")
    if "plateau" in key:
        raise ValueError(f"name={name!r} {_NOT_PURE}.")
    key = ALIASES.get(key, key)
    if key not in SCHEDULES:
        close = difflib.get_close_matches(key, [*SCHEDULES, *ALIASES], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"name={name!r} is not a schedule; choose from {', '.join(SCHEDULES)}; aliases are "
            f"{', '.join(ALIASES)}.{hint}"
        )
    return key


def options_of(name: str) -> dict[str, Any]:
    """Returns the options of a schedule and their defaults.

    Args:
      name: A name or an alias.

    Returns:
      Option -> default, or `inspect.Parameter.empty` if the option is required.

    Raises:
      ValueError: If the name is unknown.

    >>> options_of("cosine")
    {'exponent': 1.0, 'k': 1.0, 'warmup': 'linear', 'warmup_init_value': 0.0}
    """
    factory = SCHEDULES[resolve(name)]
    parameters = inspect.signature(factory).parameters
    bound = factory.keywords if isinstance(factory, functools.partial) else {}
    hidden = (*_RUN, "end_fraction", *bound)
    options = {key: p.default for key, p in parameters.items() if key not in hidden}
    return options if "warmup_steps" in parameters else options | _WARMUP_OPTIONS


def has_end_value(name: str) -> bool:
    """Returns whether a schedule has an end value, which `end_value` and `end_fraction` set.

    Args:
      name: A name or an alias.

    Returns:
      False for schedules without an end, such as "constant", and for those that end at 0.

    Raises:
      ValueError: If the name is unknown.

    >>> has_end_value("cosine"), has_end_value("constant")
    (True, False)
    """
    return "end_value" in inspect.signature(SCHEDULES[resolve(name)]).parameters


def _check_options(name: str, options: dict[str, Any]) -> None:
    known = options_of(name)
    for option in options:
        if option not in known:
            raise ValueError(
                f"{option!r} is not an option of the schedule {name!r}; "
                f"choose from {', '.join(known)}."
            )
    missing = [key for key, default in known.items() if default is inspect.Parameter.empty]
    for option in missing:
        if option not in options:
            raise ValueError(f"The schedule {name!r} needs the option {option!r}.")


def _end_value(
    peak_value: ArrayLike, end_value: ArrayLike, end_fraction: ArrayLike | None
) -> ArrayLike:
    if end_fraction is None:
        return end_value
    if not _is_zero(end_value):
        raise ValueError(
            "Set end_value or end_fraction and leave the other at its default, "
            f"got end_value={end_value} and end_fraction={end_fraction}."
        )
    return standard.resolve_end("peak_value", peak_value, None, end_fraction)


def _is_zero(value: ArrayLike) -> bool:
    """Returns whether a number is 0. A traced number counts as another one."""
    return not isinstance(value, Tracer) and bool(value == 0)
