"""What a schedule costs: ours beside optax's, in one run.

    python -m benchmarks.schedules

For a single cosine beside `optax.cosine_decay_schedule`, and for 1, 10, 100 and 1000 cycles of 100
steps beside `optax.sgdr_schedule`, it prints the time to make and trace the schedule, the time to
compile it, the instructions of the compiled program, and the time of one evaluation in a compiled
loop; then the ratio of optax's to ours.
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
# Heading of a measure -> its format.
MEASURES = {
    "trace ms": "8.1f",
    "compile ms": "10.1f",
    "instructions": "12.0f",
    "ns/evaluation": "13.1f",
}
Makers = dict[str, Callable[[], optax.Schedule]]


def single() -> Makers:
    """One cosine, ours and optax's."""
    return {
        "ours": lambda: cyclical_cosine_schedule(0.1, 0.001, init_decay_steps=INTERVAL),
        "optax": lambda: optax.cosine_decay_schedule(0.1, INTERVAL, alpha=0.01),
    }


def restarting(cycles: int) -> Makers:
    """Cosine cycles of ours, which go on for ever, log cycles that grow, and optax's."""
    return {
        "ours": lambda: cyclical_cosine_schedule(
            0.1, 0.001, init_decay_steps=INTERVAL, restart_interval=INTERVAL
        ),
        # The last of them is ten times as long as the first.
        "ours, growing log": lambda: cyclical_log_annealing_schedule(
            0.1,
            0.001,
            init_decay_steps=INTERVAL,
            restart_interval=INTERVAL,
            restart_multiplier=10 ** (1 / cycles),
        ),
        "optax": lambda: optax.sgdr_schedule([{**CYCLE, "decay_steps": INTERVAL}] * cycles),
    }


def measure(make: Callable[[], optax.Schedule]) -> dict[str, float]:
    """One row of the table."""
    began = time.perf_counter()
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
        1e3 * (traced - began),
        1e3 * (compiled - traced),
        len(instructions),
        1e9 * min(seconds) / EVALUATIONS,
    )
    return dict(zip(MEASURES, row, strict=True))


def print_rows(title: str, makers: Makers) -> None:
    """Measures schedules and prints them, and the ratio of optax's to ours."""
    rows = {name: measure(make) for name, make in makers.items()}
    for name, row in rows.items():
        cells = "  ".join(f"{row[key]:{form}}" for key, form in MEASURES.items())
        print(f"{title:>11}  {name:17}  {cells}")
    ratios = [rows["optax"][key] / rows["ours"][key] for key in MEASURES]
    cells = "  ".join(f"{ratio:{len(key)}.2f}" for ratio, key in zip(ratios, MEASURES, strict=True))
    print(f"{title:>11}  {'optax / ours':17}  {cells}")


def main() -> None:
    """Prints the machine, the versions and the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cycles", type=int, nargs="+", default=[1, 10, 100, 1000])
    cycle_counts = parser.parse_args().cycles
    # The first program of a process pays for what all of them use.
    measure(lambda: optax.constant_schedule(0.1))
    device = jax.devices()[0]
    print(
        f"{device.platform} ({device.device_kind}), {platform.machine()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, jax {jax.__version__}, optax {optax.__version__}"
    )
    print(f"{'cycles':>11}  {'schedule':17}  {'  '.join(MEASURES)}")
    print_rows("one cosine", single())
    for cycles in cycle_counts:
        print_rows(str(cycles), restarting(cycles))


if __name__ == "__main__":
    main()
