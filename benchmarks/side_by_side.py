"""Compares contenders in one run: each has its own process, and they take turns.

The speed of a machine varies from minute to minute. So contenders are compared by the ratio of
their times in the same round, and the median of these ratios over all rounds is reported.
"""

import contextlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

# From options to the function to time, which waits for its result and may return it.
Make = Callable[..., Callable[[], object]]


class Contender(NamedTuple):
    """A function to time; `make(**options)` builds it in a process of its own.

    Attributes:
      make: a function at the top level of a module. It imports slow modules inside its body.
      options: keyword arguments of `make`.
      steps: number of training steps in one call; times are per step.
    """

    make: Make
    options: Mapping[str, Any]
    steps: int = 1


def measure(contenders: Mapping[str, Contender], *, rounds: int) -> dict[str, list[float]]:
    """Times each contender once per round, after a warmup call.

    Args:
      contenders: contenders by name; they take turns in this order.
      rounds: number of rounds.

    Returns:
      Seconds per step in each round, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with contextlib.ExitStack() as stack:
        # Start the processes one by one, so that they do not slow down each other's warmup.
        calls = {
            name: stack.enter_context(_process(contender)) for name, contender in contenders.items()
        }
        for _ in range(rounds):
            for name, call in calls.items():
                seconds[name].append(call())
    return seconds


def ratio(seconds: Sequence[float], other: Sequence[float]) -> float:
    """Returns the median over rounds of the other contender's time divided by the first one's.

    >>> ratio([1.0, 2.0, 1.0], [2.0, 8.0, 2.5])
    2.5
    """
    return statistics.median(theirs / ours for ours, theirs in zip(seconds, other, strict=True))


def table(seconds: Mapping[str, Sequence[float]], *, unit: str, scale: float = 1.0) -> str:
    """Returns a Markdown table with each contender's time, and its ratio to that of the first.

    Args:
      seconds: the result of `measure`.
      unit: column heading of the times.
      scale: factor from seconds to that unit.

    Returns:
      The table.
    """
    first = next(iter(seconds))
    rows = [f"| | {unit}, median (min to max) | time relative to {first} |", "|---|---|---|"]
    for name, values in seconds.items():
        times = [scale * value for value in values]
        relative = "" if name == first else f"{ratio(seconds[first], values):.2f}"
        rows.append(
            f"| {name} | {_number(statistics.median(times))} "
            f"({_number(min(times))} to {_number(max(times))}) | {relative} |"
        )
    return "\n".join(rows)


def _number(value: float) -> str:
    """Formats a value with three significant digits and no exponent."""
    return f"{float(f'{value:.3g}'):g}"


def installed(*packages: str) -> list[str]:
    """Returns the packages that are installed, out of those named."""
    return [name for name in packages if importlib.util.find_spec(name)]


def environment(*packages: str) -> str:
    """Returns one line about the machine, Python, and the versions of packages."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return (
        f"{platform.machine()} CPU, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"{versions}"
    )


@contextlib.contextmanager
def _process(contender: Contender) -> Iterator[Callable[[], float]]:
    """Starts a contender's process, and yields a function that returns its seconds per step."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, contender), daemon=True)
    process.start()
    there.close()
    here.recv()

    def call() -> float:
        here.send("go")
        return here.recv()

    try:
        yield call
    finally:
        process.kill()
        process.join()


def _serve(connection: Connection, contender: Contender) -> None:
    """Warms up, then times one call per message."""
    function = contender.make(**contender.options)
    function()
    connection.send("ready")
    while True:
        connection.recv()
        started = time.perf_counter()
        function()
        connection.send((time.perf_counter() - started) / contender.steps)
