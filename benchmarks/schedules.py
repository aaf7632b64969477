"""Benchmarks the schedules against those of optax in one run.

    python -m benchmarks.schedules

It compares a single cosine with `optax.cosine_decay_schedule`, and 1, 10, 100, and 1000 cycles of
100 steps with `optax.sgdr_schedule`. For each schedule, it prints the time to build and trace it,
the compile time, the number of instructions in the compiled program, and the time per evaluation
in a compiled loop. It then prints the ratio of optax to ours.
"""

import argparse
import os
import platform
import re
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from loganneal_jax import cyclical_cosine_schedule, cyclical_log_annealing_schedule

INTERVAL = 100
EVALUATIONS = 20_000
REPEATS = 5
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


def main() -> None:
    """Prints the hardware, the versions, and the table."""
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


if __name__ == "__main__":
    main()
