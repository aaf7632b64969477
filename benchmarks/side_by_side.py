"""Compares contenders in one run: each has its own process, and they take turns.

The speed of a machine varies from minute to minute. So contenders are compared by the ratio of
their times in the same round, and the median of these ratios over all rounds is reported.
"""

import contextlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import pathlib
import platform
import statistics
import sys
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
      may_fail: whether an exception in its warmup leaves it out instead of ending the benchmark.
    """

    make: Make
    options: Mapping[str, Any]
    steps: int = 1
    may_fail: bool = False


class Measured(NamedTuple):
    """What was measured.

    Attributes:
      seconds: seconds per step in each round, by name of the contender.
      peak_bytes: largest resident memory of its process during the rounds, by name. Empty where
        the system is not Linux.
      failures: message of its exception, by name of each contender that was left out.
    """

    seconds: dict[str, list[float]]
    peak_bytes: dict[str, int]
    failures: dict[str, str]


class _Failed(Exception):
    """The warmup of a contender raised an exception."""


def measure(contenders: Mapping[str, Contender], *, rounds: int) -> Measured:
    """Times each contender once per round, after a warmup call.

    Args:
      contenders: contenders by name; they take turns in this order.
      rounds: number of rounds.

    Returns:
      Times, memory, and failures.
    """
    calls: dict[str, Callable[[], tuple[float, int | None]]] = {}
    failures: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        # Start the processes one by one, so that they do not slow down each other's warmup.
        for name, contender in contenders.items():
            try:
                calls[name] = stack.enter_context(_process(contender))
                print(f"{name} is ready", file=sys.stderr, flush=True)
            except _Failed as failure:
                if not contender.may_fail:
                    raise
                failures[name] = str(failure)
        seconds: dict[str, list[float]] = {name: [] for name in calls}
        peak_bytes: dict[str, int] = {}
        for number in range(1, rounds + 1):
            for name, call in calls.items():
                elapsed, peak = call()
                seconds[name].append(elapsed)
                print(f"round {number}, {name}: {elapsed:.4g} s", file=sys.stderr, flush=True)
                if peak is not None:
                    peak_bytes[name] = peak
    return Measured(seconds, peak_bytes, failures)


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
        relative = "" if name == first else f"{ratio(seconds[first], values):.2f}"
        rows.append(f"| {name} | {_median_and_range(values, scale)} | {relative} |")
    return "\n".join(rows)


def memory_table(measured: Measured, *, unit: str, scale: float = 1.0) -> str:
    """Returns a Markdown table with each contender's time and memory.

    Args:
      measured: the result of `measure`.
      unit: column heading of the times.
      scale: factor from seconds to that unit.

    Returns:
      The table; a contender that failed has the first line of its message.
    """
    rows = [f"| | {unit}, median (min to max) | peak memory, MB |", "|---|---|---|"]
    for name, values in measured.seconds.items():
        peak = measured.peak_bytes.get(name)
        memory = "" if peak is None else f"{peak / 1e6:.0f}"
        rows.append(f"| {name} | {_median_and_range(values, scale)} | {memory} |")
    for name, message in measured.failures.items():
        rows.append(f"| {name} | failed: {message} | |")
    return "\n".join(rows)


def fastest(seconds: Mapping[str, Sequence[float]]) -> str:
    """Returns the name of the contender with the smallest median.

    >>> fastest({"a": [2.0, 2.0, 2.0], "b": [1.0, 1.5, 9.0]})
    'b'
    """
    return min(seconds, key=lambda name: statistics.median(seconds[name]))


def _median_and_range(values: Sequence[float], scale: float) -> str:
    times = [scale * value for value in values]
    return f"{_number(statistics.median(times))} ({_number(min(times))} to {_number(max(times))})"


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
def _process(contender: Contender) -> Iterator[Callable[[], tuple[float, int | None]]]:
    """Starts a contender's process, and yields a function that measures one call.

    The function returns seconds per step, and the largest resident memory since the warmup.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, contender), daemon=True)
    process.start()
    there.close()

    def call() -> tuple[float, int | None]:
        here.send("go")
        return here.recv()

    try:
        failure = here.recv()
        if failure is not None:
            raise _Failed(failure)
        yield call
    finally:
        process.kill()
        process.join()


def _serve(connection: Connection, contender: Contender) -> None:
    """Warms up, then measures one call per message."""
    try:
        function = contender.make(**contender.options)
        function()
    except Exception as exception:
        lines = str(exception).strip().splitlines() or [""]
        connection.send(f"{type(exception).__name__}: {lines[0]}")
        raise
    _forget_peak()
    connection.send(None)
    while True:
        connection.recv()
        started = time.perf_counter()
        function()
        seconds = (time.perf_counter() - started) / contender.steps
        connection.send((seconds, _peak_bytes()))


def _forget_peak() -> None:
    """Makes `_peak_bytes` start anew, so that it leaves out the memory that compilation takes."""
    if sys.platform == "linux":
        pathlib.Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int | None:
    """Returns the largest resident memory of this process, or None if the system is not Linux."""
    if sys.platform != "linux":
        return None
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    return None
