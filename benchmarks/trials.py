"""Compares forty trials in one program with forty processes and with a loop in Python.

    TFDS_DATA_DIR=... python -m benchmarks.trials [--epochs=1] [--data=mnist]

The trials are NN-2 with eight schedules and five seeds, SGD in batches of 128. Each method is timed
as complete processes, one method after the other, so startup, compilation, training, and evaluation
count. The data set must already be prepared.
"""

import argparse
import importlib.metadata
import os
import platform
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SCHEDULES = ("constant", "exp", "str", "sig", "rep", "trap", "cosine", "log_annealing")
SEEDS = (0, 1, 2, 3, 4)
SWEEP = """
from configs import base as run_base
from configs.sweeps import base

def get_config():
    run = run_base.get_config()
    run.epochs = {epochs}
    run.log_every_steps = 1000
    run.data.name = {data!r}
    run.data.augment = False
    run.model.name = "nn2"
    run.model.attention.name = "none"
    config = base.make(run)
    config.settings = tuple({{"name": n, "schedule.name": n}} for n in {schedules!r})
    config.seeds = {seeds!r}
    return config
"""


def sweep_config(*, epochs: float, data: str) -> str:
    """Returns the source of the config file of the sweep.

    Args:
      epochs: epochs of each trial.
      data: name of the data set.

    Returns:
      The source.
    """
    return SWEEP.format(epochs=epochs, data=data, schedules=SCHEDULES, seeds=SEEDS)


def one_program(config_file: Path, directory: Path) -> None:
    """Runs all trials with `experiments.sweep`."""
    _run("experiments.sweep", f"--config={config_file}", f"--workdir={directory / 'sweep'}")


def forty_processes(config_file: Path, directory: Path) -> None:
    """Runs each trial with `experiments.train`, in its own process."""
    single = directory / "single.py"
    single.write_text(
        f"import runpy\nget_config = lambda: runpy.run_path({str(config_file)!r})"
        "['get_config']().base\n"
    )
    for schedule in SCHEDULES:
        for seed in SEEDS:
            _run(
                "experiments.train",
                f"--config={single}",
                f"--config.schedule.name={schedule}",
                f"--config.seed={seed}",
                f"--workdir={directory / f'{schedule}-{seed}'}",
            )


def python_loop(config_file: Path, directory: Path) -> None:
    """Runs the trials one by one in one process, with one dispatch per step."""
    _run("benchmarks.trials", f"--loop={config_file}")


def loop(config_file: str) -> list[Any]:
    """Runs the trials of `python_loop`; batches are gathered on the host.

    Args:
      config_file: path of the config file of the sweep.

    Returns:
      The metrics of each trial's last evaluation.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    import loganneal_jax
    from experiments.build.sweeps import read_sweep
    from experiments.program import assemble, parallel
    from experiments.program.state import TrainState
    from experiments.program.steps import Examples, Metrics, pieces
    from experiments.sweeping import plan, trials

    sweep = read_sweep(runpy.run_path(config_file)["get_config"]())
    final = plan.final_trials(sweep, {name: {} for name in sweep.settings})
    experiment = final[0].experiment
    task, batches = experiment.task, experiment.batches
    block = trials.make_block([trial.experiment for trial in final])

    def optimizer(rates: jax.Array) -> optax.GradientTransformation:
        schedule = loganneal_jax.from_values(rates)
        return experiment.make_optimizer(schedule, experiment.weight_decay)

    @jax.jit
    def init(key_data: jax.Array, rates: jax.Array) -> TrainState:
        return assemble.pure(task, optimizer(rates), batches).init(key_data)

    @jax.jit
    def train_step(
        state: TrainState, rates: jax.Array, batch: Examples
    ) -> tuple[TrainState, Metrics]:
        return task.train_step(state, batch, optimizer(rates))

    evaluate = jax.jit(assemble.pure(task, experiment.optimizer, batches).evaluate)
    data = task.load()
    test = parallel.to_devices(data.test, jax.sharding.SingleDeviceSharding(jax.devices()[0]))
    results = []
    for index, (key_data, rates) in enumerate(
        zip(block.key_data, block.learning_rates, strict=True)
    ):
        state = init(key_data, rates)
        for start, stop in pieces(0, experiment.num_steps, experiment.steps_per_epoch):
            order = np.random.default_rng([index, start]).permutation(batches.num_train)
            for position in range(stop - start):
                first = position * batches.batch_size
                indices = order[first : first + batches.batch_size]
                batch = {name: jnp.asarray(array[indices]) for name, array in data.train.items()}
                state, _ = train_step(state, rates, batch)
            metrics = jax.block_until_ready(evaluate(state, test))
        results.append(metrics)
    return results


METHODS = {
    "one program": one_program,
    "a Python loop over one compiled step": python_loop,
    "forty processes of experiments.train": forty_processes,
}


def _run(module: str, *options: str) -> None:
    subprocess.run(
        [sys.executable, "-m", module, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
    )


def main() -> None:
    """Times each method and prints the ratios."""
    parser = argparse.ArgumentParser(
        description="Compares forty trials in one program with a loop and with forty processes."
    )
    parser.add_argument("--epochs", type=float, default=1.0, help="epochs of each trial")
    parser.add_argument("--data", default="mnist", help="name of the data set")
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        loop(options.loop)
        return
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax")}
    print(
        f"{len(SCHEDULES)} schedules x {len(SEEDS)} seeds of NN-2 on {options.data}, "
        f"{options.epochs:g} epochs; Python {platform.python_version()}, "
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}, "
        f"{os.cpu_count()} cores\n"
    )
    print("| method | seconds | relative to one program |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        config_file = Path(scratch) / "forty.py"
        config_file.write_text(sweep_config(epochs=options.epochs, data=options.data))
        first = 0.0
        for name, method in METHODS.items():
            started = time.monotonic()
            method(config_file, Path(scratch))
            seconds = time.monotonic() - started
            relative = f"{seconds / first:.1f} times" if first else ""
            first = first or seconds
            print(f"| {name} | {seconds:.0f} | {relative} |", flush=True)


if __name__ == "__main__":
    main()
