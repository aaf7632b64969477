"""Compares ways to compute many small trials: one after another, side by side, or on two devices.

    TFDS_DATA_DIR=... python -m benchmarks.batching [--models=lenet4,resnet18] [--rounds=3]

Runs the program of `experiments.sweep` with four trials in batches of 128 on MNIST or CIFAR-10. It
loops over the trials, maps over them with `jax.vmap`, or loops over two trials on each of two
devices. On a CPU the two devices are virtual and share its cores. `trials.batched_on` follows the
result.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any

from benchmarks.side_by_side import Contender, environment, measure, table

DATA = {"nn2": "mnist", "lenet4": "mnist", "resnet18": "cifar10"}
# Steps per turn, so that a turn takes a few seconds.
STEPS = {"nn2": 200, "lenet4": 25, "resnet18": 1}
NUM_TRIALS = 4
# Name of the contender -> how a device computes its trials, and the number of devices.
CONTENDERS = {
    "one after another": ("one_after_another", 1),
    "side by side": ("side_by_side", 1),
    "one after another on each of two devices": ("one_after_another", 2),
}


def program(model: str, batched: str, virtual_devices: int) -> Callable[[], Any]:
    """Returns a function that runs steps of all trials in one dispatch.

    Args:
      model: name of the network.
      batched: how a device computes its trials, a function of `sweeping.trials`.
      virtual_devices: number of devices into which the CPU is divided.

    Returns:
      The function.
    """
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={virtual_devices}"
    import dataclasses

    import jax

    from benchmarks import trainer
    from experiments.build.experiment import build
    from experiments.program import parallel
    from experiments.sweeping import trials

    config = trainer.config_of(model, batch_size=128, augment=False)
    config.data.name = DATA[model]
    experiment = build(config)
    mesh = trials.make_mesh()
    programs = trials.make_programs(experiment, mesh, getattr(trials, batched))
    split = parallel.to_devices(experiment.task.load().train, trials.replicated(mesh))
    block = trials.make_block(
        [dataclasses.replace(experiment, seed=seed) for seed in range(NUM_TRIALS)]
    )
    state = programs.init(block)
    orders = programs.order(state)

    def turn() -> Any:
        nonlocal state
        state, metrics = programs.train(state, block, split, orders, STEPS[model])
        return jax.block_until_ready((state, metrics))

    return turn


def main() -> None:
    """Measures each network and prints its table."""
    parser = argparse.ArgumentParser(
        description="Compares three ways to compute many small trials."
    )
    parser.add_argument("--models", default=",".join(DATA), help="comma-separated networks")
    parser.add_argument("--rounds", type=int, default=3, help="turns per contender")
    options = parser.parse_args()
    print(environment("jax", "flax"), flush=True)
    for model in options.models.split(","):
        contenders = {
            name: Contender(
                program,
                {"model": model, "batched": batched, "virtual_devices": devices},
                STEPS[model] * NUM_TRIALS,
            )
            for name, (batched, devices) in CONTENDERS.items()
        }
        measured = measure(contenders, rounds=options.rounds)
        print(f"\n{model}, {NUM_TRIALS} trials, {options.rounds} rounds\n", flush=True)
        print(table(measured.seconds, unit="ms per step and trial", scale=1e3), flush=True)


if __name__ == "__main__":
    main()
