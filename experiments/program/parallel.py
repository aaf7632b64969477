"""How devices share the work of a step: one program over a mesh, or one program per device.

The data set and the state are replicated on every device, and each device processes its share of
every batch. Under `jit`, one program runs over the mesh and XLA partitions it. Under `pmap`, each
device runs its own program and refers to the others by the name of an axis.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from experiments.errors import UserError
from experiments.models.cpu import support
from experiments.program.steps import Share

AXIS = "batch"
Options = dict[str, str | bool]  # XLA options by name
# YNN is faster than XLA's own code for sums, and half as fast as Eigen for small convolutions.
CPU_OPTIONS: Options = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


class Strategy(NamedTuple):
    """How devices share the work of a step.

    Attributes:
      mesh: the devices, along the single axis `AXIS`.
      share: from the indices of a batch to those that the program's code processes.
      compile: compiles a function whose arguments and results are replicated on every device. Call
        it as `compile(function, donate=...)`; the first argument, the state, may be donated.
    """

    mesh: Mesh
    share: Share
    compile: Callable[..., Any]

    @property
    def replicated(self) -> NamedSharding:
        """The sharding of an array that is replicated on every device."""
        return NamedSharding(self.mesh, PartitionSpec())


def make_strategy(name: str, devices: Sequence[jax.Device], *, bfloat16: bool = False) -> Strategy:
    """Makes a strategy for a set of devices.

    Args:
      name: a key of `STRATEGIES`.
      devices: the devices of all processes.
      bfloat16: whether the programs compute in bfloat16.

    Returns:
      The strategy.
    """
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    return STRATEGIES[name](mesh, compiler_options(devices[0].platform, bfloat16=bfloat16))


def compiler_options(platform: str, *, bfloat16: bool = False) -> Options:
    """Returns the XLA options that training programs are compiled with, beyond the defaults.

    Args:
      platform: platform of the devices, such as "cpu".
      bfloat16: whether the programs compute in bfloat16.

    Returns:
      Values by option name.
    """
    if platform != "cpu":
        return {}
    if not bfloat16:
        return CPU_OPTIONS
    support.warn_without_onednn()
    return {**CPU_OPTIONS, **support.onednn_options()}


def check_batch_size(batch_size: int, *, accumulate_steps: int, num_devices: int) -> None:
    """Refuses a batch that the devices cannot share equally.

    Args:
      batch_size: training examples per step.
      accumulate_steps: micro-batches per step.
      num_devices: devices of all processes.

    Raises:
      UserError: `batch_size` is not a multiple of devices times micro-batches.
    """
    if batch_size % (num_devices * accumulate_steps):
        each = (
            f" in {accumulate_steps} micro-batches each (parallel.accumulate_steps)"
            if accumulate_steps > 1
            else ""
        )
        raise UserError(
            f"batch_size={batch_size} cannot be divided among {num_devices} devices{each}; "
            f"it must be a multiple of {num_devices * accumulate_steps}"
        )


def to_devices(
    examples: Mapping[str, np.ndarray], sharding: jax.sharding.Sharding
) -> dict[str, jax.Array]:
    """Copies a split of a data set to the devices, where it stays.

    Args:
      examples: named host arrays, the same in every process.
      sharding: a replicated sharding.

    Returns:
      The same arrays on the devices.
    """
    return {name: replicate(array, sharding) for name, array in examples.items()}


def replicate(array: np.ndarray, sharding: jax.sharding.Sharding) -> jax.Array:
    """Copies an array to the devices, without asking the other processes whether theirs is equal.

    Args:
      array: host array, the same in every process.
      sharding: a replicated sharding.

    Returns:
      The same array on the devices.
    """
    shards = [jax.device_put(array, device) for device in sharding.addressable_devices]
    return jax.make_array_from_single_device_arrays(array.shape, sharding, shards)


@functools.cache
def count(number: int, sharding: jax.sharding.Sharding) -> jax.Array:
    """Copies a number of steps to the devices, as int32.

    The copy is kept: a run has few of these numbers, and for a small network, a copy takes longer
    than a step.
    """
    return replicate(np.asarray(number, np.int32), sharding)


def shapes_of(examples: Mapping[str, np.ndarray]) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes and dtypes that host arrays will have on the devices."""
    return {
        name: jax.ShapeDtypeStruct(array.shape, array.dtype) for name, array in examples.items()
    }


def _jit(mesh: Mesh, options: Options) -> Strategy:
    """Runs one program over the mesh; XLA derives every other sharding from the indices."""

    def share(indices: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(indices, NamedSharding(mesh, PartitionSpec(AXIS)))

    def compile_(function: Callable[..., Any], *, donate: bool) -> Callable[..., Any]:
        @functools.wraps(function)
        def on_mesh(*arguments: Any) -> Any:
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return function(*arguments)

        return jax.jit(
            on_mesh,
            donate_argnums=0 if donate else (),
            out_shardings=NamedSharding(mesh, PartitionSpec()),
            compiler_options=options,
        )

    return Strategy(mesh, share, compile_)


def _pmap(mesh: Mesh, _: Options) -> Strategy:
    """Runs one program per device, each on a contiguous share; pmap accepts no options."""
    num_local = len(mesh.local_devices)

    def share(indices: jax.Array) -> jax.Array:
        size = len(indices) // mesh.size
        return jax.lax.dynamic_slice_in_dim(indices, jax.lax.axis_index(AXIS) * size, size)

    def replicate(leaf: jax.Array) -> jax.Array:
        # pmap returns an array that is replicated on the devices of its own process only.
        shards = [shard.data for shard in leaf.addressable_shards]
        sharding = NamedSharding(mesh, PartitionSpec())
        return jax.make_array_from_single_device_arrays(leaf.shape, sharding, shards)

    def compile_(function: Callable[..., Any], *, donate: bool) -> Callable[..., Any]:
        num_arguments = len(inspect.signature(function).parameters)
        # pmap needs at least one mapped argument.
        mapped = jax.pmap(
            lambda _, *arguments: function(*arguments),
            axis_name=AXIS,
            in_axes=(0, *(num_arguments * [None])),
            out_axes=None,
            devices=list(mesh.devices.flat),
            donate_argnums=1 if donate else (),
        )
        return lambda *arguments: jax.tree.map(replicate, mapped(np.zeros(num_local), *arguments))

    return Strategy(mesh, share, compile_)


STRATEGIES: dict[str, Callable[[Mesh, Options], Strategy]] = {"jit": _jit, "pmap": _pmap}
