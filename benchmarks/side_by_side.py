"""Contenders measured side by side: each in a process of its own, taking turns in one run.

What one machine does in a minute another minute may not repeat, so a contender is compared by the
ratio of what it took to what the other took in the same round, and of these the median is told.
"""

import contextlib
import importlib.metadata
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

# From options to a function that works once and returns the seconds it took, having warmed up.
Make = Callable[..., Callable[[], float]]


class Contender(NamedTuple):
    """What takes part: `make(**options)` is called in a process of its own.

    Attributes:
      make: at the top of a module, importing what takes seconds inside.
      options: what it is called with.
    """

    make: Make
    options: Mapping[str, Any]


def measure(contenders: Mapping[str, Contender], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of every contender in every round.

    Args:
      contenders: by name; they take turns in this order.
      rounds: how often each works.

    Returns:
      By name, the seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    with contextlib.ExitStack() as stack:
        # One after another, so that none warms up while another one does.
        works = {
            name: stack.enter_context(_process(contender)) for name, contender in contenders.items()
        }
        for _ in range(rounds):
            for name, work in works.items():
                seconds[name].append(work())
    return seconds


def timed(function: Callable[[], None], steps: int = 1) -> Callable[[], float]:
    """A function that has run once to warm up, as one that returns its seconds a step."""

    def work() -> float:
        started = time.perf_counter()
        function()
        return (time.perf_counter() - started) / steps

    work()
    return work


def ratio(seconds: Sequence[float], other: Sequence[float]) -> float:
    """The median over rounds of the other's seconds to these: how often as fast these are.

    >>> ratio([1.0, 2.0, 1.0], [2.0, 8.0, 2.5])
    2.5
    """
    return statistics.median(theirs / ours for ours, theirs in zip(seconds, other, strict=True))


def table(seconds: Mapping[str, Sequence[float]], *, unit: str, scale: float = 1.0) -> str:
    """A Markdown table: of each contender the median, least and most, and how the first compares.

    Args:
      seconds: of `measure`; the first contender is ours.
      unit: heading of the times.
      scale: times the seconds, which makes them of that unit.

    Returns:
      The table.
    """
    ours = next(iter(seconds))
    rows = [f"| | {unit}, median (least to most) | {ours} is faster |", "|---|---|---|"]
    for name, values in seconds.items():
        times = [scale * value for value in values]
        faster = "" if name == ours else f"{ratio(seconds[ours], values):.2f} times"
        rows.append(
            f"| {name} | {_number(statistics.median(times))} "
            f"({_number(min(times))} to {_number(max(times))}) | {faster} |"
        )
    return "\n".join(rows)


def _number(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{float(f'{value:.3g}'):g}"


def environment(*packages: str) -> str:
    """One line: the machine, Python and the versions of packages."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return (
        f"{platform.machine()} CPU, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"{versions}"
    )


@contextlib.contextmanager
def _process(contender: Contender) -> Iterator[Callable[[], float]]:
    """A contender that has warmed up, as a function that has it work once."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, contender), daemon=True)
    process.start()
    there.close()
    here.recv()

    def work() -> float:
        here.send("work")
        return here.recv()

    try:
        yield work
    finally:
        process.kill()
        process.join()


def _serve(connection: Connection, contender: Contender) -> None:
    work = contender.make(**contender.options)
    connection.send("ready")
    while True:
        connection.recv()
        connection.send(work())
