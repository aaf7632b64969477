"""How a device computes many small trials: one after another, side by side, or spread over devices.

    TFDS_DATA_DIR=... python -m benchmarks.batching [--models=lenet4,resnet18] [--rounds=3]

The program of `experiments.sweep`, of four trials in batches of 128 on MNIST or CIFAR-10: in a
loop over the trials, batched over them by `jax.vmap`, or in a loop on each of two devices; on a CPU
these are virtual and share its cores. `trials.batched_on` has the rule that follows from it.
"""

import argparse
import os
from collections.abc import Callable

from benchmarks.side_by_side import Contender, environment, measure, table, timed

DATA = {"nn2": "mnist", "lenet4": "mnist", "resnet18": "cifar10"}
# Steps of one turn: a few seconds.
STEPS = {"nn2": 200, "lenet4": 25, "resnet18": 1}
NUM_TRIALS = 4


def program(model: str, way: str, virtual_devices: int | None) -> Callable[[], float]:
    """Steps of all trials in one dispatch."""
    if virtual_devices is not None:
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={virtual_devices}"
    import jax

    from benchmarks import trainer
    from experiments import build, parallel, trials

    config = trainer.config_of(model, batch_size=128, augment=False)
    config.data.name = DATA[model]
    experiment = build.build(config)
    dataset, normalize = build.load(config, experiment)
    mesh = trials.make_mesh()
    batched = {"loop": trials.one_after_another, "vmap": trials.side_by_side}[way]
    programs = trials.make_programs(config, experiment, normalize, mesh, batched)
    split, _ = parallel.to_device(dataset, trials.everywhere(mesh))
    configs = [config.copy_and_resolve_references() for _ in range(NUM_TRIALS)]
    for seed, each in enumerate(configs):
        each.seed = seed
    block = trials.make_block(configs, [experiment] * NUM_TRIALS)
    state = programs.init(block)
    orders = programs.order(state)

    def turn() -> None:
        nonlocal state
        state, metrics = programs.train(state, block, split, orders, STEPS[model])
        jax.block_until_ready((state, metrics))

    return timed(turn, STEPS[model] * NUM_TRIALS)


def main() -> None:
    """Measures each network and prints its table."""
    parser = argparse.ArgumentParser(description="Many small trials, computed in three ways.")
    parser.add_argument("--models", default=",".join(DATA), help="names, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each way")
    options = parser.parse_args()
    print(environment("jax", "flax"), flush=True)
    for model in options.models.split(","):
        ways = {
            "one after another": ("loop", 1),
            "side by side": ("vmap", 1),
            "one after another on each of two devices": ("loop", 2),
        }
        seconds = measure(
            {
                name: Contender(program, {"model": model, "way": way, "virtual_devices": devices})
                for name, (way, devices) in ways.items()
            },
            rounds=options.rounds,
        )
        print(f"\n{model}, {NUM_TRIALS} trials, {options.rounds} rounds\n", flush=True)
        print(table(seconds, unit="ms a step of a trial", scale=1e3), flush=True)


if __name__ == "__main__":
    main()
