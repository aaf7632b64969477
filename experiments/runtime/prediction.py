"""What a trained model predicts: the text that it draws, or the classes of image files."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from etils import epath

from experiments.build import stored
from experiments.data import pictures
from experiments.errors import UserError
from experiments.runtime import trained, workdir
from experiments.runtime.trained import Trained
from experiments.tasks.task import Sampling

ARRAYS = ".npy"


class Prediction(NamedTuple):
    """The most likely class of an image.

    Attributes:
      name: the path of its file, with the index of the image if the file has several.
      class_name: name of the class.
      probability: probability of the class.
    """

    name: str
    class_name: str
    probability: float


def of_run(directory: epath.Path, options: Sampling, which: str = "newest") -> str:
    """Returns what the state of a run predicts.

    Args:
      directory: directory of a run that is finished or stopped.
      options: how to draw a text.
      which: a checkpoint in `trained.WHICH`.

    Returns:
      The text.

    Raises:
      UserError: the directory has no run or no checkpoint, the run is in progress, or its task
        predicts nothing.
    """
    experiment = stored.experiment(trained.read_config(directory))
    predict = experiment.task.predict
    if predict is None:
        raise UserError(
            f"the task of {directory}, {experiment.config['task']['name']}, predicts nothing; pass "
            "the directory of a classifier of images or of a language model"
        )
    with workdir.locked(directory):
        state = trained.restore(directory, experiment, which)
    return predict(state, options)


def is_classifier(directory: epath.Path) -> bool:
    """Returns whether a run trains a classifier of images.

    Raises:
      UserError: the directory is not that of a run.
    """
    return trained.is_classification(trained.read_config(directory))


def of_files(
    directory: epath.Path, files: Sequence[str], which: str = "newest"
) -> list[Prediction]:
    """Returns the classes of images.

    Files are treated as the test images of the run were: those of the size of the data set are
    resized if `data.image_size` asked for it, and if its images had many sizes, the central square
    of each is taken.

    Args:
      directory: directory of a run of image classification that is finished or stopped.
      files: paths of image files, or of NumPy files with an image [height, width, channels],
        without channels if it is gray, or with several images.
      which: a checkpoint in `trained.WHICH`.

    Returns:
      One prediction for each image.

    Raises:
      UserError: the network cannot be loaded, or a file cannot be read or has images of another
        shape.
    """
    network = trained.load(directory, which)
    found = []
    for file in files:
        images = _read(file, network)
        probabilities = np.asarray(network(images))
        for index, row in enumerate(probabilities):
            label = int(row.argmax())
            name = file if len(images) == 1 else f"{file}[{index}]"
            found.append(Prediction(name, network.class_names[label], float(row[label])))
    return found


def _read(file: str, network: Trained) -> np.ndarray:
    """Returns the images of a file, [number, height, width, channels]."""
    try:
        content = epath.Path(file).read_bytes()
        if file.endswith(ARRAYS):
            with epath.Path(file).open("rb") as opened:
                return _fitting(file, np.load(opened, allow_pickle=False), network)
        return _decoded(file, content, network)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # decoders raise many types
        raise UserError(
            f"{file} cannot be read ({' '.join(str(error).split())}); pass an image file, or a "
            f"{ARRAYS} file with an array"
        ) from error


def _decoded(file: str, content: bytes, network: Trained) -> np.ndarray:
    if network.dtype != "uint8":
        raise UserError(
            f"{file} is an image file with values from 0 to 255, but the network takes "
            f"{network.dtype} images; pass a {ARRAYS} file with an array of that dtype"
        )
    height, _, channels = network.image_shape
    if network.stored_shape is None:
        image = pictures.cropped(content, None, side=height, channels=channels, random_parts=False)
        return image[np.newaxis]
    try:
        image = pictures.of_equal_size(
            content,
            None,
            stored_shape=network.stored_shape,
            image_shape=network.image_shape,
        )
    except pictures.OtherShape as error:
        if error.shape != network.image_shape:
            raise _other_shape(file, error.shape, network) from error
        image = pictures.of_equal_size(
            content, None, stored_shape=network.image_shape, image_shape=network.image_shape
        )
    return image[np.newaxis]


def _fitting(file: str, array: np.ndarray, network: Trained) -> np.ndarray:
    """Returns an array as a batch of images of the network's shape."""
    channels = network.image_shape[-1]
    shapes = [shape for shape in (network.stored_shape, network.image_shape) if shape]
    gray = channels == 1 and array.shape in [shape[:2] for shape in shapes]
    images = array[..., np.newaxis] if gray else array
    images = images[np.newaxis] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[1:] not in shapes:
        raise _other_shape(file, array.shape, network)
    if images.dtype != network.dtype:
        raise UserError(
            f"{file} has {images.dtype} values, but the network takes {network.dtype} images"
            + (" with values from 0 to 255" if network.dtype == "uint8" else "")
        )
    return pictures.resized(images, network.image_shape)


def _other_shape(file: str, shape: tuple[int, ...], network: Trained) -> UserError:
    shapes = dict.fromkeys(shape for shape in (network.stored_shape, network.image_shape) if shape)
    expected = " or ".join("x".join(map(str, each)) for each in shapes)
    return UserError(
        f"{file} is {'x'.join(map(str, shape))}, but the network takes images of {expected} "
        "(height, width, channels); resize or convert it"
    )
