"""Benchmarks the schedules against those of optax in one run.

    python -m benchmarks.schedules

It compares a single cosine with `optax.cosine_decay_schedule`, and 1, 10, 100, and 1000 cycles of
100 steps with `optax.sgdr_schedule`. For each schedule, it prints the time to build and trace it,
the compile time, the number of instructions in the compiled program, and the time per evaluation
in a compiled loop. It then prints the ratio of optax to ours.

It also measures eager calls, `schedule(step)` outside of a compiled program, against
`optax.warmup_cosine_decay_schedule`, and the time to import the library against that of jax and
optax, each in new processes.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from loganneal_jax import (
    cyclical_cosine_schedule,
    cyclical_log_annealing_schedule,
    trapezoid_schedule,
    with_warmup,
)

INTERVAL = 100
EVALUATIONS = 20_000
REPEATS = 5
EAGER_CALLS = 500
IMPORTS = 7
CYCLE = {"init_value": 0.1, "peak_value": 0.1, "warmup_steps": 0, "end_value": 0.001}
# Column heading -> number format.
COLUMNS = {
    "trace ms": "8.1f",
    "compile ms": "10.1f",
    "instructions": "12.0f",
    "ns/evaluation": "13.1f",
}
Factories = dict[str, Callable[[], optax.Schedule]]


def single_cosine() -> Factories:
    """Returns factories of a single cosine annealing."""
    return {
        "ours": lambda: cyclical_cosine_schedule(0.1, 0.001, init_decay_steps=INTERVAL),
        "optax": lambda: optax.cosine_decay_schedule(0.1, INTERVAL, alpha=0.01),
    }


def with_restarts(num_cycles: int) -> Factories:
    """Returns factories of cyclical schedules.

    Ours restart forever; that of optax has `num_cycles` cycles.
    """
    return {
        "ours": lambda: cyclical_cosine_schedule(
            0.1, 0.001, init_decay_steps=INTERVAL, restart_interval=INTERVAL
        ),
        # The last cycle is ten times as long as the first.
        "ours, growing log": lambda: cyclical_log_annealing_schedule(
            0.1,
            0.001,
            init_decay_steps=INTERVAL,
            restart_interval=INTERVAL,
            restart_multiplier=10 ** (1 / num_cycles),
            variant="paper",
        ),
        "optax": lambda: optax.sgdr_schedule([{**CYCLE, "decay_steps": INTERVAL}] * num_cycles),
    }


def measure(make: Callable[[], optax.Schedule]) -> dict[str, float]:
    """Returns one row of the table."""
    started = time.perf_counter()
    schedule = make()

    def run(start: jax.Array) -> jax.Array:
        body = lambda step, total: total + schedule(start + step)  # noqa: E731
        return jax.lax.fori_loop(0, EVALUATIONS, body, jnp.float32(0))

    lowered = jax.jit(run).lower(jnp.int32(0))
    traced = time.perf_counter()
    program = lowered.compile()
    compiled = time.perf_counter()
    instructions = re.findall(r"^\s+(?:ROOT )?%?[\w.-]+ = ", program.as_text() or "", re.MULTILINE)
    program(jnp.int32(0)).block_until_ready()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        program(jnp.int32(0)).block_until_ready()
        seconds.append(time.perf_counter() - start)
    row = (
        1e3 * (traced - started),
        1e3 * (compiled - traced),
        len(instructions),
        1e9 * min(seconds) / EVALUATIONS,
    )
    return dict(zip(COLUMNS, row, strict=True))


def print_rows(title: str, factories: Factories) -> None:
    """Measures schedules and prints one row for each, followed by the ratio of optax to ours."""
    rows = {name: measure(make) for name, make in factories.items()}
    for name, row in rows.items():
        cells = "  ".join(f"{row[key]:{number_format}}" for key, number_format in COLUMNS.items())
        print(f"{title:>13}  {name:17}  {cells}")
    ratios = [rows["optax"][key] / rows["ours"][key] for key in COLUMNS]
    cells = "  ".join(f"{ratio:{len(key)}.2f}" for ratio, key in zip(ratios, COLUMNS, strict=True))
    print(f"{title:>13}  {'optax / ours':17}  {cells}")


def eager_schedules() -> dict[str, optax.Schedule]:
    """Returns the schedules whose eager calls are measured; the first is the reference."""
    restarts: dict[str, Any] = {
        "init_decay_steps": 1000,
        "restart_interval": 1000,
        "restart_multiplier": 2.0,
    }
    return {
        "optax warmup cosine": optax.warmup_cosine_decay_schedule(0.0, 0.1, 100, 1000, 0.001),
        "optax sgdr, 10 cycles": optax.sgdr_schedule([{**CYCLE, "decay_steps": INTERVAL}] * 10),
        "ours, log with restarts": cyclical_log_annealing_schedule(
            0.1, 0.001, **restarts, warmup_steps=100
        ),
        "ours, cosine with restarts": cyclical_cosine_schedule(
            0.1, 0.001, **restarts, warmup_steps=100
        ),
        "ours, trapezoid": trapezoid_schedule(0.1, 0.0, 1000, warmup_steps=100, cooldown_steps=200),
        "ours, warmup of optax cosine": with_warmup(
            optax.cosine_decay_schedule(0.1, 1000), warmup_steps=100
        ),
    }


def print_eager_calls() -> None:
    """Prints the time of one eager call of each schedule, and its ratio to optax's."""
    schedules = eager_schedules()
    best = dict.fromkeys(schedules, float("inf"))
    # Alternate, so that other work on the machine affects all schedules.
    for _ in range(REPEATS):
        for name, schedule in schedules.items():
            float(schedule(0))
            start = time.perf_counter()
            for step in range(EAGER_CALLS):
                float(schedule(step))
            best[name] = min(best[name], (time.perf_counter() - start) / EAGER_CALLS)
    reference = next(iter(best.values()))
    for name, seconds in best.items():
        print(f"{name:>28}  {1e6 * seconds:8.1f} us/call  {seconds / reference:6.2f} x optax")


def print_import_times() -> None:
    """Prints the time to import the library after jax and optax, which every user imports."""
    # Without gc.disable(), a collection of jax's objects (70 ms) falls into one of the imports.
    program = (
        "import gc, time; gc.disable(); start = time.perf_counter(); import jax, optax; "
        "middle = time.perf_counter(); import loganneal_jax; "
        "print(middle - start, time.perf_counter() - middle)"
    )
    # pip compiles an installed package to bytecode, so let the first import do the same here.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    rows = []
    for _ in range(IMPORTS):
        output = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        rows.append([float(seconds) for seconds in output.split()])
    for name, seconds in zip(
        ("jax and optax", "loganneal_jax"), zip(*rows, strict=True), strict=True
    ):
        print(f"{name:>28}  {1e3 * min(seconds):8.1f} ms to import")


def main() -> None:
    """Prints the hardware, the versions, and the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cycles", type=int, nargs="+", default=[1, 10, 100, 1000])
    cycle_counts = parser.parse_args().cycles
    # Warm up, because the first compilation in a process also initializes JAX.
    measure(lambda: optax.constant_schedule(0.1))
    device = jax.devices()[0]
    print(
        f"{device.platform} ({device.device_kind}), {platform.machine()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, jax {jax.__version__}, optax {optax.__version__}"
    )
    print(f"{'cycles':>13}  {'schedule':17}  {'  '.join(COLUMNS)}")
    print_rows("single cosine", single_cosine())
    for num_cycles in cycle_counts:
        print_rows(str(num_cycles), with_restarts(num_cycles))
    print_eager_calls()
    print_import_times()


if __name__ == "__main__":
    main()
