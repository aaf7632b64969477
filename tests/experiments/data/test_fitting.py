"""Preprocessing fitted to a data set on disk equals that of the data set in memory."""

import numpy as np
import pytest

from experiments.data import datasets, fitting, preprocess
from experiments.errors import UserError
from tests.experiments.data.prepare import write_data_set

IMAGES = np.random.default_rng(0).integers(0, 200, (150, 4, 3, 3), np.uint8)
OPTIONS = {"zca_epsilon": 0.1, "cache_key": "key", "num_workers": 0, "max_damaged": 0}


@pytest.fixture
def readers(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fitting, "CHUNK", 40)
    labels = np.arange(len(IMAGES)) % 3
    splits = {"train": (IMAGES, labels), "test": (IMAGES[:5], labels[:5])}
    write_data_set(tmp_path / "data" / "my_own" / "1.0.0", splits, 3)
    info = datasets.describe("my_own", data_dir=str(tmp_path / "data"), image_size=None)
    return datasets.open_readers(info)


def by_name(*names):
    return {name: preprocess.STEPS[name] for name in names}


def test_statistics_are_those_in_memory_and_are_computed_once(readers, monkeypatch):
    steps = by_name("standardize")
    same, normalize, _ = fitting.fit(readers, steps, files="files", **OPTIONS)
    assert same is readers
    mean, std = preprocess.channel_statistics(IMAGES)
    np.testing.assert_array_equal(normalize.keywords["mean"], mean)
    np.testing.assert_array_equal(normalize.keywords["std"], std)
    monkeypatch.setattr(fitting.streaming, "map_chunks", None)
    _, again, _ = fitting.fit(readers, steps, files="files", **OPTIONS)
    np.testing.assert_array_equal(again.keywords["std"], std)
    with pytest.raises(TypeError):  # other files are read again
        fitting.fit(readers, steps, files="other files", **OPTIONS)


@pytest.mark.parametrize(
    "names",
    [
        ("zca",),
        ("pixel_mean", "zca", "global_contrast_normalization"),
        ("contrast_stretching", "standardize"),
    ],
)
def test_chains_are_fitted_as_in_memory(readers, names):
    steps = by_name(*names)
    fitted, normalize, _ = fitting.fit(readers, steps, files="files", **OPTIONS)
    assert normalize is preprocess.as_float32
    expected = preprocess.apply_steps(IMAGES, IMAGES[:5], steps, OPTIONS["zca_epsilon"])
    for split in ("train", "test"):
        reader = getattr(fitted, split)
        arrays = reader.read(range(len(reader)))
        assert (arrays["image"].shape[1:], arrays["image"].dtype) == reader.layouts["image"]
        np.testing.assert_allclose(arrays["image"], expected[split], rtol=2e-4, atol=2e-4)


def test_steps_of_your_own_are_refused():
    own = {"my_module:step": preprocess.STEPS["pixel_mean"]}
    with pytest.raises(UserError, match=r"data.preprocess='my_module:step' needs all images in "):
        fitting.check(own)
