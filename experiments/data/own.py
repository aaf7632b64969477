"""Checks images in memory that a function of the user's own returns, in the form of Keras."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.errors import UserError

FORM = (
    "it must return ((train_images, train_labels), (test_images, test_labels)), and may add the "
    "names of the classes"
)
DTYPES = ("uint8", "float32")
MAX_CHANNELS = 4


class Arrays(NamedTuple):
    """Images [examples, height, width, channels], labels int32 [examples], and class names.

    The test split has no examples if the function returned None in its place.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]


def call(name: str, load: Callable[[], Any]) -> Arrays:
    """Calls a function that returns images and labels, and checks what it returns.

    Args:
      name: the value of `data.name`, for error messages.
      load: called without arguments; returns two splits, each as images and labels, and optionally
        the names of the classes. The second split may be None. Images are uint8, or of a float
        type, which becomes float32, [examples, height, width] or with channels. Labels are ints
        from 0, [examples] or [examples, 1].

    Returns:
      The arrays. Without names, classes are named after their labels.

    Raises:
      UserError: the function fails, or its result has another form.
    """
    try:
        result = load()
    except Exception as error:  # the function is the user's own
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"data.name={name!r} fails: {reason}") from error
    if not isinstance(result, tuple | list) or len(result) not in (2, 3):
        raise _refusal(name, f"a {type(result).__name__}", FORM)
    train, test, *names = result
    train_images, train_labels = _split(name, "train", train)
    if not len(train_images):
        raise _refusal(name, "no training images", "it must return at least one")
    test_images, test_labels = train_images[:0], train_labels[:0]
    if test is not None:
        test_images, test_labels = _split(name, "test", test)
    for what, ours, theirs in (
        ("shape", train_images.shape[1:], test_images.shape[1:]),
        ("dtype", train_images.dtype, test_images.dtype),
    ):
        if ours != theirs:
            raise _refusal(
                name,
                f"training images of {what} {ours} and test images of {what} {theirs}",
                "both splits must agree",
            )
    return Arrays(
        train_images,
        train_labels,
        test_images,
        test_labels,
        _class_names(name, np.concatenate([train_labels, test_labels]), names),
    )


def _split(name: str, split: str, value: Any) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise _refusal(name, f"a {split} split of type {type(value).__name__}", FORM)
    images, labels = np.asarray(value[0]), np.asarray(value[1])
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if np.issubdtype(images.dtype, np.floating):
        images = images.astype(np.float32)
    if images.ndim != 4 or images.dtype.name not in DTYPES or not 1 <= images.shape[-1] <= 4:
        raise _refusal(
            name,
            f"{split} images of shape {images.shape} and dtype {images.dtype}",
            "they must be uint8 or float32 [examples, height, width, channels] with 1 to "
            f"{MAX_CHANNELS} channels",
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise _refusal(
            name,
            f"{split} labels of shape {labels.shape} and dtype {labels.dtype} for {len(images)} "
            "images",
            "they must be ints [examples]",
        )
    if not np.isfinite(images).all():
        raise _refusal(name, f"{split} images that are not finite", "remove NaN and infinity")
    return images, labels.astype(np.int32)


def _class_names(name: str, labels: np.ndarray, names: Sequence[Any]) -> tuple[str, ...]:
    low, high = int(labels.min()), int(labels.max())
    listed = tuple(map(str, names[0])) if names else tuple(map(str, range(high + 1)))
    if low < 0 or high >= len(listed):
        allowed = f"the {len(listed)} class names need" if names else "labels must be"
        raise _refusal(name, f"labels from {low} to {high}", f"{allowed} 0 to {len(listed) - 1}")
    if len(listed) < 2:
        raise _refusal(name, "a single class", "a classifier needs at least two")
    if len(set(listed)) < len(listed):
        raise _refusal(name, "a class name twice", "each class needs its own name")
    return listed


def _refusal(name: str, found: str, remedy: str) -> UserError:
    return UserError(f"data.name={name!r} returns {found}; {remedy}")
