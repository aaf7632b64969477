"""How long a command takes to start: python -m benchmarks.startup [--runs=5].

Every run is a process of its own, timed from its start: to the end of `--help` and of a refused
config, and to the first step of configs/quickstart.py, which is over when the progress bar, on a
terminal made for it, shows the loss of that step. Cold is with an empty cache of compiled programs,
warm with what the run before left there. The files of Python itself are read once before.
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
# What the progress bar writes once the loss of a step has come to the host.
FIRST_STEP = b"loss="
# What is timed, and below how many seconds it has to be.
TARGETS = {"--help": 3, "a refused config": 3, "first step, cold": 20, "first step, warm": 10}


def main() -> None:
    """Measures and prints as the flags say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    print(side_by_side.environment("jax", "flax", "tensorflow-cpu"))
    with tempfile.TemporaryDirectory() as scratch:
        print(table(measure(Path(scratch), runs=arguments.runs)))


def measure(scratch: Path, *, runs: int) -> dict[str, list[float]]:
    """Seconds of every run, by what is timed; the first round is not counted.

    Args:
      scratch: an empty directory.
      runs: how often each is timed.

    Returns:
      For each of TARGETS the seconds of its runs.
    """
    seconds: dict[str, list[float]] = {name: [] for name in TARGETS}
    for index in range(runs + 1):
        cache = scratch / f"cache-{index}"
        taken = (
            to_end(*TRAIN, "--help", exit_code=1),  # as absl has it
            to_end(*QUICKSTART, "--config.batch_size=0", exit_code=2),
            to_first_step(cache, scratch / f"cold-{index}"),
            to_first_step(cache, scratch / f"warm-{index}"),
        )
        if index:
            for name, value in zip(TARGETS, taken, strict=True):
                seconds[name].append(value)
    return seconds


def to_end(*command: str, exit_code: int) -> float:
    """Seconds until a command has ended that does not train, with this exit code."""
    started = time.monotonic()
    ended = subprocess.run(command, capture_output=True, check=False)
    taken = time.monotonic() - started
    if ended.returncode != exit_code:
        raise RuntimeError(f"exit code {ended.returncode}: {ended.stderr.decode()}")
    return taken


def to_first_step(cache: Path, workdir: Path) -> float:
    """Seconds until the quickstart shows its first step's loss; then it is killed.

    Args:
      cache: the user's cache directory.
      workdir: of the run.

    Returns:
      The seconds.
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
            except OSError as error:  # so a terminal says that nobody writes to it any more
                raise RuntimeError(f"no first step: {output.decode()}") from error
        return time.monotonic() - started
    finally:
        process.kill()
        process.wait()
        os.close(shown)


def table(seconds: dict[str, list[float]]) -> str:
    """A Markdown table of the seconds and their targets."""
    rows = ["| | s, median (least to most) | target |", "|---|---|---|"]
    for name, values in seconds.items():
        rows.append(
            f"| {name} | {statistics.median(values):.1f} ({min(values):.1f} to "
            f"{max(values):.1f}) | below {TARGETS[name]} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
