"""What a trained classifier needs besides its weights: the form of its images, and its classes.

A run stores this in its directory, so that its network can be used without the data set.
"""

import json
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from experiments import sealed
from experiments.data import datasets
from experiments.data.preprocess import Fitted

FILE = "inputs.safetensors"
VERSION = 1  # of the file; increment it when it changes


class Inputs(NamedTuple):
    """The images that a classifier takes, and the classes that it tells apart.

    Attributes:
      data: name of the data set.
      num_train: number of training examples.
      image_shape: height, width, and channels of the images that the network takes.
      stored_shape: those of the files before they are resized, or None if they have any size and
        the center is cropped.
      dtype: dtype of the images.
      class_names: names of the classes, in the order of the logits.
      steps: names of the steps of preprocessing.
      fitted: what each step was fitted to.
    """

    data: str
    num_train: int
    image_shape: tuple[int, int, int]
    stored_shape: tuple[int, int, int] | None
    dtype: str
    class_names: tuple[str, ...]
    steps: tuple[str, ...]
    fitted: tuple[Fitted, ...]


def of(info: datasets.DatasetInfo, steps: tuple[str, ...], fitted: tuple[Fitted, ...]) -> Inputs:
    """Returns the inputs of a classifier of a data set.

    Args:
      info: the data set.
      steps: names of the steps of preprocessing.
      fitted: what each step was fitted to.
    """
    return Inputs(
        data=info.name,
        num_train=info.num_train,
        image_shape=info.image_shape,
        stored_shape=None if info.many_sizes else info.stored_shape or info.image_shape,
        dtype=info.dtype,
        class_names=datasets.class_names(info),
        steps=steps,
        fitted=fitted,
    )


def dumps(inputs: Inputs) -> bytes:
    """Returns the content of the file that holds the inputs.

    The arrays are tensors named by step and argument. The metadata has a JSON text with everything
    else, which ends with a hash of itself and of the arrays.

    Args:
      inputs: the inputs.
    """
    arrays = {
        f"{step} {place}": np.ascontiguousarray(array)
        for step, fitted in enumerate(inputs.fitted)
        for place, array in enumerate(fitted)
    }
    description = {
        **inputs._asdict(),
        "fitted": [len(fitted) for fitted in inputs.fitted],
        "arrays": {name: sealed.digest_of_array(array) for name, array in arrays.items()},
        "version": VERSION,
    }
    return safetensors.numpy.save(arrays, {"inputs": sealed.dumps(description)})


def loads(content: bytes) -> Inputs:
    """Returns the inputs that a file holds.

    Args:
      content: the content of the file.

    Raises:
      ValueError: the content is not what `dumps` returned.

    >>> one = Inputs("digits", 9, (8, 8, 1), (8, 8, 1), "uint8", ("a", "b"), (), ())
    >>> loads(dumps(one)) == one
    True
    """
    try:
        arrays = safetensors.numpy.load(content)
        described = sealed.loads(_metadata(content)["inputs"])
    except (safetensors.SafetensorError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("it is not complete") from error
    if described.pop("version", None) != VERSION:
        raise ValueError("another version of the code wrote it")
    hashes = {name: sealed.digest_of_array(array) for name, array in arrays.items()}
    if described.pop("arrays") != hashes:
        raise ValueError("its arrays do not match their sha256")
    fitted = [
        tuple(arrays[f"{step} {place}"] for place in range(number))
        for step, number in enumerate(described.pop("fitted"))
    ]
    lists = {name: tuple(each) for name, each in described.items() if isinstance(each, list)}
    return Inputs(**{**described, **lists}, fitted=tuple(fitted))


def _metadata(content: bytes) -> dict[str, Any]:
    """Returns the metadata of a file, which safetensors reads from files on disk only."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]
