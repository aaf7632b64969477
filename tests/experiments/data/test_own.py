"""Arrays that a function returns become a data set, or are refused in one sentence."""

import numpy as np
import pytest

from experiments.data import datasets, own
from experiments.errors import UserError

IMAGES = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
LABELS = np.arange(6) % 3


def test_arrays_in_the_form_of_keras_are_a_data_set():
    arrays = own.call("mine:load", lambda: ((IMAGES, LABELS[:, None]), (IMAGES[:2], LABELS[:2])))
    assert arrays.train_images.shape == (6, 4, 4, 1)
    assert arrays.train_labels.dtype == np.int32
    assert arrays.class_names == ("0", "1", "2")
    info = datasets.describe_arrays("mine:load", arrays, None)
    assert info[:5] == ("mine:load", 6, 2, (4, 4, 1), 3)
    np.testing.assert_array_equal(datasets.load(info).train_labels, LABELS)
    larger = datasets.load(datasets.describe_arrays("mine:load", arrays, 8))
    assert larger.test_images.shape == (2, 8, 8, 1)
    held = datasets.load(datasets.hold_out(info, 4))
    assert (len(held.train_images), len(held.test_images)) == (2, 4)


def test_float_images_names_and_a_missing_test_split_are_possible():
    names = ["cat", "dog", "eel"]
    arrays = own.call("mine:load", lambda: ((IMAGES[..., None] / 255, LABELS), None, names))
    info = datasets.describe_arrays("mine:load", arrays, None)
    assert (info.dtype, info.num_test, info.image_shape) == ("float32", 0, (4, 4, 1))
    assert datasets.class_names(info) == ("cat", "dog", "eel")
    assert datasets.load(info).train_images.dtype == np.float32
    with pytest.raises(UserError, match=r"^data.image_size=8 needs uint8 images, but data.name="):
        datasets.describe_arrays("mine:load", arrays, 8)


def fail():
    raise OSError("no disk\nat all")


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (fail, "^data.name='mine:load' fails: OSError: no disk at all$"),
        (lambda: IMAGES, r"returns a ndarray; it must return \(\(train_images, train_labels\), "),
        (lambda: (IMAGES, LABELS), r"returns a train split of type ndarray; it must"),
        (lambda: ((IMAGES[:0], LABELS[:0]), None), "returns no training images"),
        (lambda: ((IMAGES[..., 0], LABELS), None), r"train images of shape \(6, 4\) and dtype ui"),
        (
            lambda: ((IMAGES.astype(int), LABELS), None),
            "dtype int64; they must be uint8 or float32",
        ),
        (lambda: ((IMAGES, LABELS[:5]), None), r"train labels of shape \(5,\) and .* for 6 images"),
        (lambda: ((IMAGES, LABELS / 2), None), "dtype float64 for 6 images; they must be ints"),
        (lambda: ((IMAGES, LABELS - 1), None), "returns labels from -1 to 1; labels must be 0 to"),
        (lambda: ((IMAGES, LABELS), None, ["a", "b"]), "to 2; the 2 class names need 0 to 1"),
        (lambda: ((IMAGES, LABELS), None, ["a", "b", "a"]), "returns a class name twice"),
        (lambda: ((IMAGES, 0 * LABELS), None), "returns a single class; a classifier needs at l"),
        (lambda: ((IMAGES / np.nan, LABELS), None), "returns train images that are not finite"),
        (
            lambda: ((IMAGES, LABELS), (IMAGES[:, :3], LABELS)),
            r"training images of shape \(4, 4, 1\) and test images of shape \(3, 4, 1\); both",
        ),
        (lambda: ((IMAGES, LABELS), (IMAGES / 9, LABELS)), "dtype uint8 and test images of dtype"),
    ],
)
def test_other_results_are_refused(load, message):
    with pytest.raises(UserError, match=message) as error:
        own.call("mine:load", load)
    assert "\n" not in str(error.value)
