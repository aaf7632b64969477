"""The handwritten digits of scikit-learn, which need no network."""

import importlib.metadata

import numpy as np

from experiments.data import cache

NUM_TRAIN, NUM_TEST = 1437, 360
IMAGE_SHAPE = (8, 8, 1)
NUM_CLASSES = 10


def read() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the digits from the cache, because importing scikit-learn takes seconds.

    Returns:
      Training images, training labels, test images, and test labels.
    """
    key = f"scikit-learn {importlib.metadata.version('scikit-learn')}"
    layouts = {
        "train_images": cache.Layout((NUM_TRAIN, *IMAGE_SHAPE), "uint8"),
        "train_labels": cache.Layout((NUM_TRAIN,), "int64"),
        "test_images": cache.Layout((NUM_TEST, *IMAGE_SHAPE), "uint8"),
        "test_labels": cache.Layout((NUM_TEST,), "int64"),
    }
    arrays = cache.stored("datasets/digits.arrays", key, layouts, split)
    return tuple(arrays[name] for name in layouts)  # type: ignore[return-value]


def split() -> dict[str, np.ndarray]:
    """Returns scikit-learn's 1,797 digits, split into 1,437 and 360 and stratified by class."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, digits.target, test_size=NUM_TEST, stratify=digits.target, random_state=0
    )
    return {
        "train_images": train_images,
        "train_labels": train_labels.astype(np.int64),
        "test_images": test_images,
        "test_labels": test_labels.astype(np.int64),
    }
