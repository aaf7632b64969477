"""The inputs of a classifier are stored, and every changed byte of the file is noticed."""

import numpy as np
import pytest

from experiments.data import datasets, inputs

FITTED = ((np.ones((1, 1, 1, 3), np.float32), np.arange(3, dtype=np.float32)), (), (np.asarray(7),))


def example():
    info = datasets.describe("digits", data_dir=None, image_size=16)
    return inputs.of(info, ("standardize", "global_contrast_normalization", "mine:own"), FITTED)


def test_inputs_survive_the_file():
    before = example()
    after = inputs.loads(inputs.dumps(before))
    assert after._replace(fitted=()) == before._replace(fitted=())
    assert (after.data, after.num_train) == ("digits", 1437)
    assert (after.image_shape, after.stored_shape) == ((16, 16, 1), (8, 8, 1))
    assert after.class_names == tuple("0123456789")
    for ours, theirs in zip(after.fitted, FITTED, strict=True):
        for array, expected in zip(ours, theirs, strict=True):
            assert array.dtype == expected.dtype
            np.testing.assert_array_equal(array, expected)
    assert inputs.dumps(after) == inputs.dumps(before)


def test_every_changed_byte_is_noticed():
    content = inputs.dumps(example())
    for place in range(0, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 4
        try:
            found = inputs.loads(bytes(changed))
        except ValueError:
            continue
        # The padding of the header, or the order of its names.
        assert inputs.dumps(found) == content, place
    for part in (b"", content[:20], content[:-1], b"{}"):
        with pytest.raises(ValueError, match="it is not complete"):
            inputs.loads(part)
