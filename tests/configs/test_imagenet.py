"""The config of ImageNet, on a generated data set of the same form."""

import jax
import numpy as np
import pytest
from etils import epath

from configs import imagenet_resnet50
from experiments.build.experiment import build
from experiments.errors import UserError
from experiments.runtime import loop
from experiments.topology import aot
from experiments.topology.roofline import Chip
from tests.experiments.data.prepare import write_data_set

SIZES = ((40, 70), (71, 33), (50, 50), (96, 64))


def pictures(count, seed):
    """Returns JPEG-like pictures of many sizes with one color per class, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 1000, count)
    images = []
    for number, label in enumerate(labels):
        color = [label % 10 * 25, label // 10 % 10 * 25, label // 100 * 25]
        noise = rng.integers(0, 20, (*SIZES[number % len(SIZES)], 3))
        images.append((np.array(color) + noise).clip(0, 255).astype(np.uint8))
    return images, labels


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data directory of imagenet2012: JPEG files of many sizes, 1,000 classes, shards."""
    root = tmp_path_factory.mktemp("tfds")
    # The labels of the test split are not public.
    splits = {
        "train": pictures(40, 0),
        "validation": pictures(10, 1),
        "test": (pictures(4, 2)[0], np.full(4, -1)),
    }
    options = {"num_shards": 4, "shape": (None, None, 3), "format": "jpeg"}
    write_data_set(root / "imagenet2012" / "5.1.0", splits, 1000, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        yield str(root)


def config_of(data_dir, **fields):
    config = imagenet_resnet50.get_config()
    config.data.update(data_dir=data_dir, workers=0)
    config.update_from_flattened_dict(fields)
    return config


def test_examples_are_random_parts_in_training_and_the_center_in_evaluation(data_dir):
    task = build(config_of(data_dir, batch_size=8)).task
    assert (task.num_train, task.stream.max_damaged) == (40, 0)
    readers = task.stream.open()
    assert len(readers.test) == 10
    first, again, later = (
        readers.train.read([3, 7], seeds)["image"] for seeds in ((0, 5), (0, 5), (0, 6))
    )
    assert first.shape == (2, 224, 224, 3)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)
    # Whoever reads an example with others gets the same part of it.
    np.testing.assert_array_equal(readers.train.read([7], (0, 5))["image"][0], first[1])
    center, label = (readers.train.read([7])[name][0] for name in ("image", "label"))
    images, labels = pictures(40, 0)
    assert label == labels[7]
    np.testing.assert_allclose(center.mean((0, 1)), images[7].mean((0, 1)), atol=3)


def test_images_of_many_sizes_need_a_size_and_are_always_streamed(data_dir):
    with pytest.raises(UserError, match=r"have different sizes; set data.image_size"):
        build(config_of(data_dir, **{"data.image_size": None}))
    with pytest.raises(UserError, match=r"have different sizes, and only image classification"):
        build(config_of(data_dir, **{"data.loading": "memory", "data.workers": None}))


@pytest.mark.slow
def test_narrow_network_trains(data_dir, tmp_path):
    fields = {
        **{"batch_size": 8, "eval_batch_size": 8, "epochs": 1.0, "model.width_multiplier": 0.03},
        **{"data.image_size": 64, "schedule.warmup_epochs": 0.2, "schedule.peak_value": 0.01},
        "model.name": "resnet10",  # compiles in a third of the time
    }
    summary, _ = loop.run(build(config_of(data_dir, **fields)), epath.Path(tmp_path))
    assert summary["steps"] == 5
    assert np.isfinite(summary["test_loss"])


@pytest.mark.slow
def test_devices_hold_their_rows_of_a_block_and_not_the_data_set(data_dir):
    fields = {"data.image_size": 64, "model.width_multiplier": 0.03, "schedule.warmup_epochs": 0.0}
    fields |= {"model.name": "resnet10"}
    experiment = build(config_of(data_dir, batch_size=8, log_every_steps=2, **fields))
    chip = Chip(flops=1e12, hbm_bytes=1e9, hbm_bandwidth=1e9, ici_bandwidth=1e8, pod_chips=4)
    report = aot.compile_step(experiment, jax.devices()[:2], chip)
    whole = aot.compile_step(experiment, jax.devices()[:1], chip)
    rows = 2 * 4 * (64 * 64 * 3 + 4)
    assert whole.memory["argument"] - report.memory["argument"] == pytest.approx(rows, abs=1000)
