"""Checks the built-in digits, and CIFAR-10 and MNIST if `TFDS_DATA_DIR` contains them."""

import importlib.util
import os
import time

import jax
import numpy as np
import pytest

from experiments.data import datasets, prepared
from experiments.data import digits as built_in
from experiments.errors import UserError

needs_tfds = pytest.mark.skipif(
    "TFDS_DATA_DIR" not in os.environ, reason="needs TFDS_DATA_DIR with prepared data sets"
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "loganneal_jax" / "datasets"


def load(name, **options):
    info = datasets.describe(name, **{"data_dir": None, "image_size": None, **options})
    return info, datasets.load(info)


def test_digits_have_a_fixed_stratified_split():
    info, digits = load("digits")
    assert (info.num_train, info.num_test) == (len(digits.train_labels), len(digits.test_labels))
    assert info.image_shape == digits.train_images.shape[1:] == digits.test_images.shape[1:]
    assert digits.train_images.dtype == np.uint8
    assert digits.train_labels.dtype == np.int32
    assert (digits.train_images.min(), digits.train_images.max()) == (0, 255)
    assert not info.flip
    assert set(np.bincount(digits.test_labels)) == {35, 36, 37}
    for ours, again in zip(digits, load("digits")[1], strict=True):
        np.testing.assert_array_equal(ours, again)


def test_digits_are_split_once_and_then_read_from_the_cache(cache, monkeypatch):
    """Then a start does not import scikit-learn, which takes seconds."""
    split = built_in.split()
    _, digits = load("digits")
    assert [file.name for file in cache.iterdir()] == ["digits.arrays"]
    monkeypatch.setattr(built_in, "split", None)
    for dataset in (digits, load("digits")[1]):
        for name, array in split.items():
            np.testing.assert_array_equal(getattr(dataset, name), array)


def test_validation_examples_are_a_fixed_random_part_of_the_training_split():
    info, digits = load("digits")
    held = datasets.hold_out(info, 200)
    assert (held.num_train, held.num_test) == (info.num_train - 200, 200)
    parts = datasets.load(held)
    assert (len(parts.train_labels), len(parts.test_labels)) == (held.num_train, held.num_test)
    for ours, again in zip(parts, datasets.load(held), strict=True):
        np.testing.assert_array_equal(ours, again)

    def examples(images, labels):
        pairs = zip(images, labels, strict=True)
        return sorted(image.tobytes() + bytes([label]) for image, label in pairs)

    training_split = examples(digits.train_images, digits.train_labels)
    kept, held_out = examples(*parts[:2]), examples(*parts[2:])
    assert sorted(kept + held_out) == training_split
    # They are drawn at random, because a data set may be sorted by class.
    first = examples(digits.train_images[:200], digits.train_labels[:200])
    assert len(set(held_out) & set(first)) < 100
    assert datasets.key(held) != datasets.key(info)


def test_images_are_resized_to_image_size():
    info, digits = load("digits", image_size=16)
    _, small = load("digits")
    assert info.image_shape == digits.test_images.shape[1:] == (16, 16, 1)
    bilinear = jax.image.resize(
        small.test_images.astype(np.float32), digits.test_images.shape, "linear"
    )
    np.testing.assert_allclose(digits.test_images, bilinear, atol=1)


def test_unknown_data_set_is_refused_with_the_choices():
    with pytest.raises(UserError, match=r"data.name='cifar11' is unknown; .*cifar10, .*mnist"):
        datasets.describe("cifar11", data_dir=None, image_size=None)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnist:9.9.9", "cannot be loaded at version 9.9.9"),
        ("a/b/c", "cannot be used"),
        (
            "glue",
            "'glue' has the features .*; an image .* data set needs 'image' and 'label'",
        ),
        ("cats_vs_dogs", r"'cats_vs_dogs' have different sizes; set data.image_size"),
    ],
)
def test_data_set_without_labeled_images_of_one_size_is_refused(name, message, tmp_path):
    """Nothing is downloaded first."""
    with pytest.raises(UserError, match=message) as error:
        datasets.describe(name, data_dir=str(tmp_path), image_size=None)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_missing_data_set_without_network_is_refused_within_seconds(tmp_path, monkeypatch):
    # A local port without a listener stands in for an unreachable network.
    monkeypatch.setattr(prepared, "NETWORK_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(UserError, match=r"'mnist' is not prepared in .*unreachable.*TFDS_DATA_DIR"):
        datasets.describe("mnist", data_dir=str(tmp_path), image_size=None)
    assert time.monotonic() - started < 2 * prepared.NETWORK_TIMEOUT_SECONDS
    assert not list(tmp_path.iterdir())


@needs_tfds
def test_cifar10_has_its_known_sizes_and_mean(cache):
    info, cifar10 = load("cifar10")
    assert info.image_shape == (32, 32, 3)
    assert info.flip
    assert cifar10.train_images.shape == (50_000, 32, 32, 3)
    assert cifar10.test_images.shape == (10_000, 32, 32, 3)
    assert set(np.bincount(cifar10.train_labels)) == {5000}
    assert set(np.bincount(cifar10.test_labels)) == {1000}
    mean = cifar10.train_images.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(mean, [125.307, 122.950, 113.865], atol=1e-3)


@needs_tfds
def test_mnist_is_decoded_once_and_then_read_from_the_cache(cache, monkeypatch):
    info, decoded = load("mnist")
    assert info.image_shape == (28, 28, 1)
    assert not info.flip
    assert decoded.train_images.shape == (60_000, 28, 28, 1)
    assert abs(decoded.train_images.mean() - 33.318) < 1e-3
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(info.builder, "as_data_source", None)
    for ours, again in zip(decoded, datasets.load(info), strict=True):
        np.testing.assert_array_equal(ours, again)


def test_unwritable_cache_does_not_stop_a_run(
    cache, tmp_path, prepare_data_set, random_split, capsys
):
    cache.parent.write_text("a file where the directory should be")
    splits = {"train": random_split(0), "test": random_split(1)}
    prepare_data_set(tmp_path / "my_own" / "1.0.0", splits, num_classes=3)
    _, dataset = load("my_own", data_dir=str(tmp_path))
    np.testing.assert_array_equal(dataset.test_images, splits["test"][0])
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning: " in line]
    assert len(warnings) == 2
    assert all("my_own" in line and "cannot be written" in line for line in warnings)


def store(name, version, shape, num_classes, splits, data_dir, file_format, labels=None):
    """Prepares a data set of random images with tfds; returns the images, by split, and labels."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    images = {split: rng.integers(0, 256, (30, *shape), np.uint8) for split in splits}
    labels = np.arange(30) % num_classes if labels is None else labels
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        data_dir=data_dir,
        file_format=file_format,
        disable_shuffling=True,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=shape),
                "label": tfds.features.ClassLabel(num_classes=num_classes),
            }
        ),
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices({"image": images[split], "label": labels})
            for split in splits
        },
    )
    return images, labels


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "version", "shape", "num_classes", "splits", "file_format", "flip"),
    [
        ("mnist", "3.0.1", (28, 28, 1), 10, ("train", "test"), "tfrecord", False),
        ("fashion_mnist", "3.0.1", (28, 28, 1), 10, ("train", "test"), "array_record", True),
        (
            "svhn_cropped",
            "3.1.0",
            (32, 32, 3),
            10,
            ("train", "test", "extra"),
            "array_record",
            False,
        ),
        ("cifar100", "3.0.2", (32, 32, 3), 100, ("train", "test"), "array_record", True),
        ("my_own", "1.0.0", (9, 7, 3), 4, ("train", "validation"), "array_record", False),
    ],
)
def test_prepared_copy_is_read_by_its_name(
    name, version, shape, num_classes, splits, file_format, flip, cache, tmp_path
):
    """Includes tfrecord, which is tfds' default format and the format of older copies."""
    images, labels = store(name, version, shape, num_classes, splits, tmp_path, file_format)
    info, loaded = load(name, data_dir=str(tmp_path))
    assert (info.num_train, info.num_test, info.num_classes) == (30, 30, num_classes)
    assert (info.image_shape, info.flip) == (shape, flip)
    np.testing.assert_array_equal(loaded.train_images, images["train"])
    np.testing.assert_array_equal(loaded.test_images, images[splits[1]])
    np.testing.assert_array_equal(loaded.train_labels, labels)


def test_data_dir_may_begin_with_a_tilde(
    cache, tmp_path, prepare_data_set, random_split, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    splits = {"train": random_split(0), "test": random_split(1)}
    prepare_data_set(tmp_path / "sets" / "my_own" / "1.0.0", splits, num_classes=3)
    info, dataset = load("my_own", data_dir="~/sets")
    np.testing.assert_array_equal(dataset.train_images, splits["train"][0])
    assert info.builder.data_dir == str(tmp_path / "sets" / "my_own" / "1.0.0")


def test_missing_tensorflow_is_one_sentence_before_any_download(
    cache, tmp_path, prepare_data_set, random_split, monkeypatch
):
    installed = importlib.util.find_spec
    without = {"tensorflow": None}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: without.get(name, name) and installed(name)
    )
    needed = (
        ", and TensorFlow is not installed; run pip install 'loganneal-jax\\[tensorflow\\]', or "
        "set TFDS_DATA_DIR or --config.data.data_dir to a copy in array_record files$"
    )
    with pytest.raises(UserError, match=f"^data set 'mnist' is not prepared in .*{needed}"):
        load("mnist", data_dir=str(tmp_path))

    directory = tmp_path / "my_own" / "1.0.0"
    splits = {"train": random_split(0), "test": random_split(1)}
    prepare_data_set(directory, splits, num_classes=3)
    load("my_own", data_dir=str(tmp_path))
    file = directory / "dataset_info.json"
    file.write_text(file.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError, match=f"^data set 'my_own' in .* not in array_record.*{needed}"):
        load("my_own", data_dir=str(tmp_path))


@pytest.mark.slow
def test_damaged_tfrecord_files_are_refused_or_harmless(cache, tmp_path):
    """TensorFlow reads these files, with exceptions of its own."""
    images, labels = store("old", "1.0.0", (8, 8, 1), 3, ("train", "test"), tmp_path, "tfrecord")
    file = tmp_path / "old" / "1.0.0" / "old-test.tfrecord-00000-of-00001"
    content = file.read_bytes()
    places = np.random.default_rng(0).integers(0, len(content), 10)
    damaged = [content[:place] for place in (0, 12, *places)]
    damaged += [
        content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        for place in places
    ]
    damaged += [content + content[: content.find(b"PNG") + 200], content + content]
    damaged += [None, "directory"]
    for data in damaged:
        if file.is_dir():
            file.rmdir()
        file.unlink(missing_ok=True)
        if data == "directory":
            file.mkdir()
        elif data is not None:
            file.write_bytes(data)
        with pytest.raises(UserError, match=r"split 'test' of data set 'old' cannot be read") as e:
            load("old", data_dir=str(tmp_path))
        assert "\n" not in str(e.value)
    file.rmdir()
    file.write_bytes(content)
    np.testing.assert_array_equal(
        load("old", data_dir=str(tmp_path))[1].test_images, images["test"]
    )
    np.testing.assert_array_equal(load("old", data_dir=str(tmp_path))[1].test_labels, labels)


def test_labels_out_of_range_are_refused(cache, tmp_path, prepare_data_set, random_split):
    images, labels = random_split(0)
    labels[7] = -1  # tfds writes -1 if a label is unknown
    splits = {"train": (images, labels), "test": random_split(1)}
    prepare_data_set(tmp_path / "unlabeled" / "1.0.0", splits, num_classes=3)
    with pytest.raises(UserError, match=r"'unlabeled' has labels from -1 to 2, .* from 0 to 2"):
        load("unlabeled", data_dir=str(tmp_path))
    labels[7] = 2**32  # 0 in 32 bits
    prepare_data_set(tmp_path / "wrapped" / "1.0.0", splits, num_classes=3)
    with pytest.raises(UserError, match=r"'wrapped' has labels from 0 to 4294967296, "):
        load("wrapped", data_dir=str(tmp_path))


def test_missing_training_split_is_refused(tmp_path, prepare_data_set, random_split):
    splits = {"test": random_split(0), "extra": random_split(1)}
    prepare_data_set(tmp_path / "untrained" / "1.0.0", splits, num_classes=3)
    with pytest.raises(UserError, match=r"'untrained' has no examples in a split train; .* extra$"):
        load("untrained", data_dir=str(tmp_path))


def test_validation_examples_stand_in_for_a_missing_test_split(
    cache, tmp_path, prepare_data_set, random_split
):
    images, labels = random_split(0)
    prepare_data_set(tmp_path / "untested" / "1.0.0", {"train": (images, labels)}, num_classes=3)
    info, whole = load("untested", data_dir=str(tmp_path))
    assert (info.num_train, info.num_test) == (12, 0)
    assert (whole.test_images.shape, whole.test_labels.shape) == ((0, 8, 8, 1), (0,))
    held = datasets.hold_out(info, 4)
    assert (held.num_train, held.num_test) == (8, 4)
    dataset = datasets.load(held)
    parts = (dataset.train_images, dataset.test_images)
    assert [len(part) for part in parts] == [8, 4]
    assert sorted(map(bytes, np.concatenate(parts))) == sorted(map(bytes, images))


def test_test_split_is_not_decoded_if_validation_examples_replace_it(
    cache, tmp_path, prepare_data_set, random_split
):
    splits = {"train": random_split(0), "test": random_split(1)}
    prepare_data_set(tmp_path / "my_own" / "1.0.0", splits, num_classes=3)
    info = datasets.describe("my_own", data_dir=str(tmp_path), image_size=None)
    datasets.load(datasets.hold_out(info, 4))
    assert [file.name.rpartition("-")[2] for file in cache.iterdir()] == ["train.arrays"]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (5, 7)])
def test_images_of_any_shape_are_read_and_resized(
    height, width, channels, cache, tmp_path, prepare_data_set, random_split
):
    shape = (height, width, channels)
    splits = {"train": random_split(0, shape=shape), "test": random_split(1, shape=shape)}
    for images, _ in splits.values():
        images[..., 3:] = 255  # Pillow weights the colors of transparent images
    prepare_data_set(tmp_path / "my_own" / "1.0.0", splits, num_classes=3)
    _, whole = load("my_own", data_dir=str(tmp_path))
    np.testing.assert_array_equal(whole.train_images, splits["train"][0])
    info, larger = load("my_own", data_dir=str(tmp_path), image_size=12)
    assert info.image_shape == (12, 12, channels)
    expected = jax.image.resize(
        whole.train_images.astype(np.float32), (12, 12, 12, channels), "linear"
    )
    np.testing.assert_allclose(larger.train_images, expected, atol=1)
