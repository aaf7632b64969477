"""Statistics and standardisation against NumPy."""

import jax.numpy as jnp
import numpy as np

from experiments.data import preprocess

IMAGES = np.random.default_rng(0).integers(0, 200, (50, 7, 5, 3), np.uint8)


def test_statistics_are_those_of_numpy():
    mean, std = preprocess.channel_statistics(IMAGES)
    assert mean.shape == std.shape == (1, 1, 1, 3)
    axes = (0, 1, 2)
    np.testing.assert_allclose(mean.ravel(), IMAGES.mean(axis=axes, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(std.ravel(), IMAGES.std(axis=axes, dtype=np.float64), rtol=1e-7)


def test_standardised_training_images_have_mean_0_and_deviation_1():
    mean, std = preprocess.channel_statistics(IMAGES)
    out = preprocess.standardize(jnp.asarray(IMAGES), mean, std)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(np.mean(out, axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(out, axis=(0, 1, 2)), 1, atol=1e-5)


def test_a_constant_channel_becomes_zero_not_nan():
    images = np.full((4, 2, 2, 1), 7, np.uint8)
    out = preprocess.standardize(jnp.asarray(images), *preprocess.channel_statistics(images))
    np.testing.assert_array_equal(out, np.zeros((4, 2, 2, 1)))
