"""How a step grows with the number of devices: bytes exchanged, and the least time on paper.

    python -m benchmarks.scaling --out=docs/scaling

With 16 images a device, compiles the training program of the quickstart for 1, 2, 4 and 8 virtual
devices of this CPU and adds up what they exchange in a step; times would say nothing, for they
share the same cores. Then, with libtpu installed and CIFAR-10 prepared, compiles ResNet-34 for four
chips of TPU v4 with 128 images each, and carries the roofline of its step on to 4,096 chips. Prints
both tables and writes scaling.png.
"""

import argparse
import importlib.metadata
import os
import platform
from pathlib import Path

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
from experiments import aot, roofline  # noqa: E402

IMAGES_A_DEVICE = 16
IMAGES_A_CHIP = 128


def exchanged() -> dict[int, int]:
    """Bytes of the results of all collectives of a step, by number of devices."""
    compile_for = aot.compiler(quickstart.get_config())
    sizes = {}
    for count in DEVICES:
        # The chip matters to the estimate alone, which is not used.
        report = compile_for(IMAGES_A_DEVICE * count, jax.devices()[:count], roofline.CHIPS["v5p"])
        assert report is not None, "a small network fits into any memory"
        sizes[count] = sum(each.num_bytes for each in report.collectives)
    return sizes


def least_times() -> tuple[aot.Report, dict[int, roofline.Estimate]]:
    """The report of four chips, and the roofline of the same step by number of chips."""
    config = cifar10_resnet34.get_config()
    topology = aot.devices_of("v4:2x2x1")
    chip = roofline.CHIPS["v4"]
    report = aot.compiler(config)(IMAGES_A_CHIP * len(topology), topology, chip)
    assert report is not None, "128 images of 32x32 fit"
    return report, {
        count: roofline.estimate(
            chip,
            flops=report.flops,
            bytes_accessed=report.bytes_accessed,
            collective_bytes=sum(each.num_bytes for each in report.collectives),
            num_chips=count,
        )
        for count in CHIPS
    }


def draw(sizes: dict[int, int], times: dict[int, roofline.Estimate]) -> Figure:
    """Bytes against devices on the left, efficiency against chips on the right."""
    figure = Figure(figsize=(9, 3.6), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(list(sizes), [size / 1e6 for size in sizes.values()], "o-", color="#1d4ed8")
    left.set(xlabel="virtual devices", ylabel="MB exchanged a step", xticks=DEVICES)
    left.set_title("quickstart, 16 images a device, compiled", fontsize=10)
    left.set_ylim(bottom=0)
    for overlap, style, label in (
        (True, "o-", "exchange while computing"),
        (False, "s--", "exchange after computing"),
    ):
        alone = seconds(times[1], overlap)
        shares = [100 * alone / seconds(least, overlap) for least in times.values()]
        right.semilogx(CHIPS, shares, style, base=4, markersize=4, label=label)
    right.set(xlabel="TPU v4 chips", ylabel="speed a chip at most, % of one alone", ylim=(0, 105))
    right.set_xticks(CHIPS, [f"{count:,}" for count in CHIPS])
    right.set_title("ResNet-34, 128 images a chip, on paper", fontsize=10)
    right.legend(loc="lower left", fontsize=8, frameon=False)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def seconds(least: roofline.Estimate, overlap: bool) -> float:
    """Of a step, whose exchange of gradients overlaps with the rest or not."""
    if overlap:
        return least.seconds
    return max(least.compute, least.memory) + least.interconnect


def main() -> None:
    """Compiles, prints and draws."""
    parser = argparse.ArgumentParser(description="Weak scaling, compiled and on paper.")
    parser.add_argument("--out", type=Path, required=True, help="directory of the figure")
    options = parser.parse_args()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu"))
    print(f"Python {platform.python_version()}, {versions}\n")
    sizes = exchanged()
    print("| virtual devices | MB exchanged a step |\n|---|---|")
    for count, size in sizes.items():
        print(f"| {count} | {size / 1e6:.3f} |")
    report, times = least_times()
    print(
        f"\nResNet-34 on TPU v4, a chip: {report.flops / 1e9:,.0f} GFLOP, "
        f"{report.bytes_accessed / 1e9:.1f} GB accessed, "
        f"{sum(each.num_bytes for each in report.collectives) / 1e6:.1f} MB reduced\n"
    )
    print(
        "| chips | ms a step, overlapping | not overlapping | images/s at most |\n|---|---|---|---|"
    )
    for count, least in times.items():
        rate = IMAGES_A_CHIP * count / least.seconds
        print(
            f"| {count} | {seconds(least, True) * 1e3:.2f} | {seconds(least, False) * 1e3:.2f} | "
            f"{rate:,.0f} |"
        )
    options.out.mkdir(parents=True, exist_ok=True)
    draw(sizes, times).savefig(options.out / "scaling.png")
    print(f"\nwrote {options.out / 'scaling.png'}")


if __name__ == "__main__":
    main()
