"""Measures how long a command takes to start: python -m benchmarks.startup [--runs=5].

Each run is timed from the start of its own process: to the end of `--help`, to the end of a
rejected config, and to the first step of configs/quickstart.py. A step counts as finished when the
progress bar, on a pseudo-terminal, shows its loss. A cold start has an empty cache of compiled
programs; a warm start has the cache of the run before. A first round, which is not counted, brings
Python's own files into memory.
"""

import argparse
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import side_by_side

TRAIN = (sys.executable, "-m", "experiments.train")
QUICKSTART = (*TRAIN, "--config=configs/quickstart.py")
# The progress bar writes this once the loss of a step has reached the host.
FIRST_STEP = b"loss="
# What is timed, and the number of seconds that it must stay below.
TARGETS = {"--help": 3, "rejected config": 3, "first step, cold": 13, "first step, warm": 5}


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description="Measures how long a command takes to start.")
    parser.add_argument("--runs", type=int, default=5, help="number of counted rounds")
    arguments = parser.parse_args()
    print(side_by_side.environment("jax", "flax"))
    with tempfile.TemporaryDirectory() as scratch:
        print(table(measure(Path(scratch), runs=arguments.runs)))


def measure(scratch: Path, *, runs: int) -> dict[str, list[float]]:
    """Times each kind of start once per round, after a round that is not counted.

    Args:
      scratch: an empty directory.
      runs: number of counted rounds.

    Returns:
      Seconds of each round, for each key of TARGETS.
    """
    seconds: dict[str, list[float]] = {name: [] for name in TARGETS}
    for index in range(runs + 1):
        cache = scratch / f"cache-{index}"
        taken = (
            to_end(*TRAIN, "--help", exit_code=0),
            to_end(*QUICKSTART, "--config.batch_size=0", exit_code=2),
            to_first_step(cache, scratch / f"cold-{index}"),
            to_first_step(cache, scratch / f"warm-{index}"),
        )
        if index:
            for name, value in zip(TARGETS, taken, strict=True):
                seconds[name].append(value)
    return seconds


def to_end(*command: str, exit_code: int) -> float:
    """Times a command that does not train.

    Args:
      *command: the command.
      exit_code: the exit code it must have.

    Returns:
      Seconds until it ends.

    Raises:
      RuntimeError: the exit code is another one.
    """
    started = time.monotonic()
    ended = subprocess.run(command, capture_output=True, check=False)
    taken = time.monotonic() - started
    if ended.returncode != exit_code:
        raise RuntimeError(f"exit code {ended.returncode}: {ended.stderr.decode()}")
    return taken


def to_first_step(cache: Path, workdir: Path) -> float:
    """Times the quickstart until it shows the loss of its first step, and then kills it.

    Args:
      cache: the user's cache directory.
      workdir: directory of the run.

    Returns:
      The seconds.

    Raises:
      RuntimeError: the command ended before its first step.
    """
    environment = {
        name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"
    }
    shown, terminal = pty.openpty()
    started = time.monotonic()
    process = subprocess.Popen(
        [*QUICKSTART, f"--workdir={workdir}", "--config.log_every_steps=1"],
        env={**environment, "XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.DEVNULL,
        stderr=terminal,
    )
    os.close(terminal)
    output = b""
    try:
        while FIRST_STEP not in output:
            try:
                output += os.read(shown, 4096)
            except OSError as error:  # the other end of the terminal is closed
                raise RuntimeError(f"no first step: {output.decode()}") from error
        return time.monotonic() - started
    finally:
        process.kill()
        process.wait()
        os.close(shown)


def table(seconds: dict[str, list[float]]) -> str:
    """Returns a Markdown table of the seconds and their targets."""
    rows = ["| | s, median (min to max) | target |", "|---|---|---|"]
    for name, values in seconds.items():
        rows.append(
            f"| {name} | {statistics.median(values):.1f} ({min(values):.1f} to "
            f"{max(values):.1f}) | below {TARGETS[name]} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
