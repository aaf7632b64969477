"""What a trained classifier needs besides its weights: the form of its images, and its classes.

A run stores this in its directory, so that its network can be used without the data set.
"""

from typing import NamedTuple

from experiments.data import datasets, tensors
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

    Args:
      inputs: the inputs.
    """
    arrays = {
        f"{step} {place}": array
        for step, fitted in enumerate(inputs.fitted)
        for place, array in enumerate(fitted)
    }
    lengths = [len(fitted) for fitted in inputs.fitted]
    return tensors.dumps(arrays, {**inputs._asdict(), "fitted": lengths, "version": VERSION})


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
    arrays, described = tensors.loads(content)
    if described.pop("version", None) != VERSION:
        raise ValueError("another version of the code wrote it")
    fitted = [
        tuple(arrays[f"{step} {place}"] for place in range(number))
        for step, number in enumerate(described.pop("fitted"))
    ]
    lists = {name: tuple(each) for name, each in described.items() if isinstance(each, list)}
    return Inputs(**{**described, **lists}, fitted=tuple(fitted))
