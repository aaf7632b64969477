"""The GPU's benchmark, at sizes that a CPU can do."""

import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from benchmarks import accuracy, gpu, gpu_contenders, trainer
from benchmarks.side_by_side import Contender
from experiments.data.datasets import Dataset
from experiments.errors import UserError

TASK = {"model": "nn2", "batch_size": 8, "num_images": 32}


@pytest.mark.parametrize(
    "make", [gpu_contenders.ours, gpu_contenders.fixed_batch, gpu_contenders.stock_flax]
)
def test_contenders_of_jax_train_epoch_after_epoch(make):
    work = make(**TASK)
    assert work() > 0
    assert work() > 0


def gathered_images(program, *arguments):
    """Gathers of images in a compiled program."""
    text = program.lower(*arguments).compile().as_text()
    return re.findall(r"= u8\[\S+ gather\(", text)


def test_without_pipeline_no_images_are_gathered():
    # Two images for each of the tests' devices: a single one is sliced.
    task = {**TASK, "batch_size": 16}
    program, arguments = gpu_contenders.fixed_batch_program(**task)
    assert not gathered_images(program, *arguments)
    images, labels = gpu_contenders.random_images("nn2", task["num_images"])
    config = gpu_contenders.config_of("nn2", task["batch_size"], augment=True)
    made = trainer.make(config, Dataset(images, labels, images, labels))
    order = made.order(made.state)
    assert gathered_images(made.train, made.state, made.splits[0], order, 2)


def test_pytorch_trains():
    pytest.importorskip("torch")
    assert gpu_contenders.pytorch(**TASK, mode="off", device="cpu")() > 0


def test_one_gather_is_a_crop_from_reflected_borders_and_a_flip():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 12, 10, 3), np.uint8)
    indices, flips = np.array([4, 0, 0, 2]), np.array([True, False, True, False])
    offsets = np.array([[0, 8], [8, 0], [4, 4], [3, 6]])
    made = gpu_contenders.gather_crop_flip(
        *map(torch.from_numpy, (images, indices, offsets, flips))
    )
    assert made.is_contiguous(memory_format=torch.channels_last)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    for image, index, (row, column), flip in zip(made, indices, offsets, flips, strict=True):
        cropped = padded[index, row : row + 12, column : column + 10]
        expected = cropped[:, ::-1] if flip else cropped
        np.testing.assert_array_equal(image.permute(1, 2, 0), expected)


def test_peak_is_a_rate_of_one_of_the_sizes():
    rate, size = gpu.peak((16, 64), 1e6)
    assert rate > 0
    assert size in (16, 64)


def test_operations_are_those_counted_by_hand():
    """Multiply-adds of ResNet-18 at 32x32 without products with the padding, as XLA counts."""
    forward = (3 * 32 - 2) ** 2 * 3 * 64 + 512 * 10
    for side, filters, before in [(32, 64, 64), (16, 128, 64), (8, 256, 128), (4, 512, 256)]:
        strided = before != filters
        # Of the taps along a side the padding takes two, or with a stride of 2 one.
        forward += (3 * side - (1 if strided else 2)) ** 2 * before * filters
        forward += 3 * (3 * side - 2) ** 2 * filters**2
        forward += side**2 * before * filters * strided
    # It also counts normalisation, activations and sums.
    assert 1 < gpu.flops_per_image("resnet18") / (3 * 2 * forward) < 1.02


# Timestamps in ns, offsets and durations in ps: work from 1000 to 1200 ns and from 1250 to 1400.
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


def test_busy_is_the_union_of_the_streams():
    profile = jax.profiler.ProfileData
    trace = profile.from_serialized_xspace(profile.text_proto_to_serialized_xspace(TRACE))
    worked, span = gpu.busy(trace)
    assert worked == pytest.approx(350e-9)
    assert span == pytest.approx(400e-9)
    with pytest.raises(UserError, match="its planes are /device:GPU:0, /host:CPU"):
        gpu.busy(trace, plane="/device:GPU:1")


def test_an_epoch_is_traced():
    worked, span, seconds = gpu.traced_epoch(TASK, plane="/host:CPU", line="")
    assert 0 < worked <= span
    assert seconds > 0


def test_accuracy_and_seconds_of_a_run_that_learns(capsys):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 256, np.int32)
    # Nothing of a class is changed by crop or flip: it is the brightness.
    images = np.broadcast_to(labels[:, None, None, None] * 25, (256, 28, 28, 1)).astype(np.uint8)
    data = Dataset(images, labels, images[:100], labels[:100])
    small = {"model": "nn2", "batch_size": 16, "eval_batch_size": 40, "peak_value": 0.02}
    epochs = list(accuracy.train(data, epochs=4, **small))
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4]
    assert all(0 < epoch.train_seconds < epoch.seconds for epoch in epochs)
    assert epochs[-1].accuracy > 0.15
    accuracy.report(epochs, thresholds=(0.15, 1.1))
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| 15% reached", "| end"]


def test_without_a_gpu_one_sentence_says_what_there_is():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: this benchmark needs one NVIDIA GPU that jax can use; jax has: cpu (cpu)\n"
    )
    assert done.stdout == ""


@pytest.mark.slow
def test_tables(capsys):
    pytest.importorskip("torch")
    contenders = {
        "ours": Contender(gpu_contenders.ours, TASK),
        "stock": Contender(gpu_contenders.stock_flax, TASK),
        "PyTorch": Contender(gpu_contenders.pytorch, {**TASK, "device": "cpu"}),
    }
    gpu.print_speed(TASK, contenders, rounds=2, sizes=(16, 64), operations=1e6)
    gpu.print_pipeline(TASK, rounds=2)
    gpu.print_profile(TASK, plane="/host:CPU", line="")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [row.split(" | ")[0] for row in rows if not row.startswith(("| |", "|---"))] == [
        "| ours",
        "| stock",
        "| PyTorch",
        "| the whole program",
        "| without crop and flip",
        "| on a fixed, normalised batch",
        "| an epoch, traced",
        "| from the device's first work to its last",
        "| by clock, from dispatch to result",
    ]
