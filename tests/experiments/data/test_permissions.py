"""Directories that the user may not read are named in one sentence."""

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.data import datasets, text
from experiments.errors import UserError
from tests.experiments.data.prepare import write_data_set, write_texts

NOBODY = 65534


@contextlib.contextmanager
def without_privileges():
    """Root may read everything, so another user takes its place for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def root():
    """A directory that every user can reach, unlike that of pytest."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def write_images(root):
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / split / name / "0.png")
    return root / "train" / "dog", lambda: datasets.describe(
        "folder", data_dir=str(root), image_size=None
    )


def write_text_files(root):
    (root / "more").mkdir()
    (root / "a.txt").write_text("abc" * 10)
    (root / "more" / "b.txt").write_text("abc" * 10)
    return root / "more", lambda: text.describe_on_disk("folder", data_dir=str(root))


def write_prepared_images(root):
    splits = {split: (np.zeros((3, 4, 4, 1), np.uint8), [0, 1, 0]) for split in ("train", "test")}
    write_data_set(root / "my_own" / "1.0.0", splits, num_classes=2)
    return root / "my_own" / "1.0.0", lambda: datasets.describe(
        "my_own", data_dir=str(root), image_size=None
    )


def write_prepared_texts(root):
    write_texts(root / "my_texts" / "1.0.0", {"train": [b"abc"], "test": [b"abc"]}, num_shards=1)
    return root / "my_texts" / "1.0.0", lambda: text.describe_on_disk(
        "my_texts", data_dir=str(root)
    )


@pytest.mark.parametrize(
    "write", [write_images, write_text_files, write_prepared_images, write_prepared_texts]
)
def test_directory_without_permission_is_refused_in_one_sentence(write, root, cache_home):
    directory, describe = write(root)
    describe()  # imports modules that another user may not read
    os.chmod(directory, 0)
    try:
        with without_privileges(), pytest.raises(UserError) as error:
            describe()
    finally:
        os.chmod(directory, 0o755)
    assert str(directory) in str(error.value)
    assert "Permission denied" in str(error.value)
    assert "\n" not in str(error.value)
