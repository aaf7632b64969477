"""Finds the data set of images that the section `data` of a config describes."""

import os

from ml_collections import ConfigDict

from experiments.data import datasets
from experiments.errors import UserError


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
    data_dir = None if config.name == "digits" else config.data_dir
    dataset = datasets.describe(
        config.name,
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
