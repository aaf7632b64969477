"""Parts of images lie inside them, and decoding agrees with plain resizing."""

import io
import re

import imagecodecs
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


def with_transparent(color, image):
    picture = Image.fromarray(image)
    picture.info["transparency"] = color  # stored in PNG files, and ignored by Pillow's arrays
    return picture


PNG_FILES = {
    "color": Image.fromarray(smooth(300, 420)),
    "gray": Image.fromarray(smooth(300, 420)[..., 0]),
    "transparent color": with_transparent((80, 80, 80), smooth(300, 420)),
    "transparent gray": with_transparent(80, smooth(300, 420)[..., 0]),
    "palette": Image.fromarray(smooth(300, 420)).convert("P"),
    "alpha": Image.fromarray(smooth(300, 420)).convert("RGBA"),
    "gray and alpha": Image.fromarray(smooth(300, 420)[..., :2]),
    "black and white": Image.fromarray(smooth(300, 420)[..., 0]).convert("1"),
}


@pytest.mark.parametrize("picture", PNG_FILES.values(), ids=PNG_FILES)
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_part_of_png_equals_that_of_pillow_bit_for_bit(picture, seed):
    def rng():
        return None if seed is None else np.random.default_rng(seed)

    file = io.BytesIO()
    picture.save(file, "png")
    found = pictures.cropped(file.getvalue(), rng(), side=32, channels=3, random_parts=True)
    box = pictures.central_box(420, 300) if seed is None else pictures.random_box(420, 300, rng())
    expected = picture.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR, box=box)
    np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("kind", ["color", "transparent gray", "gray and alpha", "alpha"])
@pytest.mark.parametrize("side", [None, 8])
def test_png_of_equal_size_equals_that_of_pillow_bit_for_bit(kind, side):
    picture = PNG_FILES[kind]
    file = io.BytesIO()
    picture.save(file, "png")
    shape = pictures.shape_of(file.getvalue())
    wanted = shape if side is None else (side, side, shape[2])
    expected = picture if side is None else picture.resize((8, 8), Image.Resampling.BILINEAR)
    found = pictures.of_equal_size(file.getvalue(), None, stored_shape=shape, image_shape=wanted)
    np.testing.assert_array_equal(found, np.asarray(expected).reshape(wanted))


def test_png_of_16_bits_is_decoded_by_pillow():
    opaque = np.concatenate([smooth(30, 40), np.full((30, 40, 1), 255)], -1)
    file = imagecodecs.png_encode(opaque.astype(np.uint16) * 257)
    found = pictures.cropped(file, None, side=8, channels=3, random_parts=True)
    expected = pictures.cropped(
        encoded(smooth(30, 40), format="png"), None, side=8, channels=3, random_parts=True
    )
    np.testing.assert_array_equal(found, expected)


def test_png_is_not_decoded_by_pillow(monkeypatch):
    common = encoded(smooth(30, 40), format="png")
    monkeypatch.setattr(Image, "open", None)
    found = pictures.cropped(common, None, side=8, channels=3, random_parts=True)
    assert found.shape == (8, 8, 3)


@pytest.mark.parametrize("damage", ["truncated", "changed", "huge"])
def test_damaged_png_is_refused_with_the_words_of_pillow(damage):
    whole = encoded(smooth(30, 40), format="png")
    changed = whole[:60] + bytes([whole[60] ^ 255]) + whole[61:]
    huge = whole[:16] + 2 * (2**24).to_bytes(4, "big") + whole[24:]
    file = {"truncated": whole[:-40], "changed": changed, "huge": huge}[damage]
    with pytest.raises((OSError, Image.DecompressionBombError)) as expected:
        Image.open(io.BytesIO(file)).load()
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value)[:20])):
        pictures.cropped(file, None, side=8, channels=3, random_parts=True)


def test_colors_and_grays_become_what_is_asked_for():
    gray = encoded(smooth(40, 40)[..., 0], format="png")
    assert pictures.cropped(gray, None, side=8, channels=3, random_parts=True).shape == (8, 8, 3)
    color = encoded(smooth(40, 40), format="png")
    assert pictures.cropped(color, None, side=8, channels=1, random_parts=True).shape == (8, 8, 1)
    assert pictures.shape_of(gray) == (40, 40, 1)
