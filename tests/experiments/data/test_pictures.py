"""Parts of images lie inside them, and decoding agrees with plain resizing."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from experiments.data import pictures


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_random_parts_lie_inside_the_image_and_have_the_area_and_ratio(width, height, seed):
    left, top, right, bottom = pictures.random_box(width, height, np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    wide, high = right - left, bottom - top
    if min(width, height) > 200 and wide != high:  # rounding changes small parts
        assert 0.079 < wide * high / (width * height) <= 1.001
        assert 0.74 < wide / high < 1.35


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_central_part_is_a_square_inside_the_image(width, height):
    left, top, right, bottom = pictures.central_box(width, height)
    assert right - left == pytest.approx(bottom - top)
    assert left + right == pytest.approx(width)
    assert top + bottom == pytest.approx(height)
    assert left >= 0
    assert top >= 0


def smooth(height, width):
    """Returns an image whose colors change slowly, so that ways to resize it agree."""
    y, x = np.mgrid[:height, :width]
    channels = [127 + 100 * np.sin(3 * x / width), 127 + 100 * np.cos(2 * y / height), x * 0 + 80]
    return np.stack(channels, -1).astype(np.uint8)


def encoded(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{"format": "png"}, {"format": "jpeg", "quality": 95}])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_part_equals_that_of_the_full_image(options, seed):
    image = smooth(300, 420)

    def rng():
        return None if seed is None else np.random.default_rng(seed)

    found = pictures.cropped(
        encoded(image, **options), rng(), side=32, channels=3, random_parts=True
    )
    box = pictures.central_box(420, 300) if seed is None else pictures.random_box(420, 300, rng())
    expected = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR, box=box)
    assert found.shape == (32, 32, 3)
    np.testing.assert_allclose(found.astype(float), np.asarray(expected, float), atol=5)


def test_colors_and_grays_become_what_is_asked_for():
    gray = encoded(smooth(40, 40)[..., 0], format="png")
    assert pictures.cropped(gray, None, side=8, channels=3, random_parts=True).shape == (8, 8, 3)
    color = encoded(smooth(40, 40), format="png")
    assert pictures.cropped(color, None, side=8, channels=1, random_parts=True).shape == (8, 8, 1)
    assert pictures.shape_of(gray) == (40, 40, 1)
