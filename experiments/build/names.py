"""Looks up the names in a config: a known name, or `package.module:attribute`."""

import importlib
from collections.abc import Collection, Mapping
from typing import TypeVar

from experiments.build.ranges import shown
from experiments.errors import UserError

Named = TypeVar("Named")


def check(field: str, name: str, known: Collection[str]) -> None:
    """Refuses a name that is not known.

    Args:
      field: dotted name of the config field, for the error message.
      name: the name.
      known: the names that the module that owns them defines.

    Raises:
      UserError: the name is unknown.

    >>> check("model.variant", "cifr", ("cifar", "imagenet"))
    Traceback (most recent call last):
    experiments.errors.UserError: model.variant='cifr' is unknown; choose from cifar, imagenet
    """
    if name not in known:
        raise UserError(f"{field}={shown(name)} is unknown; choose from {', '.join(known)}")


def choose(field: str, name: str, known: Mapping[str, Named]) -> Named:
    """Returns the value of a known name.

    Args:
      field: dotted name of the config field, for the error message.
      name: a key of `known`.
      known: the dict of the module that owns these names.

    Returns:
      The value in `known`.

    Raises:
      UserError: the name is unknown.

    >>> choose("model.dtype", "float32", {"float32": 1, "bfloat16": 2})
    1
    """
    check(field, name, known)
    return known[name]


def resolve(field: str, name: str, known: Mapping[str, Named]) -> Named:
    """Returns the value of a known name, or imports `package.module:attribute`.

    Args:
      field: dotted name of the config field, for the error message.
      name: a key of `known`, or the place of an object that the user defines.
      known: the dict of the module that owns these names.

    Returns:
      The value in `known`, or the imported attribute.

    Raises:
      UserError: the name is unknown, the attribute cannot be imported, or it is not callable
        although the known values are.

    >>> resolve("optimizer.name", "sgd", {"sgd": 1})
    1
    >>> resolve("optimizer.name", "math:sqrt", {"sgd": 1})
    <built-in function sqrt>
    """
    module_name, colon, attribute = name.partition(":")
    if name in known:
        return known[name]
    if not colon:
        raise UserError(
            f"{field}={shown(name)} is unknown; choose from {', '.join(known)}, or name your own "
            "as package.module:attribute"
        )
    try:
        value = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # the module may raise anything while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{field}={shown(name)} cannot be imported: {reason}") from error
    if all(map(callable, known.values())) and not callable(value):
        raise UserError(
            f"{field}={shown(name)} has type {type(value).__name__}; it must be a function"
        )
    return value
