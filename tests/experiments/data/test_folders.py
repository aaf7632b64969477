"""Images in folders are found, loaded into memory, and read from disk with equal values."""

import shutil

import numpy as np
import pytest
from PIL import Image

from experiments.data import datasets
from experiments.errors import UserError


@pytest.fixture
def directory(tmp_path, monkeypatch, random_split):
    """A directory with 12 training and 5 test images of 3 classes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for split, seed, count in (("train", 0, 12), ("val", 1, 5)):
        for number, (image, label) in enumerate(zip(*random_split(seed, count), strict=True)):
            file = tmp_path / "data" / split / f"class{label}" / f"{number:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(file)
            (file.parent / "notes.txt").write_text("not an image")
    return tmp_path / "data"


def described(directory, image_size=None):
    return datasets.describe("folder", data_dir=str(directory), image_size=image_size)


def test_folders_load_as_they_are_read_from_disk(directory, random_split):
    info = described(directory)
    assert info[:5] == ("folder", 12, 5, (8, 8, 1), 3)
    dataset, again, readers = datasets.load(info), datasets.load(info), datasets.open_readers(info)
    images, labels = random_split(0, 12)
    by_class = np.argsort(labels, kind="stable")
    np.testing.assert_array_equal(dataset.train_images, images[by_class])
    np.testing.assert_array_equal(dataset.train_labels, labels[by_class])
    np.testing.assert_array_equal(again.test_images, dataset.test_images)
    for reader, expected in (
        (readers.train, dataset.train_images),
        (readers.test, dataset.test_images),
    ):
        indices = np.random.default_rng(0).permutation(len(reader))
        np.testing.assert_array_equal(reader.read(indices)["image"], expected[indices])


def test_changed_file_is_loaded_again(directory):
    info = described(directory)
    before = datasets.load(info)
    file = directory / "train" / "class0" / "000.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(file)
    assert not np.array_equal(datasets.load(described(directory)).train_images, before.train_images)


def test_images_of_many_sizes_are_cut_to_a_size(directory):
    Image.fromarray(np.zeros((9, 20), np.uint8)).save(directory / "train" / "class0" / "000.png")
    reader = datasets.open_readers(described(directory, image_size=6)).train
    assert reader.read([0, 1], (0, 0))["image"].shape == (2, 6, 6, 1)
    reader = datasets.open_readers(described(directory)).train
    with pytest.raises(
        UserError, match=r"class0/003.png, in .* is 8x8x1, but the first image is 9x20x1"
    ):
        reader.read([0, 1])


def test_file_that_is_no_image_is_named(directory):
    file = directory / "train" / "class1" / "004.png"
    file.write_bytes(file.read_bytes()[:50])
    reader = datasets.open_readers(described(directory)).train
    with pytest.raises(UserError, match=rf"image 5, {file}, in split 'train' .* cannot be read"):
        reader.read(range(12))
    file.unlink()
    with pytest.raises(UserError, match="No such file or directory"):
        reader.read(range(12))


def test_unusable_directory_is_refused(directory, monkeypatch):
    with pytest.raises(UserError, match=r"data.name='folder' needs a directory with images: set"):
        datasets.describe("folder", data_dir=None, image_size=None)
    with pytest.raises(UserError, match=r"nowhere is not a directory; it must have images at"):
        described(directory / "nowhere")
    with pytest.raises(UserError, match=r"train/class0 has no class folders; images must be at"):
        described(directory / "train" / "class0")
    (directory / "val" / "class7").mkdir()
    with pytest.raises(UserError, match=r"has the class 'class7', which .*train does not have"):
        described(directory)
    (directory / "val" / "class7").rmdir()
    with monkeypatch.context() as patch:

        def refused(path):
            raise PermissionError(13, "Permission denied", path)

        patch.setattr("os.scandir", refused)
        with pytest.raises(UserError, match=r"train cannot be read \(Permission denied\)"):
            described(directory)
    shutil.rmtree(directory / "train")
    (directory / "train" / "class0").mkdir(parents=True)
    shutil.rmtree(directory / "val")
    with pytest.raises(UserError, match=r"train has a single class folder, 'class0'; a classifi"):
        described(directory)
    (directory / "train" / "class1").mkdir()
    with pytest.raises(UserError, match="train has no images"):
        described(directory)


def test_folder_without_splits_is_split_at_random_in_the_same_way(directory):
    """Each class has 4 training images, to which 8 are added; every fifth is evaluated."""
    classes = directory / "train"
    for label in range(3):
        for number in range(8):
            source = classes / f"class{label}" / f"{label:03}.png"
            shutil.copy(source, source.with_name(f"more{number}.png"))
    info = datasets.describe(f"folder:{classes}", data_dir=None, image_size=None)
    assert (info.name, info.num_train, info.num_test) == ("folder:train", 30, 6)
    assert datasets.class_names(info) == ("class0", "class1", "class2")
    dataset = datasets.load(info)
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), [2, 2, 2])
    train, test = info.folder.train, info.folder.test
    paths = [files.name(place) for files in (train, test) for place in range(len(files))]
    assert len({path.partition(", ")[2] for path in paths}) == 36
    again = datasets.describe(f"folder:{classes}", data_dir=None, image_size=None)
    assert again.folder.test.state() == test.state()


def test_image_with_a_palette_has_its_colors(directory):
    file = directory / "train" / "class0" / "000.png"
    colors = np.zeros((8, 8, 3), np.uint8)
    colors[:4] = (255, 0, 128)
    Image.fromarray(colors).convert("P", palette=Image.Palette.ADAPTIVE).save(file)
    assert described(directory).image_shape == (8, 8, 3)
    reader = datasets.open_readers(described(directory)).train
    np.testing.assert_array_equal(reader.read([0])["image"][0], colors)
