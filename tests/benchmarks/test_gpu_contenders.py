"""The contenders of the GPU benchmark, at sizes that suit a CPU."""

import re
from functools import partial

import jax
import numpy as np
import pytest

from benchmarks import gpu_contenders, trainer
from experiments.data.datasets import Dataset
from experiments.program import assemble

WORKLOAD = {"model": "nn2", "batch_size": 8, "num_images": 32}


# Augmented images with random labels are not learned in a few steps.
@pytest.mark.parametrize(
    "make",
    [partial(gpu_contenders.ours, augment=False), gpu_contenders.fixed_batch],
    ids=["without_augmentation", "fixed_batch"],
)
def test_our_programs_train_epoch_after_epoch(make):
    epoch = make(**WORKLOAD)
    steps, losses = [], []
    for _ in range(3):
        state, metrics = epoch()
        steps.append(int(state.step))
        losses.append(float(jax.device_get(metrics).loss.compute()))
    assert steps == [4, 8, 12]
    assert losses[2] < losses[1] < losses[0]


def test_stock_flax_trains():
    epoch = gpu_contenders.stock_flax(**WORKLOAD)
    assert float(epoch()) > float(epoch())


def test_pytorch_trains():
    pytest.importorskip("torch")
    # All images are in one batch, so that every epoch has the same ones.
    epoch = gpu_contenders.pytorch(**{**WORKLOAD, "num_images": 8}, mode="off", device="cpu")
    losses = [epoch() for _ in range(20)]
    assert losses[-1] < losses[0]


def gathers_of_images(program, *arguments):
    """Returns the gathers of uint8 images in a compiled program."""
    text = program.lower(*arguments).compile().as_text()
    return re.findall(r"= u8\[\S+ gather\(", text)


def test_fixed_batch_program_gathers_no_images():
    # Two images for each of the tests' devices, because a single image is sliced instead.
    workload = {**WORKLOAD, "batch_size": 16}
    program, arguments = gpu_contenders.fixed_batch_program(**workload)
    assert not gathers_of_images(program, *arguments)
    images, labels = gpu_contenders.random_images("nn2", workload["num_images"])
    config = gpu_contenders.config_of("nn2", workload["batch_size"], augment=True)
    made = trainer.make(config, Dataset(images, labels, images, labels))
    train = jax.jit(assemble.pure(made.task, made.optimizer, made.batches).train)
    assert gathers_of_images(train, made.state, made.splits[0], made.order(made.state), 2)


def test_pytorch_gather_crops_reflected_images_and_flips_them():
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
