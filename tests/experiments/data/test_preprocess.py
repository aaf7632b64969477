"""Compares every step with an independent computation, and checks their order and caching."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.exposure import rescale_intensity

from experiments.data import augment, chain, datasets, preprocess
from experiments.errors import UserError
from tests.experiments.data.test_chain import ORDER

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 200, (150, 7, 5, 3), np.uint8)
# Images and channels differ in brightness and contrast. There are more training images than values
# per image, so their covariance has full rank.
BRIGHTNESS = RNG.uniform(0.2, 1.2, (150, 1, 1, 1)) * [1.0, 0.8, 0.4]
TRAIN = (IMAGES * BRIGHTNESS).astype(np.uint8)
TEST = RNG.integers(50, 256, (20, 7, 5, 3), np.uint8)
DATASET = datasets.Dataset(TRAIN, np.zeros(150, np.int32), TEST, np.zeros(20, np.int32))
PER_IMAGE = {"contrast_stretching", "global_contrast_normalization"}


@pytest.fixture(scope="module", autouse=True)
def cache_home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(home))
        yield home


def by_name(*names):
    return {name: preprocess.STEPS[name] for name in names}


def applied(*names, train=TRAIN, test=TEST, zca_epsilon=0.1):
    images = preprocess.apply_steps(train, test, by_name(*names), zca_epsilon)
    return images["train"], images["test"]


def prepared(*names, dataset=DATASET, zca_epsilon=0.1, cache_key="key"):
    return preprocess.prepare(
        dataset, by_name(*names), zca_epsilon=zca_epsilon, cache_key=cache_key
    )[:2]


def test_channel_statistics_equal_numpy():
    mean, std = preprocess.channel_statistics(IMAGES)
    assert mean.shape == std.shape == (1, 1, 1, 3)
    axes = (0, 1, 2)
    np.testing.assert_allclose(mean.ravel(), IMAGES.mean(axis=axes, dtype=np.float64), rtol=1e-7)
    np.testing.assert_allclose(std.ravel(), IMAGES.std(axis=axes, dtype=np.float64), rtol=1e-7)


def test_standardized_training_images_have_mean_0_and_deviation_1():
    mean, std = preprocess.channel_statistics(IMAGES)
    out = preprocess.standardize(jnp.asarray(IMAGES), mean, std)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(np.mean(out, axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(out, axis=(0, 1, 2)), 1, atol=1e-5)


@pytest.mark.parametrize("images", [np.full((4, 2, 2, 1), 7, np.uint8), np.full((3, 1, 1, 1), 0.1)])
def test_constant_channel_becomes_zero_and_not_nan(images):
    images = images.astype(np.float32) if images.dtype == np.float64 else images
    out = preprocess.standardize(jnp.asarray(images), *preprocess.channel_statistics(images))
    np.testing.assert_array_equal(out, np.zeros(images.shape))


def test_pixel_mean_subtracts_the_mean_training_image():
    mean = sum(image.astype(np.float64) for image in TRAIN) / len(TRAIN)
    for out, images in zip(applied("pixel_mean"), (TRAIN, TEST), strict=True):
        np.testing.assert_allclose(out, images - mean, atol=2e-5, rtol=0)


def test_global_contrast_normalization_scales_each_image():
    for out, images in zip(applied("global_contrast_normalization"), (TRAIN, TEST), strict=True):
        for index in (0, 7, 19):
            pixels = [float(value) for value in images[index].ravel()]
            mean = sum(pixels) / len(pixels)
            variance = sum((pixel - mean) ** 2 for pixel in pixels) / len(pixels)
            expected = [(pixel - mean) / variance**0.5 for pixel in pixels]
            np.testing.assert_allclose(out[index].ravel(), expected, rtol=1e-6, atol=1e-7)


def test_contrast_stretching_maps_percentiles_of_each_image():
    for out, images in zip(applied("contrast_stretching"), (TRAIN, TEST), strict=True):
        assert (out.min(), out.max()) == (0, 255)
        for index in (0, 7, 19):
            low, high = np.quantile(images[index].astype(np.float64), (0.02, 0.98))
            expected = np.interp(images[index], (low, high), (0, 255))
            np.testing.assert_allclose(out[index], expected, rtol=1e-6, atol=1e-5)
            rescaled = rescale_intensity(
                images[index].astype(np.float64), in_range=(low, high), out_range=(0.0, 255.0)
            )
            np.testing.assert_allclose(out[index], rescaled, rtol=1e-6, atol=1e-5)


def test_image_without_contrast_is_not_stretched_and_normalizes_to_zero():
    images = np.full((3, 8, 8, 1), 9, np.uint8)
    images[1, 0, 0] = 30  # one pixel of 64, above the 98th percentile
    images[2] = 0
    np.testing.assert_array_equal(preprocess.contrast_stretching(images), images)
    normalized = preprocess.global_contrast_normalization(images)
    np.testing.assert_array_equal(normalized[[0, 2]], 0)
    np.testing.assert_allclose(normalized[1].std(), 1, rtol=1e-6)


@pytest.mark.parametrize("count", [150, 40], ids=["full rank", "fewer images than values"])
@pytest.mark.parametrize("epsilon", [0.1, 1e-3])
def test_zca_equals_the_singular_value_decomposition(count, epsilon):
    train = TRAIN[:count]
    flat = train.reshape(count, -1).astype(np.float64)
    _, singular, transposed = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=True)
    eigenvalues = np.zeros(flat.shape[1])
    eigenvalues[: len(singular)] = singular**2 / count
    scale = (eigenvalues + epsilon * eigenvalues.mean()) ** -0.5
    matrix = transposed.T @ np.diag(scale) @ transposed
    outs = applied("zca", train=train, zca_epsilon=epsilon)
    for out, images in zip(outs, (train, TEST), strict=True):
        expected = (images.reshape(len(images), -1) - flat.mean(axis=0)) @ matrix
        np.testing.assert_allclose(out, expected.reshape(images.shape), rtol=1e-4, atol=1e-4)


def test_almost_unregularized_zca_whitens_the_training_images_only():
    train, test = (images.reshape(len(images), -1) for images in applied("zca", zca_epsilon=1e-9))
    np.testing.assert_allclose(np.cov(train.T, bias=True), np.eye(105), atol=1e-3)
    assert np.abs(np.cov(test.T, bias=True) - np.eye(105)).max() > 1


def test_zca_of_few_images_stays_finite_with_a_tiny_epsilon():
    for out in applied("zca", train=TRAIN[:40], zca_epsilon=1e-30):
        assert np.isfinite(out).all()


def test_each_step_is_fitted_to_the_images_from_the_previous_step():
    stretched, _ = applied("contrast_stretching")
    normalized, _ = applied("contrast_stretching", "global_contrast_normalization")
    expected = preprocess.global_contrast_normalization(stretched)
    np.testing.assert_array_equal(normalized, expected)
    train, _ = applied("global_contrast_normalization", "standardize")
    np.testing.assert_allclose(train.mean(axis=(0, 1, 2), dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(train.std(axis=(0, 1, 2), dtype=np.float64), 1, rtol=1e-6)
    other, _ = applied("standardize", "global_contrast_normalization")
    assert np.abs(train - other).max() > 0.1


@pytest.mark.parametrize("name", preprocess.STEPS)
def test_step_is_fitted_to_the_training_images_only(name):
    train, test = applied(name)
    same_train, _ = applied(name, test=255 - TEST)
    np.testing.assert_array_equal(same_train, train)
    _, other_test = applied(name, train=(TRAIN // 2)[:, ::-1])
    assert np.array_equal(other_test, test) == (name in PER_IMAGE)


def test_chain_gives_the_same_bits_twice():
    steps = ("contrast_stretching", "standardize", "pixel_mean", "zca")
    for once, again in zip(applied(*steps), applied(*steps), strict=True):
        np.testing.assert_array_equal(once, again)


def test_impossible_order_is_refused_before_any_computation(monkeypatch):
    monkeypatch.setattr(preprocess, "apply_steps", None)
    with pytest.raises(UserError, match="'pixel_mean' after 'zca'"):
        prepared("zca", "pixel_mean")


@pytest.mark.parametrize(
    ("apply", "message"),
    [
        (
            lambda images: images.astype(np.float64),
            r"returns float64 images of shape \(150, 7, 5, 3",
        ),
        (lambda images: images, "returns uint8 images"),
        (
            lambda images: images[:, :3].astype(np.float32),
            r"float32 images of shape \(150, 3, 5, 3\) for images of shape \(150, 7, 5, 3\)",
        ),
    ],
)
def test_step_that_returns_other_images_is_refused(apply, message):
    steps = {f"{__name__}:STEP": preprocess.Step(lambda images, epsilon: (), apply)}
    with pytest.raises(UserError, match=message) as error:
        preprocess.prepare(DATASET, steps, zca_epsilon=0.1, cache_key="wrong images")
    assert "it must return float32 images of the same shape" in str(error.value)


def test_images_that_changed_under_the_same_name_are_preprocessed_again():
    prepared("pixel_mean", cache_key="same name")
    for split in ("train_images", "test_images"):
        changed = getattr(DATASET, split).copy()
        changed[0, 0, 0, 0] ^= 1
        dataset = DATASET._replace(**{split: changed})
        outs, _ = prepared("pixel_mean", dataset=dataset, cache_key="same name")
        expected = applied("pixel_mean", train=dataset.train_images, test=dataset.test_images)
        np.testing.assert_array_equal(outs.train_images, expected[0])
        np.testing.assert_array_equal(outs.test_images, expected[1])


@st.composite
def accepted_steps(draw):
    steps = tuple(draw(st.permutations(ORDER)))[: draw(st.integers(1, 5))]
    if "contrast_stretching" in steps:
        steps = ("contrast_stretching", *(step for step in steps if step != "contrast_stretching"))
    if "zca" in steps:
        after = steps[steps.index("zca") + 1 :]
        last = tuple(step for step in after if step == "global_contrast_normalization")
        steps = (*steps[: steps.index("zca") + 1], *last)
    return steps


def small_images(shape):
    """Draws images with arbitrary values, with one value per image, or with one value in all."""
    count = shape[0]
    constant = hnp.arrays(np.uint8, (count, 1, 1, 1)) | st.integers(0, 255)
    broadcast = constant.map(lambda value: np.broadcast_to(np.uint8(value), shape).copy())
    return hnp.arrays(np.uint8, shape) | broadcast


@given(steps=accepted_steps(), data=st.data(), epsilon=st.sampled_from([1e-6, 0.1, 10.0]))
def test_every_accepted_chain_returns_finite_float32_of_the_same_shape(steps, data, epsilon):
    chain.check(steps)
    count, side, channels = (data.draw(st.integers(1, high)) for high in (4, 3, 3))
    train = data.draw(small_images((count, side, side, channels)))
    test = data.draw(small_images((2, side, side, channels)))
    outs = applied(*steps, train=train, test=test, zca_epsilon=epsilon)
    for out, images in zip(outs, (train, test), strict=True):
        assert out.shape == images.shape
        assert out.dtype == np.float32
        assert np.isfinite(out).all()


def test_images_stay_uint8_if_the_device_can_finish():
    for steps in ((), ("standardize",)):
        dataset, finish = prepared(*steps)
        assert dataset is DATASET
        out = jax.jit(finish)(dataset.test_images)
        assert out.dtype == jnp.float32
        expected = applied("standardize")[1] if steps else TEST
        np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)


def test_other_chains_are_completed_on_the_host():
    for steps in (("pixel_mean",), ("global_contrast_normalization", "zca")):
        dataset, finish = prepared(*steps)
        for out, expected in zip(
            (dataset.train_images, dataset.test_images), applied(*steps), strict=True
        ):
            assert out.dtype == np.float32
            np.testing.assert_array_equal(out, expected)
            np.testing.assert_array_equal(jax.jit(finish)(out), out)
        assert dataset.train_labels is DATASET.train_labels
        assert dataset.test_labels is DATASET.test_labels


def test_preprocessed_images_are_cached_by_everything_they_depend_on(cache_home, monkeypatch):
    def files():
        return set((cache_home / "loganneal_jax" / "preprocessed").iterdir())

    first, _ = prepared("zca", cache_key="computed once")
    before = files()
    with monkeypatch.context() as patch:
        patch.setattr(preprocess, "apply_steps", None)
        again, _ = prepared("zca", cache_key="computed once")
    np.testing.assert_array_equal(again.train_images, first.train_images)
    np.testing.assert_array_equal(again.test_images, first.test_images)
    assert files() == before
    for number, options in enumerate(
        (
            {"zca_epsilon": 0.2, "cache_key": "computed once"},
            {"zca_epsilon": 0.1, "cache_key": "other images"},
        ),
        start=1,
    ):
        prepared("zca", **options)
        assert len(files() - before) == number
    prepared("zca", "global_contrast_normalization", cache_key="computed once")
    assert len(files() - before) == 3


def test_unused_option_does_not_change_the_cache_key(monkeypatch):
    prepared("pixel_mean", zca_epsilon=0.1, cache_key="no zca")
    monkeypatch.setattr(preprocess, "apply_steps", None)
    prepared("pixel_mean", zca_epsilon=0.2, cache_key="no zca")


def test_zca_refuses_large_images_before_any_computation():
    chain.check_size(("zca",), (64, 64, 3))
    chain.check_size(("pixel_mean",), (224, 224, 3))
    images = np.zeros((1, 65, 64, 3), np.uint8)
    with pytest.raises(UserError, match=r"at most 12288 values .* but they are 65x64x3"):
        prepared("pixel_mean", "zca", dataset=DATASET._replace(train_images=images))


def test_augmentation_only_moves_the_pixels_of_whitened_images():
    images, _ = applied("zca")
    places = np.arange(images.size).reshape(images.shape)
    crop_and_flip = jax.jit(
        lambda images: augment.crop_and_flip(jax.random.key(3), images, padding=2, flip=True)
    )
    out = crop_and_flip(images)
    assert out.dtype == jnp.float32
    np.testing.assert_array_equal(out, images.ravel()[np.asarray(crop_and_flip(places))])
    assert not np.array_equal(out, images)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    "TFDS_DATA_DIR" not in os.environ, reason="needs TFDS_DATA_DIR with prepared data sets"
)
@pytest.mark.parametrize(
    ("steps", "epsilon", "side"),
    [(("zca",), 1e-9, 16), (("global_contrast_normalization", "zca"), 0.1, 32)],
)
def test_whitened_cifar10_has_the_covariance_of_the_regularization(steps, epsilon, side):
    """The covariance is C (C + epsilon mean(diag C) I)^-1 for images with covariance C.

    Raw pixels have full rank, so a tiny epsilon gives the identity. Normalizing contrast removes
    one direction, and epsilon 0.1 then leaves about a quarter of the trace. A fifth of the images
    is three times as many as pixels.
    """
    info = datasets.describe("cifar10", data_dir=None, image_size=None)
    cifar10 = datasets.load(info)
    train, test = (
        images[:, :side, :side]
        for images in (cifar10.train_images[:10_000], cifar10.test_images[:100])
    )
    for name in steps[:-1]:
        train, test = applied(name, train=train, test=test)
    covariance = np.cov(train.reshape(10_000, -1), rowvar=False, bias=True, dtype=np.float64)
    expected = np.linalg.solve(
        covariance + epsilon * np.diag(covariance).mean() * np.eye(len(covariance)), covariance
    )
    whitened, _ = applied("zca", train=train, test=test, zca_epsilon=epsilon)
    flat = whitened.reshape(10_000, -1)
    np.testing.assert_allclose(flat.mean(axis=0, dtype=np.float64), 0, atol=1e-3)
    result = np.cov(flat, rowvar=False, bias=True, dtype=np.float64)
    np.testing.assert_allclose(result, expected, atol=1e-4, rtol=0)
    mean_variance = {1e-9: 1.0, 0.1: 0.2664}[epsilon]
    np.testing.assert_allclose(np.trace(result) / len(result), mean_variance, atol=1e-4)
    if epsilon == 1e-9:
        np.testing.assert_allclose(result, np.eye(len(result)), atol=1e-4, rtol=0)
