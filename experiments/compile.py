"""Compiles a run for TPUs that are not attached.

    python -m experiments.compile --config=configs/NAME.py --topology=v5e:2x4

Prints the cost of a step, whether it fits into a chip's memory, and the least time that it takes.
Exits with code 1 if it does not fit. Needs libtpu, which the extra `tpu` installs.
"""

import importlib.metadata
import importlib.util
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from absl import flags
from ml_collections import config_flags

from experiments import cli
from experiments.build import fields
from experiments.errors import UserError
from experiments.topology.roofline import CHIPS, Chip

if TYPE_CHECKING:
    from experiments.topology.aot import Report

DOES_NOT_FIT = 1


def main() -> None:
    """Compiles as the flags specify."""
    config = flags.FLAGS.config
    if config is None:
        raise UserError("--config is missing; pass --config=configs/NAME.py")
    if not flags.FLAGS.topology:
        raise UserError("--topology is missing; pass --topology=v5e:2x4, for example")
    chips = {name: _chip(name) for name in flags.FLAGS.topology}
    fields.check(config)
    if config.parallel.strategy != "jit":
        raise UserError(
            f"parallel.strategy={config.parallel.strategy!r} cannot be compiled for devices that "
            "are not attached; use 'jit'"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("libtpu is not installed; install it with pip install 'loganneal-jax[tpu]'")
    # jax and libtpu read these when they are loaded; there is no TPU to ask.
    os.environ |= {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_LIBRARY_LOG_LEVEL": "3"}
    os.environ |= {"TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

    outcomes = {name: _outcome(config, name, chip) for name, chip in chips.items()}
    reports = {name: found for name, found in outcomes.items() if not isinstance(found, int | None)}
    largest = {name: found for name, found in outcomes.items() if isinstance(found, int)}
    if reports:
        print(table(reports, chips))
    for name, share in largest.items():
        print(
            f"{name}: a batch of {config.batch_size} does not fit into the "
            f"{_giga(chips[name].hbm_bytes)} GB of a chip; "
            + (f"{share} examples per chip fit" if share else "not even one example per chip fits")
        )
    crashed = [name for name, found in outcomes.items() if found is None]
    if crashed:
        raise UserError(
            f"the compiler of libtpu {importlib.metadata.version('libtpu')} crashed on "
            f"--topology={','.join(crashed)}; try another version of libtpu"
        )
    if largest:
        sys.exit(DOES_NOT_FIT)


def _outcome(config: Any, topology: str, chip: Chip) -> "Report | int | None":
    """Compiles in a process of its own; returns None if the compiler crashes and takes it along."""
    from experiments.topology import aot

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        try:
            return pool.submit(
                aot.build_and_compile, config, topology, chip, cli.given_fields()
            ).result()
        except BrokenProcessPool:
            return None


def table(reports: "dict[str, Report]", chips: dict[str, Chip]) -> str:
    """Returns the reports as a Markdown table with one column per topology.

    Args:
      reports: the report of each topology.
      chips: the chip of each topology.

    Returns:
      The table.
    """
    import pandas as pd

    columns = {name: _column(report, chips[name]) for name, report in reports.items()}
    return pd.DataFrame(columns).to_markdown(disable_numparse=True)


def _column(report: "Report", chip: Chip) -> dict[str, str]:
    least = report.least
    exchanged = [f"{c.number} {c.kind}, {c.num_bytes / 1e6:.1f} MB" for c in report.collectives]
    share = report.batch_size // report.num_chips
    return {
        "chips": str(report.num_chips),
        "examples per step": f"{report.batch_size} ({share} per chip)",
        "GFLOP per step and chip": f"{report.flops / 1e9:,.1f}",
        "GB accessed per step and chip": _giga(report.bytes_accessed),
        **{
            f"memory: {kind.replace('_', ' ')}, GB": _giga(num_bytes)
            for kind, num_bytes in report.memory.items()
        },
        "total memory, GB": f"{_giga(report.used_bytes)} of {_giga(chip.hbm_bytes)}: fits",
        "collectives": "; ".join(exchanged) or "none",
        "least ms: compute": _milli(least.compute),
        "least ms: memory": _milli(least.memory),
        "least ms: interconnect": _milli(least.interconnect),
        "least ms per step": f"{_milli(least.seconds)}, bound by {least.bound}",
        "examples/s at most": f"{report.batch_size / least.seconds:,.0f}",
    }


def _chip(topology: str) -> Chip:
    version, _, shape = topology.partition(":")
    if version not in CHIPS or not shape:
        raise UserError(
            f"--topology={topology!r} is unknown; use one of {', '.join(CHIPS)} with its shape in "
            "chips, such as v5e:2x4 or v5p:2x2x2"
        )
    return CHIPS[version]


def _giga(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.3g}"


def _milli(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}"


def define_flags() -> None:
    """Defines the flags of the command; importing it must not, because other commands do too."""
    config_flags.DEFINE_config_file(
        "config", None, "Config of the run: a file, or a name such as quickstart.", lock_config=True
    )
    flags.DEFINE_list(
        "topology", None, "Comma-separated TPU topologies to compile for, such as v5e:2x4."
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
