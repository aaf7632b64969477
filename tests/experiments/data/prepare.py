"""Writes small data sets as tensorflow-datasets does, without TensorFlow, in milliseconds."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: np.ndarray, label: int, **options: Any) -> bytes:
    """Returns a record: a `tf.train.Example` with an image file, PNG by default, and its label."""
    from tensorflow_datasets.proto import tf_example_pb2

    file = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.save(file, **{"format": "png", **options})
    example = tf_example_pb2.Example()
    example.features.feature["image"].bytes_list.value.append(file.getvalue())
    example.features.feature["label"].int64_list.value.append(int(label))
    record: bytes = example.SerializeToString()
    return record


def write_data_set(
    directory: Path,
    splits: Mapping[str, tuple[Any, Any]],
    num_classes: int,
    num_shards: int = 1,
    shape: tuple[int | None, ...] | None = None,
    **options: Any,
) -> None:
    """Writes splits, name -> (images, labels), to a directory NAME/VERSION.

    `shape` is that of the feature; by default that of the images, which then have equal sizes. The
    options are those of the image files.
    """
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    directory.mkdir(parents=True)
    name, version = directory.parts[-2:]
    shape = shape or next(iter(splits.values()))[0].shape[1:]
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
                writer.write(encoded(images[index], labels[index], **options))
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
