"""Many trials in one program: a schedule is a row of a table, and trials are an axis of the state.

Trials whose configs differ only in schedule, seed, and weight decay share a program. Their learning
rates are data, and `from_values` turns each row back into a schedule. Each trial takes the same
steps as a single run.
"""

import functools
import json
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import loganneal_jax
from experiments.build.experiment import Experiment
from experiments.models import products
from experiments.program import assemble, parallel
from experiments.program.state import TrainState, key_data
from experiments.program.steps import Examples, Metrics

# Turns a function of one trial and shared arguments into a function of many trials.
Batched = Callable[[Callable[..., Any]], Callable[..., Any]]

MEMORY_SHARE = 0.8  # share of an accelerator's memory that a block may use
HOST_MEMORY_SHARE = 0.5  # share of the host's memory, which other work needs too
# Platform -> further options of XLA. Its Triton products of a batch of trials crash the compiler of
# jaxlib 0.11.
OPTIONS: Mapping[str, parallel.Options] = {"gpu": {"xla_gpu_enable_triton_gemm": False}}


class Block(NamedTuple):
    """What differs between the trials of one program.

    Attributes:
      key_data: uint32 [trials, ...], data of the key of each trial.
      learning_rates: float32 [trials, num_steps].
      weight_decays: float32 [trials].
      cycle_ends: int32 [trials, cycles], the ends of each trial's cycles, filled up with zeros; or
        None without snapshots.
    """

    key_data: jax.Array
    learning_rates: jax.Array
    weight_decays: jax.Array
    cycle_ends: jax.Array | None = None


class TrialPrograms(NamedTuple):
    """The programs of a block of trials, each compiled once per number of trials.

    Attributes:
      init: block -> state; each leaf has a leading axis of trials.
      order: state -> orders of its epoch, int32 [trials, num_train].
      train: (state, block, split, orders, number of steps) -> (state, metrics [trials]); it donates
        the state.
      evaluate: (state, split) -> metrics [trials].
      statistics: (state, training split) -> batch statistics of the state's parameters.
    """

    init: Callable[[Block], TrainState]
    order: Callable[[TrainState], jax.Array]
    train: Any
    evaluate: Callable[[TrainState, Examples], Metrics]
    statistics: Callable[[TrainState, Examples], Any]


def program_of(experiment: Experiment) -> str:
    """Returns a name for the program of a trial: its config without what is data to the program."""
    config = experiment.config
    optimizer = {**config["optimizer"], "weight_decay": None}
    static = {**config, "seed": None, "schedule": None, "optimizer": optimizer}
    return json.dumps(static, sort_keys=True)


def make_block(experiments: Sequence[Experiment]) -> Block:
    """Returns the block of some trials.

    Args:
      experiments: experiments with the same `program_of`.

    Returns:
      Their keys, learning rates, weight decays, and ends of cycles.
    """
    ends = [e.averaging.cycle_ends for e in experiments if e.averaging.cycle_ends is not None]
    most = max(map(len, ends), default=0)
    padded = [[*of_trial, *[0] * (most - len(of_trial))] for of_trial in ends]
    return Block(
        key_data=jax.device_put(np.stack([key_data(e.seed) for e in experiments])),
        learning_rates=jnp.stack(
            [loganneal_jax.tabulate(e.schedule, e.num_steps) for e in experiments]
        ),
        weight_decays=jax.device_put(np.array([e.weight_decay for e in experiments], np.float32)),
        cycle_ends=jax.device_put(np.array(padded, np.int32)) if ends else None,
    )


def make_programs(experiment: Experiment, mesh: Mesh, batched: Batched) -> TrialPrograms:
    """Makes the programs of trials that differ only in what a `Block` holds.

    Args:
      experiment: the experiment of any of the trials.
      mesh: the result of `make_mesh`. The number of trials must be a multiple of its devices.
      batched: `one_after_another` or `side_by_side`; `batched_on` returns the faster one.

    Returns:
      The programs.
    """

    def functions(schedule: Any, weight_decay: Any, cycle_ends: Any) -> assemble.Programs:
        return assemble.pure(
            experiment.task,
            experiment.make_optimizer(schedule, weight_decay),
            experiment.batches,
            averaging=experiment.averaging._replace(cycle_ends=cycle_ends),
        )

    def functions_of(trial: Block) -> assemble.Programs:
        schedule = loganneal_jax.from_values(trial.learning_rates)
        return functions(schedule, trial.weight_decays, trial.cycle_ends)

    def init(trial: Block) -> TrainState:
        return functions_of(trial).init(trial.key_data)

    def train(
        trial: tuple[TrainState, Block, jax.Array], split: Examples, num_steps: jax.Array
    ) -> tuple[TrainState, Metrics]:
        state, block, order = trial
        # A trial that diverges does not stop the others; its row is marked `diverged`.
        state, metrics, _ = functions_of(block).train(state, split, order, num_steps)
        return state, metrics

    def train_all(
        state: TrainState, block: Block, split: Examples, orders: jax.Array, num_steps: jax.Array
    ) -> tuple[TrainState, Metrics]:
        return over_trials(train, mesh, batched)((state, block, orders), split, num_steps)

    # The order of an epoch and evaluation do not depend on the optimizer.
    shared = functions(
        experiment.schedule, experiment.weight_decay, experiment.averaging.cycle_ends
    )
    assert shared.statistics is not None  # a sweep keeps its data in memory
    platform = mesh.devices.flat[0].platform
    options = {
        **parallel.compiler_options(platform, bfloat16=experiment.bfloat16),
        **OPTIONS.get(platform, {}),
    }
    return TrialPrograms(
        init=jax.jit(over_trials(init, mesh, batched)),
        order=jax.jit(over_trials(shared.order, mesh, batched)),
        train=jax.jit(train_all, donate_argnums=0, compiler_options=options),
        evaluate=jax.jit(over_trials(shared.evaluate, mesh, batched), compiler_options=options),
        statistics=jax.jit(over_trials(shared.statistics, mesh, batched), compiler_options=options),
    )


def means(splits: Mapping[str, Sequence[Metrics]]) -> dict[str, list[float]]:
    """Returns the metrics of each trial over the examples of all parts, computed on the host.

    Args:
      splits: "train" or "test" -> metrics [trials] of each part, on the host.

    Returns:
      Values of the trials by split and name, such as `test_loss`.
    """
    found = {}
    for split, parts in splits.items():
        merged = functools.reduce(lambda a, b: a.merge(b), parts)
        num_trials = len(jax.tree.leaves(merged)[0])
        of_trials = [
            jax.tree.map(operator.itemgetter(trial), merged).compute()
            for trial in range(num_trials)
        ]
        for name in of_trials[0]:
            found[f"{split}_{name}"] = [float(of[name]) for of in of_trials]
    return found


def make_mesh() -> Mesh:
    """Returns a mesh of all devices, which share the trials."""
    return jax.make_mesh((jax.device_count(),), ("trials",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what every device holds, such as the data set."""
    return NamedSharding(mesh, PartitionSpec())


def one_after_another(function: Callable[..., Any]) -> Callable[..., Any]:
    """Maps a function of one trial over many trials, one at a time."""
    return lambda trials, *shared: jax.lax.map(lambda trial: function(trial, *shared), trials)


def side_by_side(function: Callable[..., Any]) -> Callable[..., Any]:
    """Maps a function of one trial over many trials at once, whose convolutions are products."""

    def mapped(trials: Any, *shared: Any) -> Any:
        with products.convolutions_as_products():
            return jax.vmap(lambda trial: function(trial, *shared))(trials)

    return mapped


def batched_on(platform: str) -> Batched:
    """Returns the faster way to compute the trials of one device.

    A CPU runs trials one after another, and an accelerator runs them side by side, so that small
    networks fill it. On an H100, 40 narrow ResNets then take an eighth of the time
    (`benchmarks/batching.py`).

    Args:
      platform: platform of the devices.

    Returns:
      `one_after_another` or `side_by_side`.
    """
    return one_after_another if platform == "cpu" else side_by_side


def over_trials(function: Callable[..., Any], mesh: Mesh, batched: Batched) -> Callable[..., Any]:
    """Maps a function of one trial over many trials, which the devices share.

    Args:
      function: takes a trial, a pytree without an axis of trials, and shared arguments.
      mesh: the result of `make_mesh`.
      batched: how a device computes its share.

    Returns:
      A function of trials, whose leaves have a leading axis of trials, and the shared arguments.
      Its results have that axis too.
    """

    def all_trials(trials: Any, *shared: Any) -> Any:
        split, whole = PartitionSpec("trials"), PartitionSpec()
        return jax.shard_map(
            batched(function),
            mesh=mesh,
            in_specs=(split, *(whole for _ in shared)),
            out_specs=split,
            # Trials do not communicate, so there is nothing to check. The check would also refuse a
            # loop's first metrics, which are constants while its later ones differ by device.
            check_vma=False,
        )(trials, *shared)

    return all_trials


def memory_share() -> float:
    """Returns the number of bytes that a block of trials may use on each device."""
    statistics = jax.devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return MEMORY_SHARE * statistics["bytes_limit"]
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return HOST_MEMORY_SHARE * host / jax.local_device_count()


def block_size_that_fits(
    programs: TrialPrograms, block: Block, split: Examples, *, num_devices: int
) -> int:
    """Returns how many trials fit into memory at once, by the memory analysis of their program.

    Args:
      programs: the result of `make_programs`.
      block: all trials; their number is a multiple of `num_devices`.
      split: the training split.
      num_devices: devices that share the trials.

    Returns:
      The number of trials if all fit; otherwise the largest multiple of `num_devices` that fits,
      and at least `num_devices`.
    """
    state = jax.eval_shape(programs.init, block)
    orders = jax.eval_shape(programs.order, state)
    compiled = programs.train.lower(state, block, split, orders, 1).compile()
    analysis = compiled.memory_analysis()
    needed = (
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes
        - analysis.alias_size_in_bytes
    )
    num_trials = len(block.weight_decays)
    share = min(1.0, memory_share() / needed)
    return max(num_devices, int(num_trials * share) // num_devices * num_devices)
