"""Finds the array_record files of a prepared data set, whose examples can be read at random."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from experiments.data import prepared
from experiments.data.records import Shard
from experiments.errors import UserError


def find(name: str, builder: Any, split: str) -> list[Shard]:
    """Returns the files of a split, for reading its examples at random without decoding all.

    Args:
      name: name of the data set.
      builder: its tfds builder.
      split: name of the split.

    Raises:
      UserError: the files are not array_record files, or one of them is missing or damaged.
    """
    if not is_random_access(builder):
        raise UserError(
            f"data.loading='stream' needs array_record files, and data set {name!r} in "
            f"{builder.data_dir} has {builder.info.file_format.value} files; prepare it again with "
            "file_format='array_record'"
        )
    instructions = builder.info.splits[split].file_instructions
    try:
        prepared.check_shards(builder.info.splits[split])
    except Exception as error:
        what = f"split {split!r} of data set {name!r}"
        raise prepared.unreadable(what, Path(builder.data_dir), error) from error
    return [
        Shard(os.fspath(each.filename), each.skip, each.take, each.examples_in_shard)
        for each in instructions
    ]


def is_random_access(builder: Any) -> bool:
    """Returns whether the files of a prepared data set can be read at random."""
    return bool(builder.info.file_format.value == "array_record")


def state(builder: Any) -> str:
    """Returns a hash of the names, sizes, and times of all files, which changes if they do."""
    files = json.dumps(prepared.files(Path(builder.data_dir)))
    return hashlib.sha256(files.encode()).hexdigest()
