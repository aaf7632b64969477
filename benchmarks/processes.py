"""Compares a sweep in several processes with the same sweep in one process on all cores.

    TFDS_DATA_DIR=... python -m benchmarks.processes [--processes=2] [--model=nn2] [--epochs=1]

The sweep is that of `benchmarks/trials.py`: forty trials of one program. Each method is timed as a
complete command, so startup and compilation count; compiled programs are not taken from a cache.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import trials
from benchmarks.side_by_side import environment

ROOT = Path(__file__).parents[1]


def seconds_of(command: list[str], cores: set[int]) -> float:
    """Runs a command on some cores, and returns the seconds that it took."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # which the process inherits
    try:
        started = time.monotonic()
        variables = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=ROOT, env=variables, check=True, capture_output=True)
        return time.monotonic() - started
    finally:
        os.sched_setaffinity(0, before)


def main() -> None:
    """Times each method and prints the ratios."""
    parser = argparse.ArgumentParser(
        description="Compares a sweep in several processes with one process on all cores."
    )
    parser.add_argument("--processes", type=int, default=2, help="number of processes")
    parser.add_argument("--model", default="nn2", help="name of the network")
    parser.add_argument("--epochs", type=float, default=1.0, help="epochs of each trial")
    parser.add_argument("--data", default="mnist", help="name of the data set")
    options = parser.parse_args()
    cores = os.sched_getaffinity(0)
    each = len(cores) // options.processes
    methods = {
        f"one process on {len(cores)} cores": (cores, 1),
        f"{options.processes} processes": (cores, options.processes),
        f"one process on {each} of these cores": (set(sorted(cores)[:each]), 1),
    }
    print(
        f"forty trials of {options.model} on {options.data}, {options.epochs:g} epochs; "
        f"{environment('jax', 'flax', 'optax')}\n"
    )
    print("| method | seconds | relative to the first |\n|---|---|---|", flush=True)
    tables = []
    with tempfile.TemporaryDirectory() as scratch:
        config_file = Path(scratch) / "forty.py"
        config_file.write_text(trials.sweep_config(epochs=options.epochs, data=options.data))
        first = 0.0
        for number, (name, (of_method, processes)) in enumerate(methods.items()):
            workdir = Path(scratch) / str(number)
            command = [sys.executable, "-m", "experiments.sweep", f"--config={config_file}"]
            command += [f"--config.base.model.name={options.model}", f"--workdir={workdir}"]
            command += [f"--processes={processes}", "--nocompile_cache"]
            seconds = seconds_of(command, of_method)
            first = first or seconds
            print(f"| {name} | {seconds:.0f} | {seconds / first:.2f} times |", flush=True)
            tables.append((workdir / "trials.csv").read_bytes())
    same = "equals" if tables[1] == tables[2] else "DIFFERS FROM"
    print(
        f"\nThe table of {options.processes} processes {same} that of one process on {each} core."
    )


if __name__ == "__main__":
    main()
