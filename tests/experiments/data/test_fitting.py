"""Preprocessing fitted to a data set on disk equals that of the data set in memory."""

import numpy as np
import pytest

from experiments.data import datasets, fitting, preprocess
from experiments.errors import UserError
from tests.experiments.data.prepare import write_data_set

IMAGES = np.random.default_rng(0).integers(0, 200, (150, 7, 5, 3), np.uint8)


@pytest.fixture
def readers(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    labels = np.arange(len(IMAGES)) % 3
    splits = {"train": (IMAGES, labels), "test": (IMAGES[:5], labels[:5])}
    write_data_set(tmp_path / "data" / "my_own" / "1.0.0", splits, 3)
    info = datasets.describe("my_own", data_dir=str(tmp_path / "data"), image_size=None)
    return datasets.open_readers(info)


def test_streamed_statistics_are_those_in_memory_and_are_computed_once(readers, monkeypatch):
    monkeypatch.setattr(fitting, "CHUNK", 40)
    steps = {"standardize": preprocess.STEPS["standardize"]}

    def fit(files):
        return fitting.fit(
            readers.train, steps, cache_key="key", files=files, num_workers=0, max_damaged=0
        )

    normalize = fit("files")
    mean, std = preprocess.channel_statistics(IMAGES)
    np.testing.assert_array_equal(normalize.keywords["mean"], mean)
    np.testing.assert_array_equal(normalize.keywords["std"], std)
    monkeypatch.setattr(fitting.streaming, "map_chunks", None)
    np.testing.assert_array_equal(fit("files").keywords["std"], std)
    with pytest.raises(TypeError):  # other files are read again
        fit("other files")


def test_steps_that_need_all_images_are_refused():
    with pytest.raises(UserError, match=r"data.preprocess=.* needs all images in memory"):
        fitting.check({"zca": preprocess.STEPS["zca"]})
