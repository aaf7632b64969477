"""The GPU benchmark, at sizes that suit a CPU."""

import itertools
import os
import subprocess
import sys

import jax
import pytest

from benchmarks import gpu, gpu_contenders
from experiments.errors import UserError

WORKLOAD = {"model": "nn2", "batch_size": 8, "num_images": 32}


def test_peak_is_the_highest_rate_and_its_size():
    # Every dispatch takes one second of this clock: 122 products of 16x16, or 2 of 64x64.
    clock = itertools.count().__next__
    assert gpu.peak((16, 64), 1e6, clock=clock) == (2 * 2 * 64**3, 64)


def test_flops_match_a_count_by_hand():
    """XLA counts the multiply-adds of ResNet-18 at 32x32 without those on padding."""
    forward = (3 * 32 - 2) ** 2 * 3 * 64 + 512 * 10
    for side, filters, before in [(32, 64, 64), (16, 128, 64), (8, 256, 128), (4, 512, 256)]:
        strided = before != filters
        # Along a side, two taps fall on padding, or one with a stride of 2.
        forward += (3 * side - (1 if strided else 2)) ** 2 * before * filters
        forward += 3 * (3 * side - 2) ** 2 * filters**2
        forward += side**2 * before * filters * strided
    # XLA also counts normalization, activations, and sums.
    assert 1 < gpu.flops_per_image("resnet18") / (3 * 2 * forward) < 1.02


# The device is busy from 1000 to 1200 ns and from 1250 to 1400 ns. Offsets are in picoseconds.
TRACE = """
planes {
  name: "/device:GPU:0"
  event_metadata { key: 1 value { id: 1 name: "kernel" } }
  lines { name: "Stream #1(Compute)" timestamp_ns: 1000
    events { metadata_id: 1 offset_ps: 0 duration_ps: 100000 }
    events { metadata_id: 1 offset_ps: 20000 duration_ps: 10000 }
    events { metadata_id: 1 offset_ps: 250000 duration_ps: 150000 } }
  lines { name: "Stream #2(MemcpyD2D)" timestamp_ns: 1050
    events { metadata_id: 1 offset_ps: 0 duration_ps: 150000 } }
  lines { name: "XLA Modules" timestamp_ns: 0
    events { metadata_id: 1 offset_ps: 0 duration_ps: 9000000 } }
}
planes { name: "/host:CPU" }
"""


def test_busy_time_is_the_union_of_the_streams():
    profile = jax.profiler.ProfileData
    trace = profile.from_serialized_xspace(profile.text_proto_to_serialized_xspace(TRACE))
    worked, span = gpu.busy(trace)
    assert worked == pytest.approx(350e-9)
    assert span == pytest.approx(400e-9)
    with pytest.raises(UserError, match="its planes are /device:GPU:0, /host:CPU"):
        gpu.busy(trace, plane="/device:GPU:1")


def test_trace_of_an_epoch_has_events():
    worked, span, _ = gpu.traced_epoch(WORKLOAD, plane="/host:CPU", line="")
    assert 0 < worked <= span


def test_missing_gpu_is_one_error_that_names_the_devices():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == ("error: this benchmark needs one NVIDIA GPU, but jax finds: cpu (cpu)\n")
    assert done.stdout == ""


@pytest.mark.slow
def test_tables_have_one_row_per_contender(capsys):
    pytest.importorskip("torch")
    contenders = {
        "ours": gpu.contender(gpu_contenders.ours, WORKLOAD),
        "stock": gpu.contender(gpu_contenders.stock_flax, WORKLOAD),
        "PyTorch": gpu.contender(gpu_contenders.pytorch, WORKLOAD, device="cpu"),
    }
    gpu.print_speed(WORKLOAD, contenders, rounds=2, sizes=(16, 64), operations=1e6)
    gpu.print_pipeline(WORKLOAD, rounds=2)
    gpu.print_profile(WORKLOAD, plane="/host:CPU", line="")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows if not row.startswith(("| |", "|---"))] == [
        "| ours",
        "| stock",
        "| PyTorch",
        "| full program",
        "| without crop and flip",
        "| on a fixed, normalized batch",
        "| traced epoch",
        "| from the device's first event to its last",
        "| from dispatch to result on the host",
    ]
