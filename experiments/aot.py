"""A run's training program compiled for devices that need not be here, and what is known of it."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from ml_collections import ConfigDict

from experiments import build, guard, parallel, step
from experiments.errors import UserError
from experiments.hlo import Collective, collectives
from experiments.roofline import Chip, Estimate, estimate

# The two cores of a chip as the one device that a TPU VM shows.
ONE_DEVICE_A_CHIP = {"v4": {"chip_config_name": "megacore"}}
KINDS_OF_MEMORY = ("argument", "output", "temp", "generated_code", "alias")


class Report(NamedTuple):
    """What is known of a step that was compiled; counts are of one chip.

    Attributes:
      num_chips: chips of the topology.
      batch_size: images a step, over all chips.
      flops: operations.
      bytes_accessed: bytes read and written, some of them in memory on the chip.
      memory: bytes by kind; what is aliased is an output in the place of an argument.
      collectives: what the chips exchange.
      least: the roofline's estimate.
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
        """Of a chip's memory; an aliased output has its argument's place."""
        return sum(self.memory.values()) - 2 * self.memory["alias"]


Compile = Callable[[int, list[Any], Chip], Report | None]


def compile_for_topology(config: ConfigDict, topology: str, chip: Chip) -> Report | int:
    """Compiles the training program of a run for TPUs that are not here.

    Args:
      config: the run's config; its data set is here.
      topology: as of `devices_of`.
      chip: what the topology consists of.

    Returns:
      The report; where the batch does not fit, the largest number of images a chip that does.

    Raises:
      UserError: the config cannot be used, there is no such topology, or it does not divide the
        batch.
    """
    devices = devices_of(topology)
    compile_for = compiler(config)
    report = compile_for(config.batch_size, devices, chip)
    if report is not None:
        return report
    print(f"{topology}: does not fit, looking for the largest batch", file=sys.stderr)
    fits = partial(_fits, compile_for, devices, chip)
    return largest_batch(fits, below=config.batch_size // len(devices))


def largest_batch(fits: Callable[[int], bool], *, below: int) -> int:
    """The largest number of images a chip that fits, by bisection.

    Args:
      fits: whether a number of images a chip does; it does for all below one that does.
      below: a number that does not.

    Returns:
      The number; 0 where not even 1 does.

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
    """The devices of TPUs that are not here.

    Args:
      topology: a chip and a shape, such as "v5e:2x4".

    Returns:
      A device a chip.

    Raises:
      UserError: there are no such TPUs.
    """
    options = ONE_DEVICE_A_CHIP.get(topology.split(":")[0], {})
    try:
        described = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except Exception as error:  # of the plugin, which has types of its own
        reason = " ".join(str(error).split())
        raise UserError(f"there is no --topology={topology!r} ({reason})") from error
    return list(described.devices)


def compiler(config: ConfigDict) -> Compile:
    """Makes the function that compiles the training program of a run.

    Args:
      config: the run's config; its data set is there.

    Returns:
      A function (batch size, devices, their chip) -> report, or None where it does not fit.

    Raises:
      UserError: the config cannot be used. The function raises it where the devices do not divide
        the batch.
    """
    experiment = build.build(config)
    dataset, normalize = build.load(config, experiment)
    train_step, _ = build.make_steps(config, experiment, normalize)
    limit = guard.loss_limit(config.guard, steps_per_epoch=experiment.steps_per_epoch)

    def init_state(key_data: jax.Array) -> step.TrainState:
        return step.init_state(
            jax.random.wrap_key_data(key_data),
            model=experiment.model,
            optimizer=experiment.optimizer,
            image_shape=experiment.dataset.image_shape,
        )

    key_data = np.asarray(jax.random.key_data(jax.random.key(config.seed)))
    split = parallel.to_device(dataset, jax.sharding.SingleDeviceSharding(jax.devices()[0]))[0]
    order = jax.ShapeDtypeStruct(split.labels.shape, jnp.int32)
    state = jax.eval_shape(init_state, key_data)
    arguments = (state, split, order, np.int32(config.log_every_steps))

    def compile_for(batch_size: int, devices: list[Any], chip: Chip) -> Report | None:
        with_batch = config.copy_and_resolve_references()
        with_batch.batch_size = batch_size
        parallel.check_batch_size(with_batch, len(devices))
        strategy = parallel.make_strategy(config.parallel, devices)
        train_steps = parallel.training(
            train_step,
            batch_size=batch_size,
            steps_per_epoch=experiment.dataset.num_train // batch_size,
            loss_limit=limit,
            share=strategy.share,
        )
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                jnp.shape(leaf), leaf.dtype, sharding=strategy.sharding
            ),
            arguments,
        )
        try:
            compiled = strategy.compile(train_steps, donate=True).lower(*shapes).compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                return None
            raise
        return _report(compiled, batch_size, len(devices), chip)

    return compile_for


def _fits(compile_for: Compile, devices: list[Any], chip: Chip, share: int) -> bool:
    return compile_for(share * len(devices), devices, chip) is not None


def _report(compiled: Any, batch_size: int, num_chips: int, chip: Chip) -> Report | None:
    # XLA counts what is in a loop once, which is one step.
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
