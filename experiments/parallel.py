"""How steps run: many of them in one compiled program, their batches shared by the devices.

The data set and the state are whole on every device; of each batch a device has its share. Under
`jit` that is one program over a mesh, which XLA divides; under `pmap` one for each device, which
knows the others by the name of an axis.
"""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from experiments.alarm import NO_LIMIT, Alarm, LossLimit, silent, watch_loss, watch_state
from experiments.data.datasets import Dataset
from experiments.errors import UserError
from experiments.step import Batch, Metrics, TrainState, run_keys

AXIS = "batch"
# YNN sums faster than XLA's own code, and multiplies small convolutions at half of Eigen's speed.
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
Share = Callable[[jax.Array], jax.Array]


class Split(NamedTuple):
    """One split of a data set on the device."""

    images: jax.Array  # uint8 [examples, height, width, channels]
    labels: jax.Array  # int32 [examples]


class Strategy(NamedTuple):
    """How devices share the work of a step.

    Attributes:
      mesh: the devices, along the one axis `AXIS`.
      share: from the indices of a whole batch to those that the program's code is to take.
      compile: makes a function of arrays that are whole on every device, and returns such, a
        compiled one; called as `compile(function, donate=...)`, where its first argument, the
        state, may be donated.
    """

    mesh: Mesh
    share: Share
    compile: Callable[..., Any]

    @property
    def sharding(self) -> NamedSharding:
        """Of what is whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())


class TrainSteps(Protocol):
    """Runs `num_steps` steps of one epoch."""

    def __call__(
        self, state: TrainState, split: Split, order: jax.Array, num_steps: jax.typing.ArrayLike
    ) -> tuple[TrainState, Metrics, Alarm]:
        """Returns the state after the steps, their metrics, and what rang the alarm in them."""


def make_strategy(config: ConfigDict, devices: Sequence[jax.Device]) -> Strategy:
    """The strategy that the section `parallel` of a config names.

    Args:
      config: the section, with the fields of `configs/base.py`.
      devices: the devices of all processes.

    Returns:
      The strategy.
    """
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    return STRATEGIES[config.strategy](mesh)


def compiler_options(platform: str) -> dict[str, str]:
    """What the compiler is told beyond its defaults.

    Args:
      platform: of the devices.

    Returns:
      Options by name.
    """
    return CPU_OPTIONS if platform == "cpu" else {}


def check_batch_size(config: ConfigDict, num_devices: int) -> None:
    """Refuses a batch of which the devices cannot have equal shares.

    Args:
      config: a run's config.
      num_devices: devices of all processes.

    Raises:
      UserError: the devices, times the pieces, do not divide `batch_size`.
    """
    pieces = config.parallel.accumulate_steps
    if config.batch_size % (num_devices * pieces):
        each = f", each in {pieces} pieces (parallel.accumulate_steps)" if pieces > 1 else ""
        raise UserError(
            f"batch_size={config.batch_size} cannot be divided among {num_devices} devices{each}; "
            f"it must be a multiple of {num_devices * pieces}"
        )


def _jit(mesh: Mesh) -> Strategy:
    """One program over the mesh; XLA finds from the indices how everything else is laid out."""

    def share(indices: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(indices, NamedSharding(mesh, PartitionSpec(AXIS)))

    def compile_(function: Callable[..., Any], *, donate: bool) -> Callable[..., Any]:
        everywhere = NamedSharding(mesh, PartitionSpec())

        @functools.wraps(function)
        def on_mesh(*arguments: Any) -> Any:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return function(*arguments)

        return jax.jit(
            on_mesh,
            donate_argnums=0 if donate else (),
            out_shardings=everywhere,
            compiler_options=compiler_options(mesh.devices.flat[0].platform),
        )

    return Strategy(mesh, share, compile_)


def _pmap(mesh: Mesh) -> Strategy:
    """A program for each device, whose share of a batch is a piece of it."""
    num_local = len(mesh.local_devices)

    def share(indices: jax.Array) -> jax.Array:
        size = len(indices) // mesh.size
        return jax.lax.dynamic_slice_in_dim(indices, jax.lax.axis_index(AXIS) * size, size)

    def everywhere(leaf: jax.Array) -> jax.Array:
        # What pmap returns is whole on the devices of its own process.
        shards = [shard.data for shard in leaf.addressable_shards]
        sharding = NamedSharding(mesh, PartitionSpec())
        return jax.make_array_from_single_device_arrays(leaf.shape, sharding, shards)

    def compile_(function: Callable[..., Any], *, donate: bool) -> Callable[..., Any]:
        num_arguments = len(inspect.signature(function).parameters)
        # Of the arguments of a pmap one at least must be mapped.
        mapped = jax.pmap(
            lambda _, *arguments: function(*arguments),
            axis_name=AXIS,
            in_axes=(0, *(num_arguments * [None])),
            out_axes=None,
            devices=list(mesh.devices.flat),
            donate_argnums=1 if donate else (),
        )
        return lambda *arguments: jax.tree.map(everywhere, mapped(np.zeros(num_local), *arguments))

    return Strategy(mesh, share, compile_)


STRATEGIES: dict[str, Callable[[Mesh], Strategy]] = {"jit": _jit, "pmap": _pmap}


def to_device(dataset: Dataset, sharding: jax.sharding.Sharding) -> tuple[Split, Split]:
    """The training and the test split, moved onto the devices to stay there.

    Args:
      dataset: the data set, the same in every process.
      sharding: of what is whole on every device.

    Returns:
      The two splits.
    """

    def put(array: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return (
        Split(put(dataset.train_images), put(dataset.train_labels)),
        Split(put(dataset.test_images), put(dataset.test_labels)),
    )


def everything(indices: jax.Array) -> jax.Array:
    """The share of a batch that a program alone with it takes."""
    return indices


def pieces(
    start: int, stop: int, size: int, boundaries: Sequence[int] = ()
) -> Iterator[tuple[int, int]]:
    """First step and end of each piece of so many steps, cut at the boundaries too.

    >>> list(pieces(0, 5, 2))
    [(0, 2), (2, 4), (4, 5)]
    >>> list(pieces(0, 5, 2, boundaries=(3, 9)))
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    inside = (step for step in boundaries if start < step < stop)
    return itertools.pairwise(sorted({*range(start, stop, size), *inside, stop}))


def ordering(*, num_examples: int, steps_per_epoch: int) -> Callable[[TrainState], jax.Array]:
    """Makes the function that draws the order of an epoch, to be compiled.

    It is called once an epoch, and not in every dispatch: to draw the order of 60,000 examples
    takes a CPU 20 ms, as long as 17 steps of a small network.

    Args:
      num_examples: of the training split.
      steps_per_epoch: steps an epoch.

    Returns:
      A function from the state to the order of its epoch, int32 [num_examples], which is a pure
      function of (key, epoch).
    """

    def order(state: TrainState) -> jax.Array:
        _, order_key, *_ = run_keys(state.key)
        epoch_key = jax.random.fold_in(order_key, state.step // steps_per_epoch)
        return jax.random.permutation(epoch_key, num_examples)

    return order


def training(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    *,
    batch_size: int,
    steps_per_epoch: int,
    loss_limit: LossLimit = NO_LIMIT,
    share: Share = everything,
) -> TrainSteps:
    """Makes the function that runs any number of consecutive steps of an epoch, to be compiled.

    The examples of a step are a pure function of (key, step): every epoch takes the training split
    in an order of its own, whose last incomplete batch is left out.

    Args:
      train_step: one update, from state and batch.
      batch_size: images a step.
      steps_per_epoch: steps an epoch.
      loss_limit: the loss of a step that rings the alarm.
      share: of the strategy it is compiled by.

    Returns:
      A function (state, split, order, num_steps) -> (state, metrics of those steps, alarm). The
      steps must all be of one epoch, whose order it is.
    """

    def train_steps(
        state: TrainState, split: Split, order: jax.Array, num_steps: jax.typing.ArrayLike
    ) -> tuple[TrainState, Metrics, Alarm]:
        def body(
            _: jax.Array, carry: tuple[TrainState, Metrics, Alarm]
        ) -> tuple[TrainState, Metrics, Alarm]:
            state, metrics, alarm = carry
            start = state.step % steps_per_epoch * batch_size
            indices = share(jax.lax.dynamic_slice(order, (start,), (batch_size,)))
            batch = {"image": split.images[indices], "label": split.labels[indices]}
            state, step_metrics = train_step(state, batch)
            loss = step_metrics.loss.compute()
            alarm = watch_loss(alarm, step=state.step, loss=loss, limit=loss_limit)
            return state, metrics.merge(step_metrics), alarm

        # The number of steps is data, not a shape, so that an epoch's shorter last interval runs
        # in the same program: a scan would be compiled once for every length.
        before = (state, Metrics.empty(), silent())
        state, metrics, alarm = jax.lax.fori_loop(0, num_steps, body, before)
        return state, metrics, watch_state(alarm, state)

    return train_steps


def evaluation(
    eval_step: Callable[[TrainState, Batch], Metrics],
    *,
    batch_size: int,
    share: Share = everything,
) -> Callable[[TrainState, Split], Metrics]:
    """Makes the function that evaluates a whole split, every example exactly once, to be compiled.

    Args:
      eval_step: metrics of one batch, from state and batch.
      batch_size: images a batch, a multiple of the number of devices; the last one is filled up
        with masked repetitions.
      share: of the strategy it is compiled by.

    Returns:
      A function (state, split) -> metrics of the split.
    """

    def evaluate(state: TrainState, split: Split) -> Metrics:
        num_examples = split.labels.shape[0]

        def body(metrics: Metrics, start: jax.Array) -> tuple[Metrics, None]:
            indices = share(start + jnp.arange(batch_size))
            mask = indices < num_examples
            indices = jnp.where(mask, indices, 0)
            batch = {"image": split.images[indices], "label": split.labels[indices], "mask": mask}
            return metrics.merge(eval_step(state, batch)), None

        starts = jnp.arange(0, num_examples, batch_size)
        metrics, _ = jax.lax.scan(body, Metrics.empty(), starts)
        return metrics

    return evaluate
