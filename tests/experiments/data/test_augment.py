"""Compares crops and flips with NumPy, and checks their randomness."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import augment

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), np.uint8)


def all_crops(image, padding):
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), mode="reflect")
    height, width, _ = image.shape
    return {
        padded[row : row + height, column : column + width].tobytes()
        for row in range(2 * padding + 1)
        for column in range(2 * padding + 1)
    }


def test_crops_are_different_windows_of_the_reflected_image():
    cropped = np.asarray(augment.random_crop(jax.random.key(0), jnp.asarray(IMAGES), padding=2))
    assert cropped.dtype == np.uint8
    for image, crop in zip(IMAGES, cropped, strict=True):
        assert crop.tobytes() in all_crops(image, 2)
    unchanged = (cropped == IMAGES).all(axis=(1, 2, 3)).mean()
    assert unchanged < 0.2  # 1 in 25 is expected


def test_crop_offsets_are_uniform():
    """Every pixel contains its own position, which reveals the offset."""
    position = np.arange(9, dtype=np.uint8)
    images = np.broadcast_to(position[None, :, None, None], (9000, 9, 9, 1))
    cropped = np.asarray(augment.random_crop(jax.random.key(1), jnp.asarray(images), padding=1))
    _, counts = np.unique(cropped[:, 4, 4, 0], return_counts=True)
    np.testing.assert_allclose(counts / 9000, 1 / 3, atol=0.02)


def test_about_half_of_the_images_are_flipped_and_the_others_unchanged():
    flipped = np.asarray(augment.random_flip(jax.random.key(2), jnp.asarray(IMAGES)))
    mirrored = (flipped == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    unchanged = (flipped == IMAGES).all(axis=(1, 2, 3))
    assert (mirrored ^ unchanged).all()
    assert 0.3 < mirrored.mean() < 0.7


@pytest.mark.parametrize(("padding", "flip"), [(0, False), (0, True), (2, False), (2, True)])
def test_crop_and_flip_can_be_disabled_separately(padding, flip):
    out = augment.crop_and_flip(jax.random.key(3), jnp.asarray(IMAGES), padding=padding, flip=flip)
    assert np.array_equal(out, IMAGES) == (padding == 0 and not flip)
    sums, sums_before = (np.sum(images, axis=(1, 2, 3), dtype=int) for images in (out, IMAGES))
    assert np.array_equal(sums, sums_before) == (padding == 0)


def test_same_key_gives_the_same_images():
    def once(seed):
        key = jax.random.key(seed)
        return np.asarray(augment.crop_and_flip(key, jnp.asarray(IMAGES), padding=4, flip=True))

    np.testing.assert_array_equal(once(4), once(4))
    assert not np.array_equal(once(4), once(5))
