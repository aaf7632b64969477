"""Prepares small data sets of tensorflow-datasets without TensorFlow, in milliseconds."""

import numpy as np
import pytest

from tests.experiments.data.prepare import write_data_set


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    """An empty cache directory of the test's own."""
    home = tmp_path / "cache_home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture(scope="session")
def prepare_data_set():
    """Returns a function that writes the files of a data set as tfds does, in array_record."""
    return write_data_set


@pytest.fixture
def random_split():
    """Returns a function that draws (images, labels) from a seed."""

    def draw(seed, count=12, shape=(8, 8, 1), num_classes=3):
        images = np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
        return images, np.arange(count) % num_classes

    return draw
