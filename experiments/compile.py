"""Compiles a run for absent TPUs: python -m experiments.compile --config=... --topology=v5e:2x4.

Prints what a step costs, whether it fits into a chip's memory, and how long it must take at least.
Exits with code 1 where it does not fit. Needs libtpu, which comes with the extra `tpu`.
"""

import importlib.util
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import cli, fields
from experiments.errors import UserError
from experiments.hlo import Collective, collectives
from experiments.roofline import CHIPS, Chip, Estimate, estimate

CONFIG = config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
TOPOLOGY = flags.DEFINE_list(
    "topology", None, "TPUs to compile for, such as v5e:2x4; several with commas between."
)
DOES_NOT_FIT = 1
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


Compile = Callable[[int, list[Any], Chip], Report | None]


def main() -> None:
    """Compiles as the flags say."""
    config = CONFIG.value
    if config is None:
        raise UserError("--config is missing; pass --config=configs/NAME.py")
    if not TOPOLOGY.value:
        raise UserError("--topology is missing; pass --topology=v5e:2x4, for example")
    chips = {name: _chip(name) for name in TOPOLOGY.value}
    fields.check(config)
    if config.parallel.strategy != "jit":
        raise UserError(
            f"parallel.strategy={config.parallel.strategy!r} cannot be compiled for devices that "
            "are not here; only 'jit' can"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("libtpu is not installed; pip install '.[tpu]' brings it")
    # Read when jax and libtpu are loaded: there is no TPU here to be asked.
    os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_LIBRARY_LOG_LEVEL": "3"}
    os.environ |= {"TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

    reports: dict[str, Report] = {}
    largest: dict[str, int] = {}
    compile_for = compiler(config)
    for name, chip in chips.items():
        devices = devices_of(name)
        report = compile_for(config.batch_size, devices, chip)
        if report is None:
            print(f"{name}: does not fit, looking for the largest batch", file=sys.stderr)
            largest[name] = largest_batch(
                partial(_fits, compile_for, devices, chip), below=config.batch_size // len(devices)
            )
        else:
            reports[name] = report
    if reports:
        print(table(reports, chips))
    for name, share in largest.items():
        hbm = _giga(chips[name].hbm_bytes)
        print(
            f"{name}: a batch of {config.batch_size} does not fit into the {hbm} GB of a chip; "
            + (f"{share} images a chip do" if share else "not even one image a chip does")
        )
    if largest:
        sys.exit(DOES_NOT_FIT)


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


def table(reports: dict[str, Report], chips: dict[str, Chip]) -> str:
    """The reports as a Markdown table, a column a topology.

    Args:
      reports: by the name of the topology.
      chips: the chip of each.

    Returns:
      The table.
    """
    rows: dict[str, list[str]] = {}

    def row(name: str, cell: str) -> None:
        rows.setdefault(name, []).append(cell)

    for name, report in reports.items():
        least, hbm = report.least, chips[name].hbm_bytes
        row("chips", str(report.num_chips))
        row(
            "images a step", f"{report.batch_size} ({report.batch_size // report.num_chips} a chip)"
        )
        row("GFLOP a step and chip", f"{report.flops / 1e9:,.1f}")
        row("GB accessed a step and chip", _giga(report.bytes_accessed))
        for kind in KINDS_OF_MEMORY:
            row(f"memory: {kind.replace('_', ' ')}, GB", _giga(report.memory[kind]))
        used = used_bytes(report.memory)
        row("memory in all, GB", f"{_giga(used)} of {_giga(hbm)}: fits")
        sent = [f"{c.number} {c.kind}, {c.num_bytes / 1e6:.1f} MB" for c in report.collectives]
        row("collectives", "; ".join(sent) or "none")
        row("least ms: compute", _milli(least.compute))
        row("least ms: memory", _milli(least.memory))
        row("least ms: interconnect", _milli(least.interconnect))
        row("least ms a step", f"{_milli(least.seconds)}, bound by {least.bound}")
        row("images/s at most", f"{report.batch_size / least.seconds:,.0f}")
    lines = [["", *reports], ["---"] * (len(reports) + 1)]
    lines += [[name, *cells] for name, cells in rows.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def used_bytes(memory: dict[str, int]) -> int:
    """Of a chip's memory, by kind; an aliased output has its argument's place."""
    return sum(memory.values()) - 2 * memory["alias"]


def _chip(topology: str) -> Chip:
    version, _, shape = topology.partition(":")
    if version not in CHIPS or not shape:
        raise UserError(
            f"unknown --topology={topology!r}; it is one of {', '.join(CHIPS)} and its shape in "
            "chips, such as v5e:2x4 or v5p:2x2x2"
        )
    return CHIPS[version]


def devices_of(topology: str) -> list[Any]:
    """The devices of TPUs that are not here.

    Args:
      topology: a chip and a shape, such as "v5e:2x4".

    Returns:
      A device a chip.

    Raises:
      UserError: there are no such TPUs.
    """
    from jax.experimental import topologies

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
    import jax
    import jax.numpy as jnp
    import numpy as np

    from experiments import build, guard, parallel, step

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
    arguments = (jax.eval_shape(init_state, key_data), split, np.int32(config.log_every_steps))

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
    if used_bytes(by_kind) > chip.hbm_bytes:
        return None
    return Report(
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


def _giga(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.3g}"


def _milli(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}"


if __name__ == "__main__":
    cli.run(main)
