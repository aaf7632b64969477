"""Images read from disk at random equal those that are loaded; damage is one sentence."""

import shutil

import numpy as np
import pytest

from experiments.data import datasets
from experiments.data.records import Damaged
from experiments.errors import UserError
from tests.experiments.data.prepare import write_data_set

SPLITS = ("train", "test")


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    """A data directory with a data set of two files per split."""
    root = tmp_path_factory.mktemp("intact")
    rng = np.random.default_rng(0)
    splits = {
        split: (rng.integers(0, 256, (12, 8, 6, 3), np.uint8), np.arange(12) % 3)
        for split in SPLITS
    }
    write_data_set(root / "my_own" / "1.0.0", splits, num_classes=3, num_shards=2)
    return root


@pytest.fixture
def copied(intact, tmp_path, monkeypatch):
    """The directory of a copy that a test may damage."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(intact, tmp_path / "data")
    return tmp_path / "data" / "my_own" / "1.0.0"


def described(directory, image_size=None, num_validation=0):
    data_dir = str(directory.parent.parent)
    info = datasets.describe("my_own", data_dir=data_dir, image_size=image_size)
    return datasets.hold_out(info, num_validation) if num_validation else info


@pytest.mark.parametrize(("image_size", "num_validation"), [(None, 0), (5, 0), (None, 4)])
def test_streamed_examples_equal_those_in_memory(copied, image_size, num_validation):
    info = described(copied, image_size, num_validation)
    dataset, readers = datasets.load(info), datasets.open_readers(info)
    rng = np.random.default_rng(1)
    for reader, images, labels in (
        (readers.train, dataset.train_images, dataset.train_labels),
        (readers.test, dataset.test_images, dataset.test_labels),
    ):
        assert len(reader) == len(labels)
        indices = rng.permutation(len(labels))
        arrays = reader.read(indices)
        np.testing.assert_array_equal(arrays["image"], images[indices])
        np.testing.assert_array_equal(arrays["label"], labels[indices])
        assert {name: (a.shape[1:], a.dtype) for name, a in arrays.items()} == dict(reader.layouts)


def test_damaged_record_is_named_with_its_file_and_its_index(copied):
    reader = datasets.open_readers(described(copied)).train
    file = copied / "my_own-train.array_record-00001-of-00002"
    content = bytearray(file.read_bytes())
    # The second of the six records in the second file has index 7 in the split.
    png = [i for i in range(len(content)) if content[i : i + 4] == b"\x89PNG"][1]
    content[png + 60] ^= 1
    file.write_bytes(content)
    reader = datasets.open_readers(described(copied)).train
    assert set(reader.read([0, 5, 6, 8])) == {"image", "label"}
    with pytest.raises(
        Damaged, match=rf"example 1 of {file} in split 'train' .* cannot be read"
    ) as e:
        reader.read([0, 7, 8])
    assert e.value.index == 7
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "shorter"])
def test_damaged_file_is_refused_before_anything_is_read(copied, how):
    file = copied / "my_own-train.array_record-00001-of-00002"
    if how == "missing":
        file.unlink()
    elif how == "shorter":
        other = copied.parent.parent / "other" / "1.0.0"
        write_data_set(other, {"train": (np.zeros((3, 8, 6, 3), np.uint8), [0, 1, 2])}, 3)
        shutil.copy(other / "other-train.array_record-00000-of-00001", file)
    else:
        file.write_bytes(file.read_bytes()[: 100 if how == "truncated" else 0])
    with pytest.raises(UserError, match="split 'train' of data set 'my_own' cannot be read") as e:
        datasets.open_readers(described(copied))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("label", [3, -1])
def test_label_without_a_class_is_refused(copied, label):
    shutil.rmtree(copied)
    images = np.zeros((2, 8, 6, 3), np.uint8)
    write_data_set(copied, {"train": (images, [0, label]), "test": (images, [0, 1])}, 3)
    reader = datasets.open_readers(described(copied)).train
    with pytest.raises(UserError, match=f"label {label} is not one of 3 classes"):
        reader.read([1])
