"""Finds the data set of images that the section `data` of a config describes."""

import functools
import os
import re
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from experiments.build import names
from experiments.data import datasets, own
from experiments.errors import UserError

# package.module:function; mnist:3.0.1 is a data set of tfds with its version.
OWN = r"(?!folder:)[A-Za-z_][\w.]*:[A-Za-z_]\w*"


def describe(config: ConfigDict) -> datasets.DatasetInfo:
    """Describes a data set, and holds out the validation examples that the config asks for.

    Args:
      config: the section `data`, with the fields of `configs/base.py`.

    Returns:
      The data set, which is not loaded.

    Raises:
      UserError: the data set cannot be used, or would have no examples to train on or
        to evaluate.
    """
    name: str = config.name
    if re.fullmatch(OWN, name):
        arrays = _arrays(name, names.resolve("data.name", name, datasets.DATASETS))
        dataset = datasets.describe_arrays(name, arrays, config.image_size)
    else:
        has_no_files = name == "digits" or name.startswith(datasets.FOLDER)
        data_dir = None if has_no_files else config.data_dir
        dataset = datasets.describe(
            name,
            data_dir=data_dir and os.path.expanduser(data_dir),
            image_size=config.image_size,
        )
    num_validation = config.validation_examples
    if num_validation:
        if num_validation >= dataset.num_train:
            raise UserError(
                f"data.validation_examples={num_validation} leaves no training examples: "
                f"{dataset.name} has {dataset.num_train} training images"
            )
        dataset = datasets.hold_out(dataset, num_validation)
    elif not dataset.num_test:
        raise UserError(
            f"data set {dataset.name!r} has no split test or validation; set "
            "data.validation_examples to the number of training examples to evaluate instead"
        )
    return dataset


@functools.lru_cache(maxsize=1)
def _arrays(name: str, load: Callable[[], Any]) -> own.Arrays:
    """Calls a function that returns arrays, once for all trials of a sweep."""
    return own.call(name, load)
