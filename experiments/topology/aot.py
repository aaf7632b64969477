"""Compiles the training program of a run for devices that are not attached, and analyzes it."""

import dataclasses
import sys
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies

from experiments.build.experiment import Experiment, build
from experiments.errors import UserError
from experiments.program import assemble, blocks, parallel, switches
from experiments.program.state import key_data
from experiments.topology.hlo import Collective, collectives
from experiments.topology.roofline import Chip, Estimate, estimate

# A v4 chip has two cores, which a TPU VM shows as one device.
ONE_DEVICE_PER_CHIP = {"v4": {"chip_config_name": "megacore"}}
KINDS_OF_MEMORY = ("argument", "output", "temp", "generated_code", "alias")


class Report(NamedTuple):
    """The analysis of a compiled step; counts are for one chip.

    Attributes:
      num_chips: number of chips in the topology.
      batch_size: examples per step, over all chips.
      flops: floating-point operations.
      bytes_accessed: bytes read and written, some of them in memory on the chip.
      memory: bytes by kind; an aliased output takes the place of an argument.
      collectives: data that the chips exchange.
      least: the least time of a step, by the roofline model.
    """

    num_chips: int
    batch_size: int
    flops: float
    bytes_accessed: float
    memory: dict[str, int]
    collectives: list[Collective]
    least: Estimate

    @property
    def used_bytes(self) -> int:
        """Bytes of a chip's memory, where an aliased output shares its argument's place."""
        return sum(self.memory.values()) - 2 * self.memory["alias"]


def build_and_compile(
    config: Any, topology: str, chip: Chip, given: Collection[str] = ()
) -> Report | int:
    """Builds an experiment and compiles it, in a process that can crash with the compiler.

    Args:
      config: the config of the run, as `build.experiment.build` takes it.
      topology: a chip and a shape, such as "v5e:2x4".
      chip: the chip of the topology.
      given: dotted fields that the command line set.

    Returns:
      The result of `compile_for_topology`.

    Raises:
      UserError: the config or the topology cannot be used.
    """
    switches.pin()
    return compile_for_topology(build(config, given), topology, chip)


def compile_for_topology(experiment: Experiment, topology: str, chip: Chip) -> Report | int:
    """Compiles the training program of a run for TPUs that are not attached.

    Args:
      experiment: the experiment; its data set is loaded.
      topology: a chip and a shape, such as "v5e:2x4".
      chip: the chip of the topology.

    Returns:
      The report; or, if the batch does not fit into memory, the largest number of examples per chip
      that fits.

    Raises:
      UserError: the topology does not exist, or its devices cannot share the batch.
    """
    devices = devices_of(topology)
    report = compile_step(experiment, devices, chip)
    if report is not None:
        return report
    print(f"{topology}: does not fit, looking for the largest batch", file=sys.stderr)

    def fits(share: int) -> bool:
        batches = experiment.batches._replace(batch_size=share * len(devices))
        smaller = dataclasses.replace(experiment, batches=batches)
        return compile_step(smaller, devices, chip) is not None

    return largest_batch(fits, below=experiment.batches.batch_size // len(devices))


def largest_batch(fits: Callable[[int], bool], *, below: int) -> int:
    """Returns the largest number of examples per chip that fits, found by bisection.

    Args:
      fits: returns whether a number of examples fits. If it does, every smaller number does too.
      below: a number that does not fit.

    Returns:
      The number, or 0 if not even one example fits.

    >>> largest_batch(lambda share: share <= 37, below=100)
    37
    """
    most = 0
    while below - most > 1:
        middle = (most + below) // 2
        if fits(middle):
            most = middle
        else:
            below = middle
    return most


def devices_of(topology: str) -> list[Any]:
    """Returns the devices of a TPU topology that is not attached.

    Args:
      topology: a chip and a shape, such as "v5e:2x4".

    Returns:
      One device per chip.

    Raises:
      UserError: the topology does not exist.
    """
    options = ONE_DEVICE_PER_CHIP.get(topology.split(":")[0], {})
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except Exception as error:  # the plugin raises types of its own
        reason = " ".join(str(error).split())
        raise UserError(f"--topology={topology!r} does not exist ({reason})") from error
    return list(described.devices)


def compile_step(experiment: Experiment, devices: list[Any], chip: Chip) -> Report | None:
    """Compiles the training program of a run for a set of devices.

    Args:
      experiment: the experiment.
      devices: the devices.
      chip: the chip of each device.

    Returns:
      The report, or None if the program does not fit into the chip's memory.

    Raises:
      UserError: the devices cannot share the batch.
    """
    batches = experiment.batches
    parallel.check_batch_size(
        batches.batch_size,
        accumulate_steps=experiment.accumulate_steps,
        num_devices=len(devices),
    )
    strategy = parallel.make_strategy(experiment.strategy, devices, bfloat16=experiment.bfloat16)
    programs = assemble.compiled(
        experiment.task,
        experiment.optimizer,
        batches,
        strategy,
        averaging=experiment.averaging,
        loss_limit=experiment.guard.loss_limit,
    )
    state = jax.eval_shape(programs.init, key_data(experiment.seed))
    num_steps = np.int32(experiment.log_every_steps)
    shapes = (
        _on(strategy.replicated, state),
        *_data_shapes(experiment, strategy),
        _on(strategy.replicated, num_steps),
    )
    try:
        compiled = programs.train.lower(*shapes).compile()  # type: ignore[attr-defined]
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            return None
        raise
    return _report(compiled, batches.batch_size, len(devices), chip)


def _data_shapes(experiment: Experiment, strategy: parallel.Strategy) -> tuple[Any, ...]:
    """Returns the shapes of the data that the training program takes."""
    batches, task = experiment.batches, experiment.task
    if task.stream is not None:
        readers = task.stream.open()
        layouts = readers.train.layouts
        log_every_steps = experiment.log_every_steps
        size = blocks.sizes(
            layouts, batches, log_every_steps=log_every_steps, num_test=len(readers.test)
        ).train
        block = blocks.shapes(layouts, size, batches.batch_size)
        return (_on(blocks.sharding(strategy.mesh), block),)
    split = parallel.shapes_of(task.load().train)
    order = jax.ShapeDtypeStruct((batches.num_train,), jnp.int32)
    return _on(strategy.replicated, split), _on(strategy.replicated, order)


def _on(sharding: jax.sharding.Sharding, tree: Any) -> Any:
    """Returns the shapes of arrays with a sharding."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), leaf.dtype, sharding=sharding), tree
    )


def _report(compiled: Any, batch_size: int, num_chips: int, chip: Chip) -> Report | None:
    # XLA counts the body of a loop once, and the body is one step.
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    by_kind = {kind: getattr(memory, f"{kind}_size_in_bytes") for kind in KINDS_OF_MEMORY}
    exchanged = collectives(compiled.as_text())
    report = Report(
        num_chips=num_chips,
        batch_size=batch_size,
        flops=cost["flops"],
        bytes_accessed=cost["bytes accessed"],
        memory=by_kind,
        collectives=exchanged,
        least=estimate(
            chip,
            flops=cost["flops"],
            bytes_accessed=cost["bytes accessed"],
            collective_bytes=sum(each.num_bytes for each in exchanged),
            num_chips=num_chips,
        ),
    )
    return report if report.used_bytes <= chip.hbm_bytes else None
