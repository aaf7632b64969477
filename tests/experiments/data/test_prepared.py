"""Damages and replaces the files of prepared tfds data sets, and plants code in them."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.data import datasets, prepared
from experiments.errors import UserError

SPLITS = ("train", "test", "validation")


@pytest.fixture(scope="module")
def intact(tmp_path_factory, prepare_data_set):
    """A prepared data set with two files per split, and its splits."""
    root = tmp_path_factory.mktemp("intact")
    rng = np.random.default_rng(0)
    splits = {
        split: (rng.integers(0, 256, (12, 8, 8, 1), np.uint8), np.arange(12) % 3)
        for split in SPLITS
    }
    prepare_data_set(root / "my_own" / "1.0.0", splits, num_classes=3, num_shards=2)
    return root, splits


@pytest.fixture
def copied(intact, tmp_path, cache_home):
    """A copy of it that a test may damage: its directory, and a function that loads it."""
    root, splits = intact
    shutil.copytree(root, tmp_path / "data")
    return tmp_path / "data" / "my_own" / "1.0.0", splits


def load(directory):
    data_dir = str(directory.parent.parent)
    return datasets.load(datasets.describe("my_own", data_dir=data_dir, image_size=None))


def check_arrays(dataset, splits):
    images, labels = splits["train"]
    np.testing.assert_array_equal(dataset.train_images, images)
    np.testing.assert_array_equal(dataset.train_labels, labels)
    images, labels = splits["test"]
    np.testing.assert_array_equal(dataset.test_images, images)
    np.testing.assert_array_equal(dataset.test_labels, labels)


def check_refused(directory, message):
    """Checks that loading fails in one sentence that names the data set and its directory."""
    with pytest.raises(UserError, match=message) as error:
        load(directory)
    sentence = str(error.value)
    assert "data set 'my_own'" in sentence
    assert str(directory.parent) in sentence
    assert sentence.endswith("delete that directory and prepare the data set again")
    assert "\n" not in sentence


FILES = (
    "dataset_info.json",
    "features.json",
    "my_own-train.array_record-00000-of-00002",
    "my_own-test.array_record-00001-of-00002",
)


def loaded_or_refused(directory):
    """Returns the data set, or None if it is refused in one sentence."""
    try:
        return load(directory)
    except UserError as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert "my_own" in sentence
    return None


def check_same_or_refused(directory, splits):
    dataset = loaded_or_refused(directory)
    if dataset is not None:
        check_arrays(dataset, splits)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"7", b"null", b'"a"', b"[{}]", b"\xff\x00", b"{" * 5000]
)
def test_other_content_is_refused(name, content, copied):
    directory, _ = copied
    (directory / name).write_bytes(content)
    assert loaded_or_refused(directory) is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "directory", "half", "short by one byte"])
def test_missing_and_truncated_files_are_refused(name, damage, copied):
    directory, splits = copied
    content = (directory / name).read_bytes()
    (directory / name).unlink()
    if damage == "directory":
        (directory / name).mkdir()
    elif damage == "half":
        (directory / name).write_bytes(content[: len(content) // 2])
    elif damage == "short by one byte":
        (directory / name).write_bytes(content[:-1])
        check_same_or_refused(directory, splits)  # the last byte may be a space
        return
    check_refused(directory, "cannot be read from")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_damage_is_refused_or_gives_the_same_arrays(copied, data):
    directory, splits = copied
    file = directory / data.draw(st.sampled_from(FILES))
    content = file.read_bytes()
    # Most bytes of array_record files are zeros between blocks.
    used = np.flatnonzero(np.frombuffer(content, np.uint8))
    start = int(data.draw(st.sampled_from(used)))
    damage = data.draw(st.sampled_from(["flip", "cut", "insert", "overwrite"]))
    junk = data.draw(st.binary(min_size=1, max_size=40))
    damaged = {
        "flip": content[:start]
        + bytes([content[start] ^ 1 << data.draw(st.integers(0, 7))])
        + content[start + 1 :],
        "cut": content[:start],
        "insert": content[:start] + junk + content[start:],
        "overwrite": content[:start] + junk + content[start + len(junk) :],
    }[damage]
    file.write_bytes(damaged)
    try:
        dataset = loaded_or_refused(directory)
    finally:
        file.write_bytes(content)
    if dataset is None:
        return
    if file.name == "features.json":
        # It has no checksum. If its 1 channel becomes more, tfds repeats gray images.
        train, test = (images[..., :1] for images in (dataset.train_images, dataset.test_images))
        dataset = dataset._replace(train_images=train, test_images=test)
    check_arrays(dataset, splits)


@pytest.mark.slow
@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_of_dataset_info_is_refused_or_harmless(bit, copied):
    directory, splits = copied
    file = directory / "dataset_info.json"
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
        )
        check_same_or_refused(directory, splits)


@pytest.mark.parametrize("damage", ["missing", "empty", "directory"])
def test_damaged_description_of_a_known_data_set_is_refused_without_a_network(
    damage, cache_home, tmp_path, prepare_data_set, random_split, monkeypatch
):
    """tfds would use the directory as it is, even after a download was announced."""
    monkeypatch.setattr(prepared, "NETWORK_URL", None)
    directory = tmp_path / "mnist" / "3.0.1"
    splits = {split: random_split(0, shape=(28, 28, 1)) for split in ("train", "test")}
    prepare_data_set(directory, splits, num_classes=10)

    def load_mnist():
        return datasets.load(datasets.describe("mnist", data_dir=str(tmp_path), image_size=None))

    check_arrays(load_mnist(), splits)
    file = directory / "dataset_info.json"
    file.unlink()
    if damage == "empty":
        file.touch()
    elif damage == "directory":
        file.mkdir()
    message = (
        r"^data set 'mnist' cannot be read from .*/mnist.*\(.*\); .* prepare the data set again$"
    )
    with pytest.raises(UserError, match=message):
        load_mnist()


def test_damaged_example_is_named_by_its_index(copied):
    directory, _ = copied
    file = directory / "my_own-train.array_record-00001-of-00002"
    content = bytearray(file.read_bytes())
    first = content.find(b"IDAT")  # the pixels of the first image in this file
    content[first + 8] ^= 1
    file.write_bytes(content)
    check_refused(directory, "^example 6 in split 'train' of data set 'my_own' cannot be read from")


def test_image_of_another_shape_is_refused_instead_of_broadcast(copied):
    directory, _ = copied
    features = directory / "features.json"
    features.write_text(features.read_text().replace('"8"', '"16"'))
    check_refused(directory, r"^example 0 in .*an image of shape \(8, 8, 1\), not \(16, 16, 1\)")


def test_unlisted_files_are_refused(copied):
    """Without its name in dataset_info.json, the split validation would replace the split test."""
    directory, _ = copied
    info = directory / "dataset_info.json"
    info.write_text(info.read_text().replace('"test"', '"tests"'))
    check_refused(directory, r"dataset_info\.json does not list my_own-test\.array_record-00000")


@pytest.mark.parametrize("promised", ["5", "7"])
def test_file_with_another_number_of_examples_is_refused(promised, copied):
    directory, _ = copied
    info = directory / "dataset_info.json"
    info.write_text(info.read_text().replace('"6"', f'"{promised}"', 1))
    check_refused(directory, f"-00000-of-00002 has 6 examples, but .* promised {promised}")


def other(splits, count):
    """Returns other images of the same number of classes."""
    rng = np.random.default_rng(1)
    return {
        split: (rng.integers(0, 256, (count, 8, 8, 1), np.uint8), np.arange(count) % 3)
        for split in splits
    }


@pytest.mark.parametrize("count", [12, 24, 6])
def test_data_set_that_is_rebuilt_in_place_is_read_again(count, copied, prepare_data_set, capsys):
    directory, splits = copied
    for _ in range(2):
        check_arrays(load(directory), splits)
    cached = set(os.listdir(os.environ["XDG_CACHE_HOME"] + "/loganneal_jax/datasets"))
    shutil.rmtree(directory)
    splits = other(splits, count)
    prepare_data_set(directory, splits, num_classes=3, num_shards=2)
    for _ in range(2):
        check_arrays(load(directory), splits)
    # The old files are replaced.
    assert set(os.listdir(os.environ["XDG_CACHE_HOME"] + "/loganneal_jax/datasets")) == cached
    assert "warning" not in capsys.readouterr().err


def test_data_sets_at_the_same_relative_path_are_cached_apart(
    cache_home, tmp_path, prepare_data_set, random_split, monkeypatch
):
    for seed in (0, 1):
        splits = {"train": random_split(seed), "test": random_split(seed + 2)}
        root = tmp_path / str(seed)
        prepare_data_set(root / "data" / "my_own" / "1.0.0", splits, num_classes=3)
        monkeypatch.chdir(root)
        check_arrays(load(Path("data/my_own/1.0.0")), splits)
    assert len(list((cache_home / "loganneal_jax" / "datasets").iterdir())) == 4


@pytest.mark.parametrize("count", [24, 6])
def test_data_set_that_changes_size_after_its_description_is_refused(
    count, copied, prepare_data_set
):
    """Its steps and batches are computed from the earlier number of examples."""
    directory, splits = copied
    data_dir = str(directory.parent.parent)
    load(directory)  # the earlier one is cached
    info = datasets.describe("my_own", data_dir=data_dir, image_size=None)
    shutil.rmtree(directory)
    prepare_data_set(directory, other(splits, count), num_classes=3, num_shards=2)
    with pytest.raises(UserError, match=f"has {count // 2} examples, but .* promised 6"):
        datasets.load(info)


def test_data_set_that_changes_while_it_is_read_is_refused(copied, monkeypatch):
    directory, splits = copied
    decode = prepared._decode

    def decode_and_change(*args):
        arrays = decode(*args)
        (directory / "features.json").touch()
        return arrays

    monkeypatch.setattr(prepared, "_decode", decode_and_change)
    with pytest.raises(UserError, match=r"data set 'my_own' in .* changed while they were read"):
        load(directory)
    monkeypatch.undo()
    check_arrays(load(directory), splits)


def test_unreadable_file_is_refused(copied, monkeypatch):
    """Stands in for a disk with errors."""
    directory, _ = copied

    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(prepared, "check_shards", fail)
    check_refused(directory, "^split 'train' of data set .*Input/output error")


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A module in the current directory that writes a file when it is imported."""
    (tmp_path / "planted.py").write_text("open('imported', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "imported"
    sys.modules.pop("planted", None)


def features_proto(name):
    image = {"shape": {"dimensions": ["8", "8", "1"]}, "dtype": "uint8"}
    return {"pythonClassName": name, "image": image}


@pytest.mark.parametrize(
    "features",
    [
        {"pythonClassName": "planted.Features", "featuresDict": {"features": {}}},
        {"python_class_name": "planted.Features", "featuresDict": {"features": {}}},
        {"type": "planted.Features", "content": {}},
        {
            "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
            "featuresDict": {"features": {"image": features_proto("planted.Image")}},
        },
        {
            "type": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
            "content": {"image": {"type": "planted.Image", "content": {}}},
        },
    ],
    ids=["top", "other spelling", "legacy", "nested", "nested legacy"],
)
@pytest.mark.parametrize("name", ["my_own", "my_own:1.0.0"])
def test_code_that_features_json_names_is_not_imported(features, name, copied, planted):
    directory, _ = copied
    (directory / "features.json").write_text(json.dumps(features))
    with pytest.raises(
        UserError, match=r"^features\.json of data set 'my_own.*' names the class 'planted\.\w+', "
    ) as error:
        datasets.describe(name, data_dir=str(directory.parent.parent), image_size=None)
    assert "\n" not in str(error.value)
    assert not planted.exists()


def test_code_for_a_version_of_a_known_data_set_is_not_imported(copied, planted):
    """tfds reads features.json for these too if the name has a version."""
    directory, _ = copied
    mnist = directory.parent.parent / "mnist" / "3.0.1"
    shutil.copytree(directory, mnist)
    info = json.loads((mnist / "dataset_info.json").read_text())
    (mnist / "dataset_info.json").write_text(json.dumps(info | {"name": "mnist"}))
    features = {"pythonClassName": "planted.Features", "featuresDict": {"features": {}}}
    (mnist / "features.json").write_text(json.dumps(features))
    with pytest.raises(UserError, match=r"'mnist:3.0.1' names the class 'planted.Features'"):
        datasets.describe("mnist:3.0.1", data_dir=str(mnist.parent.parent), image_size=None)
    assert not planted.exists()


@pytest.mark.parametrize("field", ["moduleName", "configName", "description", "citation"])
def test_code_that_dataset_info_names_is_not_imported(field, copied, planted):
    directory, splits = copied
    file = directory / "dataset_info.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: "planted"}))
    check_arrays(load(directory), splits)
    assert not planted.exists()


def test_a_class_that_the_user_imported_is_accepted(copied):
    """A feature of the user's own works once its module is imported."""
    import tensorflow_datasets as tfds

    class Own(tfds.features.Image):
        pass

    directory, splits = copied
    features = directory / "features.json"
    before = "tensorflow_datasets.core.features.image_feature.Image"
    features.write_text(features.read_text().replace(before, f"{__name__}.Own"))
    check_arrays(load(directory), splits)
