"""Exact statistics of uint8 images equal NumPy's, however the images are divided."""

import numpy as np

from experiments.data.statistics import statistics_of_counts, value_counts

IMAGES = np.random.default_rng(0).integers(0, 200, (150, 7, 5, 3), np.uint8)


def test_statistics_equal_numpy():
    mean, std = statistics_of_counts(value_counts(IMAGES))
    assert mean.dtype == std.dtype == np.float32
    axes = (0, 1, 2)
    np.testing.assert_array_equal(mean.ravel(), IMAGES.mean(axis=axes).astype(np.float32))
    np.testing.assert_allclose(std.ravel(), IMAGES.std(axis=axes, dtype=np.float64), rtol=1e-7)


def test_counts_of_parts_add_up():
    parts = [value_counts(part) for part in np.array_split(IMAGES, 4)]
    np.testing.assert_array_equal(sum(parts), value_counts(IMAGES))


def test_constant_channel_has_deviation_1():
    mean, std = statistics_of_counts(value_counts(np.full((2, 3, 3, 2), 7, np.uint8)))
    assert (mean.ravel().tolist(), std.ravel().tolist()) == ([7, 7], [1, 1])
