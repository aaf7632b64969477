"""Compares ways to compute many small trials: one after another, side by side, or on two devices.

    python -m benchmarks.batching [--models=lenet4,resnet18] [--trials=4] [--rounds=3]

Runs the program of `experiments.sweep` with several trials in batches of 128 random images. It
loops over the trials, or maps over them with `jax.vmap`, where convolutions are grouped ones or
matrix products. On a CPU, it also loops over half of the trials on each of two virtual devices,
which share its cores. `trials.batched_on` follows the result.
"""

import argparse
import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from benchmarks.side_by_side import Contender, environment, measure, table

if TYPE_CHECKING:
    import numpy as np
    from ml_collections import ConfigDict

# Shape of the images, and the steps per turn on a CPU, so that a turn takes a few seconds. A turn
# on an accelerator has `ACCELERATOR_STEPS`.
MODELS = {
    "nn2": ((28, 28, 1), 200),
    "lenet4": ((28, 28, 1), 25),
    "narrow_resnet10": ((16, 16, 3), 25),
    "resnet18": ((32, 32, 3), 1),
}
ACCELERATOR_STEPS = 20
NUM_IMAGES = 4096
# Name of the contender -> how a device computes its trials, and the number of devices.
CONTENDERS = {
    "one after another": ("one_after_another", 1),
    "side by side": ("side_by_side", 1),
    "side by side, grouped convolutions": ("grouped", 1),
}
ON_CPU = {"one after another on each of two devices": ("one_after_another", 2)}


def random_images(shape: tuple[int, int, int]) -> Any:
    """Returns random images with ten classes, in the form of `experiments.data.own`."""
    import numpy as np

    rng = np.random.default_rng(0)

    def split(number: int) -> "tuple[np.ndarray, np.ndarray]":
        return rng.integers(0, 256, (number, *shape), np.uint8), np.arange(number) % 10

    return split(NUM_IMAGES), split(10)


random_28 = functools.partial(random_images, (28, 28, 1))
random_16 = functools.partial(random_images, (16, 16, 3))
random_32 = functools.partial(random_images, (32, 32, 3))


def config_of(model: str) -> "ConfigDict":
    """Returns the config of the trials of a network.

    Args:
      model: a key of `MODELS`; `narrow_resnet10` is the network of `comparison.py:cifar10`.

    Returns:
      The config of a run.
    """
    from benchmarks import trainer
    from configs.sweeps import comparison

    if model == "narrow_resnet10":
        config = comparison.get_config("cifar10").base.copy_and_resolve_references()
        config.data.image_size = None
    else:
        config = trainer.config_of(model, batch_size=128, augment=False)
    side = MODELS[model][0][0]
    config.data.name = f"benchmarks.batching:random_{side}"
    config.epochs = 1.0
    config.schedule.warmup_epochs = 0.0
    config.schedule.warmup_init_value = 0.0
    return config


def program(
    model: str, batched: str, trials: int, virtual_devices: int, steps: int
) -> Callable[[], Any]:
    """Returns a function that runs steps of all trials in one dispatch.

    Args:
      model: a key of `MODELS`.
      batched: how a device computes its trials: "one_after_another", "side_by_side", or "grouped".
      trials: number of trials.
      virtual_devices: number of devices into which the CPU is divided.
      steps: steps per turn.

    Returns:
      The function.
    """
    os.environ["XLA_FLAGS"] = (
        f"{os.environ.get('XLA_FLAGS', '')} "
        f"--xla_force_host_platform_device_count={virtual_devices}"
    )
    import dataclasses

    import jax

    from experiments.build.experiment import build
    from experiments.program import parallel
    from experiments.sweeping import trials as sweep_trials

    def grouped(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda trials, *shared: jax.vmap(lambda trial: function(trial, *shared))(trials)

    experiment = build(config_of(model))
    mesh = sweep_trials.make_mesh()
    how = grouped if batched == "grouped" else getattr(sweep_trials, batched)
    programs = sweep_trials.make_programs(experiment, mesh, how)
    split = parallel.to_devices(experiment.task.load().train, sweep_trials.replicated(mesh))
    block = sweep_trials.make_block(
        [dataclasses.replace(experiment, seed=seed) for seed in range(trials)]
    )
    state = programs.init(block)
    orders = programs.order(state)

    def turn() -> Any:
        nonlocal state
        state, metrics = programs.train(state, block, split, orders, steps)
        return jax.block_until_ready((state, metrics))

    return turn


def main() -> None:
    """Measures each network and prints its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated networks")
    parser.add_argument("--trials", type=int, default=4, help="trials of one program")
    parser.add_argument("--rounds", type=int, default=3, help="turns per contender")
    parser.add_argument("--platform", default="cpu", choices=("cpu", "cuda", "tpu"))
    options = parser.parse_args()
    unknown = [model for model in options.models.split(",") if model not in MODELS]
    if unknown:
        parser.error(f"--models={unknown[0]} is unknown; choose from {', '.join(MODELS)}")
    os.environ["JAX_PLATFORMS"] = options.platform
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the contenders share an accelerator
    on_cpu = options.platform == "cpu"
    print(environment("jax", "flax"), flush=True)
    for model in options.models.split(","):
        steps = MODELS[model][1] if on_cpu else ACCELERATOR_STEPS
        contenders = {
            name: Contender(
                program,
                {
                    "model": model,
                    "batched": batched,
                    "trials": options.trials,
                    "virtual_devices": devices,
                    "steps": steps,
                },
                steps * options.trials,
                may_fail=not on_cpu,
            )
            for name, (batched, devices) in (CONTENDERS | (ON_CPU if on_cpu else {})).items()
        }
        measured = measure(contenders, rounds=options.rounds)
        print(f"\n{model}, {options.trials} trials, {options.rounds} rounds\n", flush=True)
        print(table(measured.seconds, unit="ms per step and trial", scale=1e3), flush=True)
        for name, message in measured.failures.items():
            print(f"{name} failed: {message}", flush=True)


if __name__ == "__main__":
    main()
