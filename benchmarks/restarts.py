"""What a restart costs: ours beside `optax.sgdr_schedule`, in one run.

    python benchmarks/restarts.py

For 1, 10, 100 and 1000 cycles of 100 steps, and for as many that grow, it prints the time to make
and trace the schedule, the time to compile it, the instructions of the compiled program, and the
time of one evaluation in a compiled loop; then the ratio of optax's to ours.
"""

import argparse
import re
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from loganneal_jax import cyclical_cosine_schedule, cyclical_log_annealing_schedule

INTERVAL = 100
EVALUATIONS = 20_000


def sgdr(cycles: int) -> optax.Schedule:
    """`cycles` cosine cycles in optax."""
    cosine = {"init_value": 0.1, "peak_value": 0.1, "warmup_steps": 0, "end_value": 0.001}
    return optax.sgdr_schedule([{**cosine, "decay_steps": INTERVAL}] * cycles)


def cosine(cycles: int) -> optax.Schedule:
    """The same cycles of ours, which go on for ever."""
    del cycles
    return cyclical_cosine_schedule(
        0.1, 0.001, init_decay_steps=INTERVAL, restart_interval=INTERVAL
    )


def growing_log(cycles: int) -> optax.Schedule:
    """Log annealing whose last of `cycles` cycles is ten times as long as the first."""
    return cyclical_log_annealing_schedule(
        0.1,
        0.001,
        init_decay_steps=INTERVAL,
        restart_interval=INTERVAL,
        restart_multiplier=10 ** (1 / cycles),
    )


def measure(make: Callable[[int], optax.Schedule], cycles: int) -> dict[str, float]:
    """Milliseconds to trace and compile, instructions, nanoseconds an evaluation."""
    began = time.perf_counter()
    schedule = make(cycles)

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
    for _ in range(3):
        start = time.perf_counter()
        program(jnp.int32(0)).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return {
        "trace": 1e3 * (traced - began),
        "compile": 1e3 * (compiled - traced),
        "instructions": len(instructions),
        "evaluate": 1e9 * min(seconds) / EVALUATIONS,
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, nargs="+", default=[1, 10, 100, 1000])
    cycle_counts = parser.parse_args().cycles
    makers = {"ours": cosine, "ours, growing log": growing_log, "optax": sgdr}
    print(f"{'cycles':>6}  {'schedule':18}  trace ms  compile ms  instructions  ns/evaluation")
    for cycles in cycle_counts:
        rows = {name: measure(make, cycles) for name, make in makers.items()}
        for name, row in rows.items():
            print(
                f"{cycles:6}  {name:18}  {row['trace']:8.1f}  {row['compile']:10.1f}"
                f"  {row['instructions']:12.0f}  {row['evaluate']:13.1f}"
            )
        ratios = [f"{key} {rows['optax'][key] / rows['ours'][key]:.1f}" for key in rows["ours"]]
        print(f"{cycles:6}  optax / ours: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
