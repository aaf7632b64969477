"""Writes small data sets as tensorflow-datasets does, without TensorFlow, in milliseconds."""

import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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

    shape = shape or next(iter(splits.values()))[0].shape[1:]
    features = {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(num_classes=num_classes),
    }
    records = {
        split: (len(labels), _encoded_images(images, labels, options))
        for split, (images, labels) in splits.items()
    }
    _write(directory, features, records, num_shards)


def _encoded_images(images: Any, labels: Any, options: Mapping[str, Any]) -> Iterator[bytes]:
    for index, label in enumerate(labels):
        yield encoded(images[index], label, **options)


def write_texts(directory: Path, splits: Mapping[str, Sequence[bytes]], num_shards: int) -> None:
    """Writes splits, name -> documents, to a directory NAME/VERSION."""
    import tensorflow_datasets as tfds

    records = {split: (len(texts), map(_encoded_text, texts)) for split, texts in splits.items()}
    _write(directory, {"text": tfds.features.Text()}, records, num_shards)


def _encoded_text(text: bytes) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    example.features.feature["text"].bytes_list.value.append(text)
    record: bytes = example.SerializeToString()
    return record


def _write(
    directory: Path,
    features: Mapping[str, Any],
    splits: Mapping[str, tuple[int, Iterable[bytes]]],
    num_shards: int,
) -> None:
    """Writes splits, name -> (number of records, records), and what tfds wants to know of them."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    directory.mkdir(parents=True)
    name, version = directory.parts[-2:]
    tfds.features.FeaturesDict(features).save_config(str(directory))
    infos = []
    for split, (count, records) in splits.items():
        remaining = iter(records)
        lengths = [len(part) for part in np.array_split(np.arange(count), num_shards)]
        num_bytes = 0
        for number, length in enumerate(lengths):
            file = f"{name}-{split}.array_record-{number:05}-of-{num_shards:05}"
            writer = ArrayRecordWriter(str(directory / file), "group_size:1")
            for record in itertools.islice(remaining, length):
                writer.write(record)
                num_bytes += len(record)
            writer.close()
        infos.append(
            {
                "name": split,
                "shardLengths": list(map(str, lengths)),
                "numBytes": str(num_bytes),
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
        )
    info = {"name": name, "version": version, "fileFormat": "array_record", "splits": infos}
    (directory / "dataset_info.json").write_text(json.dumps(info, indent=2))
