"""Estimates how a step scales: bytes exchanged between devices, and a roofline on TPU v4.

    python -m benchmarks.scaling --out=docs/scaling

First, compiles the training program of the quickstart with 16 examples per device, for 1, 2, 4, and
8 virtual devices of this CPU, and adds up the data that they exchange in a step. It measures no
times, because virtual devices share the same cores. Second, with libtpu installed and CIFAR-10
prepared, compiles ResNet-34 for four TPU v4 chips with 128 examples each, and extends the roofline
of its step to 4,096 chips. Prints both tables and writes scaling.png.
"""

import argparse
import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

DEVICES = (1, 2, 4, 8)
CHIPS = (1, 4, 16, 64, 256, 1024, 4096)
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "XLA_FLAGS": f"--xla_force_host_platform_device_count={max(DEVICES)}",
}

import jax  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from configs import cifar10_resnet34, quickstart  # noqa: E402
from experiments.build.experiment import Experiment, build  # noqa: E402
from experiments.topology import aot, roofline  # noqa: E402

EXAMPLES_PER_DEVICE = 16
EXAMPLES_PER_CHIP = 128


def exchanged() -> dict[int, int]:
    """Returns the result bytes of all collectives of a step, by number of devices."""
    experiment = build(quickstart.get_config())
    sizes = {}
    for count in DEVICES:
        # The chip affects only the estimate, which is not used here.
        report = compile_step(
            experiment, EXAMPLES_PER_DEVICE, jax.devices()[:count], roofline.CHIPS["v5p"]
        )
        sizes[count] = collective_bytes(report)
    return sizes


def least_times() -> tuple[aot.Report, dict[int, roofline.Estimate]]:
    """Returns the report for four chips, and the roofline of that step by number of chips."""
    chip = roofline.CHIPS["v4"]
    experiment = build(cifar10_resnet34.get_config())
    report = compile_step(experiment, EXAMPLES_PER_CHIP, aot.devices_of("v4:2x2x1"), chip)
    return report, {
        count: roofline.estimate(
            chip,
            flops=report.flops,
            bytes_accessed=report.bytes_accessed,
            collective_bytes=collective_bytes(report),
            num_chips=count,
        )
        for count in CHIPS
    }


def compile_step(
    experiment: Experiment, examples_per_device: int, devices: Sequence[Any], chip: roofline.Chip
) -> aot.Report:
    """Compiles the training program of an experiment with another batch size.

    Args:
      experiment: the experiment.
      examples_per_device: examples per step on each device.
      devices: the devices.
      chip: the chip of each device.

    Returns:
      The report; the examples must fit into memory.
    """
    batches = experiment.batches._replace(batch_size=examples_per_device * len(devices))
    resized = dataclasses.replace(experiment, batches=batches)
    report = aot.compile_step(resized, list(devices), chip)
    assert report is not None, f"{examples_per_device} examples do not fit into a device's memory"
    return report


def collective_bytes(report: aot.Report) -> int:
    """Returns the result bytes of all collectives of a step."""
    return sum(each.num_bytes for each in report.collectives)


def draw(sizes: dict[int, int], times: dict[int, roofline.Estimate]) -> Figure:
    """Draws bytes by number of devices on the left, and efficiency by number of chips on the right.

    Args:
      sizes: bytes exchanged per step, by number of devices.
      times: roofline estimate of a step, by number of chips.

    Returns:
      The figure.
    """
    figure = Figure(figsize=(9, 3.6), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(list(sizes), [size / 1e6 for size in sizes.values()], "o-", color="#1d4ed8")
    left.set(xlabel="virtual devices", ylabel="MB exchanged per step", xticks=DEVICES)
    left.set_title("quickstart, 16 examples per device, compiled", fontsize=10)
    left.set_ylim(bottom=0)
    for overlap, style, label in (
        (True, "o-", "exchange overlaps computation"),
        (False, "s--", "exchange after computation"),
    ):
        alone = seconds(times[1], overlap)
        shares = [100 * alone / seconds(least, overlap) for least in times.values()]
        right.semilogx(CHIPS, shares, style, base=4, markersize=4, label=label)
    right.set(xlabel="TPU v4 chips", ylabel="maximum efficiency per chip, %", ylim=(0, 105))
    right.set_xticks(CHIPS, [f"{count:,}" for count in CHIPS])
    right.set_title("ResNet-34, 128 examples per chip, roofline", fontsize=10)
    right.legend(loc="lower left", fontsize=8, frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def seconds(least: roofline.Estimate, overlap: bool) -> float:
    """Returns the least seconds of a step.

    Args:
      least: the roofline estimate.
      overlap: whether the exchange of gradients overlaps computation.

    Returns:
      The seconds.
    """
    if overlap:
        return least.seconds
    return max(least.compute, least.memory) + least.interconnect


def main() -> None:
    """Compiles the programs, prints the tables, and draws the figure."""
    parser = argparse.ArgumentParser(
        description="Estimates weak scaling from compiled programs and a roofline."
    )
    parser.add_argument("--out", type=Path, required=True, help="directory of the figure")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu"))
    print(f"Python {platform.python_version()}, {versions}\n")
    sizes = exchanged()
    print("| virtual devices | MB exchanged per step |\n|---|---|")
    for count, size in sizes.items():
        print(f"| {count} | {size / 1e6:.3f} |")
    report, times = least_times()
    print(
        f"\nResNet-34 on TPU v4, per chip: {report.flops / 1e9:,.0f} GFLOP, "
        f"{report.bytes_accessed / 1e9:.1f} GB accessed, "
        f"{collective_bytes(report) / 1e6:.1f} MB reduced\n"
    )
    print(
        "| chips | ms per step, exchange overlaps | exchange after computation "
        "| examples/s at most |\n|---|---|---|---|"
    )
    for count, least in times.items():
        rate = EXAMPLES_PER_CHIP * count / least.seconds
        print(
            f"| {count} | {seconds(least, True) * 1e3:.2f} | {seconds(least, False) * 1e3:.2f} | "
            f"{rate:,.0f} |"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    draw(sizes, times).savefig(options.out / "scaling.png")
    print(f"\nwrote {options.out / 'scaling.png'}")


if __name__ == "__main__":
    main()
