"""Prepares small data sets of tensorflow-datasets without TensorFlow, in milliseconds."""

import io
import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    """An empty cache directory of the test's own."""
    home = tmp_path / "cache_home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


def encoded(image, label):
    from tensorflow_datasets.proto import tf_example_pb2

    png = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(png, "png")
    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(png.getvalue())
    example.features.feature["label"].int64_list.value.append(int(label))
    return example.SerializeToString()


@pytest.fixture(scope="session")
def prepare_data_set():
    """Returns a function that writes the files of a data set as tfds does, in array_record."""

    def prepare(directory, splits, num_classes, num_shards=1):
        """Writes splits, name -> (images, labels), to a directory NAME/VERSION."""
        import tensorflow_datasets as tfds
        from array_record.python.array_record_module import ArrayRecordWriter

        directory.mkdir(parents=True)
        name, version = directory.parts[-2:]
        shape = next(iter(splits.values()))[0].shape[1:]
        tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=shape),
                "label": tfds.features.ClassLabel(num_classes=num_classes),
            }
        ).save_config(str(directory))
        infos = []
        for split, (images, labels) in splits.items():
            shards = np.array_split(np.arange(len(labels)), num_shards)
            for number, indices in enumerate(shards):
                file = f"{name}-{split}.array_record-{number:05}-of-{num_shards:05}"
                writer = ArrayRecordWriter(str(directory / file), "group_size:1")
                for index in indices:
                    writer.write(encoded(images[index], labels[index]))
                writer.close()
            infos.append(
                {
                    "name": split,
                    "shardLengths": [str(len(indices)) for indices in shards],
                    "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                }
            )
        info = {"name": name, "version": version, "fileFormat": "array_record", "splits": infos}
        (directory / "dataset_info.json").write_text(json.dumps(info, indent=2))

    return prepare


@pytest.fixture
def random_split():
    """Returns a function that draws (images, labels) from a seed."""

    def draw(seed, count=12, shape=(8, 8, 1), num_classes=3):
        images = np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
        return images, np.arange(count) % num_classes

    return draw
