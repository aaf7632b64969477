"""Finds the source code that a cached result depends on."""

import inspect
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any


def code_of(functions: Iterable[Callable[..., Any]], modules: Iterable[str] = ()) -> str | None:
    """Returns the source code of the modules that define functions, and of other modules.

    Args:
      functions: functions, or partial applications of functions.
      modules: names of the other modules.

    Returns:
      The code, or None if it is not available for all of them, as for a function written in C.

    >>> "def code_of(" in code_of([code_of])
    True
    >>> code_of([len]) is None
    True
    """
    names = set(modules)
    for function in functions:
        while isinstance(function, partial):
            function = function.func
        names.add(getattr(function, "__module__", None) or "builtins")
    try:
        return "\n".join(inspect.getsource(sys.modules[name]) for name in sorted(names))
    except (KeyError, OSError, TypeError):
        return None
