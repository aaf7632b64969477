"""A small data set in array_record files, and a run that reads it from disk or from memory."""

import numpy as np

from configs import quickstart
from experiments.build.experiment import build
from tests.experiments.data.prepare import write_data_set


def write_small(root, num_shards=3):
    """Writes 70 training and 23 test images of 6x6 pixels to a data directory of tfds."""
    rng = np.random.default_rng(0)
    splits = {
        split: (rng.integers(0, 256, (count, 6, 6, 3), np.uint8), rng.integers(0, 4, count))
        for split, count in (("train", 70), ("test", 23))
    }
    directory = root / "my_own" / "1.0.0"
    write_data_set(directory, splits, num_classes=4, num_shards=num_shards)
    return directory


def small_config(root, loading, **fields):
    """Returns the config of a run of 3.5 epochs with 8 steps each."""
    config = quickstart.get_config()
    config.update(epochs=3.5, batch_size=8, eval_batch_size=8, log_every_steps=3)
    config.data.update(name="my_own", data_dir=str(root), image_size=None, loading=loading)
    config.data.augment = True
    config.data.crop_padding = 1
    config.data.workers = 0 if loading == "stream" else None
    config.model.update(name="nn2", width_multiplier=0.02)
    config.model.attention.name = "none"
    config.update_from_flattened_dict(fields)
    return config


def small_experiment(root, loading, **fields):
    """Builds the experiment; see `small_config`."""
    return build(small_config(root, loading, **fields), ["model.attention.name", *fields])
