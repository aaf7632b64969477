"""Many trials in one program: a schedule is a row of a table, and trials are an axis of the state.

Trials whose configs differ in nothing but schedule, seed and weight decay run in one program: the
learning rates of a trial are data, from which `from_values` makes a schedule again. The step is the
one that a single run takes.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

import loganneal_jax
from experiments import build, parallel, step
from experiments.optimizers import make_optimizer
from experiments.parallel import Split
from experiments.step import Metrics, TrainState

# From a function of one trial, and what all share, to one of many trials.
Batched = Callable[[Callable[..., Any]], Callable[..., Any]]

MEMORY_SHARE = 0.8  # of an accelerator's memory that a block may take
HOST_MEMORY_SHARE = 0.5  # of the host's, which other work needs too


class Block(NamedTuple):
    """What differs between the trials of one program.

    Attributes:
      keys: typed PRNG keys [trials].
      learning_rates: float32 [trials, steps].
      weight_decays: float32 [trials].
    """

    keys: jax.Array
    learning_rates: jax.Array
    weight_decays: jax.Array


class Programs(NamedTuple):
    """The functions of a block of trials, each compiled once for a number of trials.

    Attributes:
      init: block -> state, of which every leaf has a leading axis of trials.
      order: state -> the orders of its epoch, int32 [trials, examples].
      train: (state, block, split, orders, number of steps) -> (state, metrics [trials]); donates
        the state.
      evaluate: (state, split) -> metrics [trials].
    """

    init: Callable[[Block], TrainState]
    order: Callable[[TrainState], jax.Array]
    train: Any
    evaluate: Callable[[TrainState, Split], Metrics]


def program_of(config: ConfigDict) -> str:
    """Names the program that a trial runs in: its config without what is data to the program."""
    static = config.copy_and_resolve_references()
    static.seed = 0
    static.schedule = ConfigDict()
    static.optimizer.weight_decay = 0.0
    return static.to_json(sort_keys=True)


def make_block(configs: Sequence[ConfigDict], experiments: Sequence[build.Experiment]) -> Block:
    """The block of the trials that these configs describe.

    Args:
      configs: configs of which `program_of` gives the same.
      experiments: what was built from each.

    Returns:
      Their keys, learning rates and weight decays.
    """
    rates = [
        loganneal_jax.tabulate(experiment.schedule, experiment.num_steps)
        for experiment in experiments
    ]
    return Block(
        keys=jnp.stack([jax.random.key(config.seed) for config in configs]),
        learning_rates=jnp.stack(rates),
        weight_decays=jnp.array([c.optimizer.weight_decay for c in configs], jnp.float32),
    )


def make_programs(
    config: ConfigDict,
    experiment: build.Experiment,
    normalize: step.Normalize,
    mesh: Mesh,
    batched: Batched,
) -> Programs:
    """The programs of trials that share a config, apart from what a `Block` holds.

    Args:
      config: the config of any of the trials.
      experiment: what was built from it.
      normalize: what a step does to the images that `build.load` returned.
      mesh: of `make_mesh`; the number of its devices must divide the number of trials.
      batched: `one_after_another` or `side_by_side`; `batched_on` knows the faster one.

    Returns:
      The programs.
    """

    def optimizer_of(trial: Block) -> Any:
        schedule = loganneal_jax.from_values(trial.learning_rates)
        return make_optimizer(config.optimizer, schedule, weight_decay=trial.weight_decays)

    def init(trial: Block) -> TrainState:
        return step.init_state(
            trial.keys,
            model=experiment.model,
            optimizer=optimizer_of(trial),
            image_shape=experiment.dataset.image_shape,
        )

    def train(
        trial: tuple[TrainState, Block, jax.Array], split: Split, num_steps: jax.Array
    ) -> tuple[TrainState, Metrics]:
        state, block, order = trial
        own = experiment._replace(optimizer=optimizer_of(block))
        train_step, _ = build.make_steps(config, own, normalize)
        run_steps = parallel.training(
            train_step,
            batch_size=config.batch_size,
            steps_per_epoch=experiment.steps_per_epoch,
        )
        # A trial whose loss is no number goes on beside the others, and its row says so.
        state, metrics, _ = run_steps(state, split, order, num_steps)
        return state, metrics

    def evaluate(state: TrainState, split: Split) -> Metrics:
        _, eval_step = build.make_steps(config, experiment, normalize)
        return parallel.evaluation(eval_step, batch_size=config.eval_batch_size)(state, split)

    def train_all(
        state: TrainState, block: Block, split: Split, orders: jax.Array, num_steps: jax.Array
    ) -> tuple[TrainState, Metrics]:
        return over_trials(train, mesh, batched)((state, block, orders), split, num_steps)

    order = parallel.ordering(
        num_examples=experiment.dataset.num_train, steps_per_epoch=experiment.steps_per_epoch
    )

    options = parallel.compiler_options(mesh.devices.flat[0].platform)
    return Programs(
        init=jax.jit(over_trials(init, mesh, batched)),
        order=jax.jit(over_trials(order, mesh, batched)),
        train=jax.jit(train_all, donate_argnums=0, compiler_options=options),
        evaluate=jax.jit(over_trials(evaluate, mesh, batched), compiler_options=options),
    )


def make_mesh() -> Mesh:
    """A mesh of all devices, along which trials are laid out."""
    return jax.make_mesh((jax.device_count(),), ("trials",), axis_types=(AxisType.Auto,))


def everywhere(mesh: Mesh) -> NamedSharding:
    """The sharding of what every device holds whole, such as the data set."""
    return NamedSharding(mesh, PartitionSpec())


def one_after_another(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one trial and what all share, as a loop over many trials."""
    return lambda trials, *shared: jax.lax.map(lambda trial: function(trial, *shared), trials)


def side_by_side(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one trial and what all share, as one that computes many at once."""
    return lambda trials, *shared: jax.vmap(lambda trial: function(trial, *shared))(trials)


def batched_on(platform: str) -> Batched:
    """The faster way to compute the trials of a device.

    A CPU runs them one after another: by `jax.vmap` convolutions become grouped ones, and a step of
    a trial takes 1.7 times as long in LeNet-4, 2.0 in ResNet-18, and 1.1 in NN-2, whose batched
    matrix products gain nothing (`benchmarks/batching.py`). An accelerator runs them side by side,
    to be filled by small networks too; that was not measured.

    Args:
      platform: of the devices.

    Returns:
      `one_after_another` or `side_by_side`.
    """
    return one_after_another if platform == "cpu" else side_by_side


def over_trials(function: Callable[..., Any], mesh: Mesh, batched: Batched) -> Callable[..., Any]:
    """A function of one trial, made one of many: each device runs its share of them.

    Args:
      function: from a trial, a pytree without axis of trials, and what all trials share.
      mesh: of `make_mesh`.
      batched: how a device computes its share.

    Returns:
      A function from trials, each leaf of the pytree with a leading axis of trials, and what they
      share; its results have that axis too.
    """

    def all_trials(trials: Any, *shared: Any) -> Any:
        laid_out, whole = PartitionSpec("trials"), PartitionSpec()
        return jax.shard_map(
            batched(function),
            mesh=mesh,
            in_specs=(laid_out, *(whole for _ in shared)),
            out_specs=laid_out,
            # Nothing crosses from trial to trial, so there is nothing to check; and the check does
            # not know that a loop's first metrics, which are constants, will differ by device.
            check_vma=False,
        )(trials, *shared)

    return all_trials


def memory_share() -> float:
    """Bytes that a block of trials may take on each device."""
    statistics = jax.devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return MEMORY_SHARE * statistics["bytes_limit"]
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return HOST_MEMORY_SHARE * host / jax.local_device_count()


def block_size_that_fits(
    programs: Programs, block: Block, split: Split, *, num_devices: int
) -> int:
    """How many of these trials may run at once, by the memory analysis of their program.

    Args:
      programs: of `make_programs`.
      block: all trials; their number is a multiple of `num_devices`.
      split: the training split.
      num_devices: devices that share the trials.

    Returns:
      The number of trials if all fit; else as many as fit, a multiple of `num_devices`.
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
