"""Compiles a run for absent TPUs: python -m experiments.compile --config=... --topology=v5e:2x4.

Prints what a step costs, whether it fits into a chip's memory, and how long it must take at least.
Exits with code 1 where it does not fit. Needs libtpu, which comes with the extra `tpu`.
"""

import importlib.metadata
import importlib.util
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import ConfigDict, config_flags

from experiments import cli, fields
from experiments.errors import UserError
from experiments.roofline import CHIPS, Chip

if TYPE_CHECKING:
    from experiments.aot import Report

DOES_NOT_FIT = 1


def main() -> None:
    """Compiles as the flags say."""
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
            "are not here; only 'jit' can"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("libtpu is not installed; pip install '.[tpu]' brings it")
    # Read when jax and libtpu are loaded: there is no TPU here to be asked.
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
            + (f"{share} images a chip do" if share else "not even one image a chip does")
        )
    crashed = [name for name, found in outcomes.items() if found is None]
    if crashed:
        raise UserError(
            f"the compiler of libtpu {importlib.metadata.version('libtpu')} crashed on "
            f"--topology={','.join(crashed)}; another version of it may not"
        )
    if largest:
        sys.exit(DOES_NOT_FIT)


def _outcome(config: ConfigDict, topology: str, chip: Chip) -> "Report | int | None":
    """As of `aot.compile_for_topology`, or None where the compiler crashes, with its process."""
    from experiments import aot

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as child:
        try:
            return child.submit(aot.compile_for_topology, config, topology, chip).result()
        except BrokenProcessPool:
            return None


def table(reports: "dict[str, Report]", chips: dict[str, Chip]) -> str:
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
        for kind, num_bytes in report.memory.items():
            row(f"memory: {kind.replace('_', ' ')}, GB", _giga(num_bytes))
        row("memory in all, GB", f"{_giga(report.used_bytes)} of {_giga(hbm)}: fits")
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


def _chip(topology: str) -> Chip:
    version, _, shape = topology.partition(":")
    if version not in CHIPS or not shape:
        raise UserError(
            f"unknown --topology={topology!r}; it is one of {', '.join(CHIPS)} and its shape in "
            "chips, such as v5e:2x4 or v5p:2x2x2"
        )
    return CHIPS[version]


def _giga(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.3g}"


def _milli(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}"


def define_flags() -> None:
    """Defines the command's flags; not on import, for another command may define --config too."""
    config_flags.DEFINE_config_file("config", None, "A file of configs/.", lock_config=True)
    flags.DEFINE_list(
        "topology", None, "TPUs to compile for, such as v5e:2x4; several with commas between."
    )


if __name__ == "__main__":
    define_flags()
    cli.run(main)
