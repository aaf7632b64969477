"""Decodes image files to arrays of one size: as they are, resized, or cropped."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

Decode = Callable[[bytes, np.random.Generator | None], np.ndarray]

# Szegedy et al. 2015 (arXiv:1409.4842, section 6), as in torchvision: a crop with a random share of
# the area and a random ratio of width and height.
AREA = (0.08, 1.0)
LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))
TRIES = 10
# In evaluation, the central 224 of 256 pixels (He et al. 2016, arXiv:1512.03385).
CENTER = 224 / 256

PNG = b"\x89PNG\r\n\x1a\n"  # how a PNG file begins
MANY_PIXELS = 2**26  # Pillow warns of larger images, and refuses absurd sizes


class OtherShape(ValueError):
    """An image whose shape is not that of the others.

    Args:
      shape: its height, width, and channels.
      expected: those of the others.
    """

    def __init__(self, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
        super().__init__(f"an image of shape {shape}, not {expected}")
        self.shape = shape
        self.expected = expected


def shape_of(encoded: bytes) -> tuple[int, int, int]:
    """Returns height, width, and channels of an image file."""
    image = _pixels(encoded)
    height, width, channels = image.reshape(*image.shape[:2], -1).shape
    return height, width, channels


def _pixels(encoded: bytes) -> np.ndarray:
    """Decodes an image file: [height, width] or [height, width, channels]."""
    from PIL import Image

    image = _from_png(encoded)
    if image is None:
        with Image.open(io.BytesIO(encoded)) as picture:
            image = np.asarray(_with_channels(picture))
    return image


def _from_png(encoded: bytes) -> np.ndarray | None:
    """Decodes a PNG file to the same pixels as Pillow, in half the time.

    Args:
      encoded: the bytes of an image file.

    Returns:
      uint8 [height, width] or [height, width, channels]; None if Pillow has to decode the file, or
      to say why it cannot.
    """
    width, height = (int.from_bytes(encoded[start : start + 4], "big") for start in (16, 20))
    if not encoded.startswith(PNG) or width * height > MANY_PIXELS:
        return None
    import imagecodecs

    try:
        image = imagecodecs.spng_decode(encoded)
    except imagecodecs.SpngError:  # damaged, or a rare kind of pixels
        return None
    return image if image.dtype == np.uint8 else None


def _with_channels(picture: Any) -> Any:
    """Returns a picture whose array has a value per channel; a palette becomes its colors."""
    modes = {"1": "L", "P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"}
    return picture.convert(modes[picture.mode]) if picture.mode in modes else picture


def of_equal_size(
    encoded: bytes,
    rng: np.random.Generator | None,
    *,
    stored_shape: tuple[int, int, int],
    image_shape: tuple[int, int, int],
) -> np.ndarray:
    """Decodes an image that has the size of all others, and resizes it if that is not wanted.

    Args:
      encoded: the bytes of the image file.
      rng: not used.
      stored_shape: height, width, and channels of the image.
      image_shape: height, width, and channels of the result.

    Returns:
      uint8 [height, width, channels].

    Raises:
      OtherShape: the image has another shape.
      ValueError: a channel has more than 8 bits.
    """
    image = _pixels(encoded)
    shape = image.reshape(*image.shape[:2], -1).shape
    if shape != stored_shape:
        raise OtherShape(shape, stored_shape)
    if image.dtype != np.uint8:
        raise ValueError(f"its values are {image.dtype}, not uint8")
    return resized(image.reshape(1, *stored_shape), image_shape)[0]


def cropped(
    encoded: bytes,
    rng: np.random.Generator | None,
    *,
    side: int,
    channels: int,
    random_parts: bool,
) -> np.ndarray:
    """Decodes an image of any size, and resizes a part of it to a square.

    The decoder of JPEG files skips details that are smaller than a pixel of the result.

    Args:
      encoded: the bytes of the image file.
      rng: draws the part in training; None in an evaluation, which sees the central part.
      side: height and width of the result.
      channels: 1 for gray images, 3 for color images.
      random_parts: whether training sees random parts.

    Returns:
      uint8 [side, side, channels].
    """
    from PIL import Image

    mode = "L" if channels == 1 else "RGB"
    pixels = _from_png(encoded)
    with Image.open(io.BytesIO(encoded)) if pixels is None else Image.fromarray(pixels) as picture:
        width, height = picture.size
        if rng is None or not random_parts:
            box = central_box(width, height)
        else:
            box = random_box(width, height, rng)
        scale = min(box[2] - box[0], box[3] - box[1]) / side
        picture.draft(mode, (math.ceil(width / scale), math.ceil(height / scale)))
        shrunk = picture.size[0] / width, picture.size[1] / height
        color = picture if picture.mode == mode else picture.convert(mode)
        part = color.resize(
            (side, side),
            Image.Resampling.BILINEAR,
            box=(
                box[0] * shrunk[0],
                box[1] * shrunk[1],
                min(box[2] * shrunk[0], picture.size[0]),
                min(box[3] * shrunk[1], picture.size[1]),
            ),
        )
        return np.asarray(part).reshape(side, side, channels)


def resized(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Resizes images to one shape by bilinear interpolation.

    Args:
      images: uint8 [examples, height, width, channels]; returned as they are if they have `shape`.
      shape: height, width, and channels of the result.
    """
    if images.shape[1:] == shape:
        return images
    from PIL import Image

    height, width, channels = shape
    resized = np.empty((len(images), *shape), np.uint8)
    for index, image in enumerate(images):
        # Pillow takes gray images without the axis of channels.
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        resized[index] = np.asarray(picture).reshape(shape)
    return resized


def central_box(width: int, height: int) -> tuple[float, float, float, float]:
    """Returns the central square of an image, whose side is 7/8 of the shorter side.

    >>> central_box(80, 40)
    (22.5, 2.5, 57.5, 37.5)
    """
    side = CENTER * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(
    width: int, height: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """Returns a random part of an image: left, top, right, and bottom, in pixels.

    Args:
      width: width of the image.
      height: height of the image.
      rng: draws the part.
    """
    for _ in range(TRIES):
        area = width * height * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(*LOG_RATIO))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left, top = rng.integers(width - wide + 1), rng.integers(height - high + 1)
            return float(left), float(top), float(left + wide), float(top + high)
    side: Any = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
