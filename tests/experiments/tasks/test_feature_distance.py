"""Distances of features equal scipy's matrix root and a loop over pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from experiments.models.features import NUM_FEATURES as D
from experiments.tasks.feature_distance import Moments, frechet_distance, kid


def features(seed, count, shift=0.0):
    """Correlated features of different scales, as float64 and as float32."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(9).normal(size=(D, D)) * np.geomspace(0.1, 2.0, D)
    return (rng.normal(size=(count, D)) @ mix / 8 + shift + 0.5).astype(np.float32)


def moments_of(values, batch=37):
    """Sums over batches, the last of which has masked examples that do not count."""
    total = Moments.empty()
    for start in range(0, len(values), batch):
        part = np.full((batch, D), np.inf, np.float32)
        rows = values[start : start + batch]
        part[: len(rows)] = rows
        mask = np.arange(batch) < len(rows)
        total = total.merge(Moments.from_model_output(jnp.asarray(part), mask=jnp.asarray(mask)))
    return jax.device_get(total)


@pytest.fixture(scope="module")
def sets():
    return features(0, 150), features(1, 110, shift=0.1)


def test_frechet_distance_equals_scipys_matrix_root(sets):
    means = [x.astype(np.float64).mean(0) for x in sets]
    covariances = [np.cov(x.astype(np.float64), rowvar=False) for x in sets]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(means[0] - means[1]).sum() + np.trace(sum(covariances) - 2 * root)
    ones, others = map(moments_of, sets)
    np.testing.assert_allclose(frechet_distance(ones, others), expected, rtol=1e-5)
    np.testing.assert_allclose(frechet_distance(others, ones), expected, rtol=1e-5)
    assert frechet_distance(ones, ones) == pytest.approx(0, abs=1e-4)


def test_frechet_distance_of_singular_covariances_is_finite():
    """A feature that is always 0, and fewer images than features."""
    values = features(2, 20)
    values[:, 0] = 0
    assert frechet_distance(moments_of(values), moments_of(values)) == pytest.approx(0, abs=1e-2)


def test_kid_equals_a_loop_over_pairs(sets):
    def kernel(x, y):
        return (float(x @ y) / D + 1) ** 3

    ones, others = ([x.astype(np.float64) for x in each[:40]] for each in sets)
    within = [
        np.mean([kernel(x, y) for i, x in enumerate(each) for j, y in enumerate(each) if i != j])
        for each in (ones, others)
    ]
    between = np.mean([kernel(x, y) for x in ones for y in others])
    expected = sum(within) - 2 * between
    result = kid(*(moments_of(each[:40]) for each in sets))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


def test_kid_of_one_distribution_is_0_on_average():
    values = [
        kid(moments_of(features(2 * n, 30)), moments_of(features(2 * n + 1, 30)))
        for n in range(100, 130)
    ]
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert min(values) < 0


def test_distances_of_unusable_features_are_nan(sets):
    """A network that diverged, and a split of no images."""
    values = sets[0].copy()
    values[3, 5] = np.nan
    for moments in (moments_of(values), jax.device_get(Moments.empty())):
        assert np.isnan(frechet_distance(moments_of(sets[1]), moments))
        assert np.isnan(kid(moments, moments_of(sets[1])))
