"""Forty trials in one program, beside forty processes and a loop over one compiled step.

    TFDS_DATA_DIR=... python -m benchmarks.trials [--epochs=1] [--data=mnist]

NN-2 with eight schedules and five seeds, SGD in batches of 128. Each way is timed from outside, a
whole process or forty of them, one after the other in one run: start, compilation, training and
evaluation count. The data set is decoded and cached before.
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


def one_program(config_file: Path, directory: Path) -> None:
    """All trials by `experiments.sweep`."""
    _run("experiments.sweep", f"--config={config_file}", f"--workdir={directory / 'sweep'}")


def forty_processes(config_file: Path, directory: Path) -> None:
    """Each trial by `experiments.train`, in a process of its own."""
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
    """Trial after trial in one process, a dispatch a step, batches gathered on the host."""
    _run("benchmarks.trials", f"--loop={config_file}")


def loop(config_file: str) -> None:
    """What `python_loop` runs in its process."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    import loganneal_jax
    from experiments import build, matrix, parallel, step, trials
    from experiments.optimizers import make_optimizer

    config = runpy.run_path(config_file)["get_config"]()
    all_trials = matrix.final_trials(config, {name: {} for name in SCHEDULES})
    first = all_trials[0]
    experiment, run = first.experiment, first.config
    dataset, normalize = build.load(run, experiment)
    block = trials.make_block(
        [trial.config for trial in all_trials], [trial.experiment for trial in all_trials]
    )

    def experiment_of(rates: jax.Array) -> build.Experiment:
        schedule = loganneal_jax.from_values(rates)
        decay = run.optimizer.weight_decay
        optimizer = make_optimizer(run.optimizer, schedule, weight_decay=decay)
        return experiment._replace(optimizer=optimizer)

    @jax.jit
    def init(key: jax.Array, rates: jax.Array) -> step.TrainState:
        return step.init_state(
            key,
            model=experiment.model,
            optimizer=experiment_of(rates).optimizer,
            image_shape=experiment.dataset.image_shape,
        )

    @jax.jit
    def one_step(
        state: step.TrainState, rates: jax.Array, batch: step.Batch
    ) -> tuple[step.TrainState, step.Metrics]:
        train_step, _ = build.make_steps(run, experiment_of(rates), normalize)
        return train_step(state, batch)

    _, eval_step = build.make_steps(run, experiment, normalize)
    evaluate = jax.jit(parallel.evaluation(eval_step, batch_size=run.eval_batch_size))
    alone = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    _, test = parallel.to_device(dataset, alone)
    for index in range(len(all_trials)):
        rates = block.learning_rates[index]
        state = init(block.keys[index], rates)
        for start in range(0, experiment.num_steps, experiment.steps_per_epoch):
            order = np.random.default_rng([index, start]).permutation(len(dataset.train_labels))
            stop = min(experiment.num_steps, start + experiment.steps_per_epoch)
            for position in range(stop - start):
                indices = order[position * run.batch_size : (position + 1) * run.batch_size]
                batch = {
                    "image": jnp.asarray(dataset.train_images[indices]),
                    "label": jnp.asarray(dataset.train_labels[indices]),
                }
                state, _ = one_step(state, rates, batch)
            evaluate(state, test).loss.total.block_until_ready()


WAYS = {
    "one program": one_program,
    "a loop over one compiled step": python_loop,
    "forty processes": forty_processes,
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
    """Times each way and prints the ratios."""
    parser = argparse.ArgumentParser(description="Forty trials in one program, and otherwise.")
    parser.add_argument("--epochs", type=float, default=1.0, help="of each trial")
    parser.add_argument("--data", default="mnist", help="the data set")
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
    print("| way | seconds | one program takes |\n|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        config_file = Path(scratch) / "forty.py"
        config_file.write_text(
            SWEEP.format(epochs=options.epochs, data=options.data, schedules=SCHEDULES, seeds=SEEDS)
        )
        first = 0.0
        for name, way in WAYS.items():
            started = time.monotonic()
            way(config_file, Path(scratch))
            seconds = time.monotonic() - started
            first = first or seconds
            print(f"| {name} | {seconds:.0f} | 1 / {seconds / first:.1f} of it |", flush=True)


if __name__ == "__main__":
    main()
