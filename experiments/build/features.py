"""The classifier whose features measure how alike two sets of images are, one for each data set.

`python -m experiments.features --data=mnist` trained the one of MNIST, whose weights are stored in
this folder. Those of other data sets are trained at their first use, and cached.
"""

import functools
import hashlib
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict, unflatten_dict
from tqdm import tqdm

from experiments.build.models import make_layers
from experiments.data import cache, datasets, source
from experiments.errors import UserError
from experiments.models import features as networks
from experiments.models.layers import Classifier
from experiments.program import assemble, parallel
from experiments.program.state import key_data
from experiments.program.steps import Batches
from experiments.tasks import classification
from experiments.tasks.gan import scaled_images

BATCH_SIZE = 128
EVAL_BATCH_SIZE = 500
MIN_EPOCHS = 4
MIN_STEPS = 300  # of a small data set
PEAK = 2e-3  # learning rate of Adam
SEED = 0

Weights = dict[str, np.ndarray]  # float16 arrays by path, such as "backbone/conv1/kernel"


class Stored(NamedTuple):
    """Weights in this folder.

    Attributes:
      file: name of the file.
      image_shape: height, width, and channels of the images that they are for.
      sha256: hash of the file.
    """

    file: str
    image_shape: tuple[int, int, int]
    sha256: str


def extractor(dataset: datasets.DatasetInfo) -> Callable[[jax.Array], jax.Array]:
    """Returns the function from images to the features of a data set's classifier.

    Args:
      dataset: the data set; its held-out examples count as training examples.

    Returns:
      A function from float images in -1..1 [batch, height, width, channels] to float32 features
      [batch, 64].

    Raises:
      UserError: the stored weights are missing or damaged, or no classifier can be trained.
    """
    weights = _stored(dataset)
    if weights is None:
        everything = dataset.num_train + dataset.num_validation
        weights = _cached(dataset._replace(num_train=everything, num_validation=0))
    params = unflatten_dict(
        {path: array.astype(np.float32) for path, array in weights.items()}, sep="/"
    )
    network = _network(dataset).backbone

    def features(images: jax.Array) -> jax.Array:
        result: Any = network.apply({"params": params["backbone"]}, images, train=False)
        return result

    return features


def check(dataset: datasets.DatasetInfo) -> None:
    """Refuses a data set whose classifier cannot be used, before anything is loaded.

    Args:
      dataset: the data set.

    Raises:
      UserError: the stored weights are missing or damaged, or no classifier can be trained.
    """
    _stored(dataset)
    if dataset.num_classes < 2:
        raise UserError(
            f"data set {dataset.name!r} has a single class, so no classifier can be trained whose "
            "features measure the Frechet distance; choose a data set with at least two classes"
        )
    side = networks.MIN_IMAGE_SIDE
    if min(dataset.image_shape[:2]) < side:
        raise UserError(
            f"images of {dataset.image_shape[0]}x{dataset.image_shape[1]} pixels are too small for "
            f"the classifier of features, which needs {side}x{side}; set a larger data.image_size"
        )


def train(info: datasets.DatasetInfo, dataset: datasets.Dataset) -> tuple[Weights, float]:
    """Trains the classifier of a data set, on one device.

    Args:
      info: the data set.
      dataset: its images, uint8, and labels.

    Returns:
      The weights, and their accuracy on the test images, NaN if there are none.
    """
    task = classification.make_task(
        data=info.name,
        model_name="features",
        num_train=len(dataset.train_labels),
        num_classes=info.num_classes,
        load=lambda: (dataset, scaled_images),
        model=_network(info),
        image_shape=info.image_shape,
        loss=optax.softmax_cross_entropy_with_integer_labels,
        eval_loss=optax.softmax_cross_entropy_with_integer_labels,
        augment=lambda key, images: images,
    )
    batches = Batches(task.num_train, min(BATCH_SIZE, task.num_train), EVAL_BATCH_SIZE)
    per_epoch = batches.steps_per_epoch
    epochs = max(MIN_EPOCHS, math.ceil(MIN_STEPS / per_epoch))
    optimizer = optax.adam(optax.cosine_decay_schedule(PEAK, epochs * per_epoch))
    strategy = parallel.make_strategy("jit", jax.local_devices()[:1])
    programs = assemble.compiled(task, optimizer, batches, strategy)
    data = task.load()
    split = parallel.to_devices(data.train, strategy.replicated)
    state = programs.init(parallel.replicate(key_data(SEED), strategy.replicated))
    steps = parallel.count(per_epoch, strategy.replicated)
    name = f"training the classifier of {info.name} (once)"
    for _ in tqdm(range(epochs), name, unit=" epochs", disable=None):
        # optax's schedule multiplies an integer by a float.
        with jax.numpy_dtype_promotion("standard"):
            state, _, _ = programs.train(state, split, programs.order(state), steps)
    weights = {
        path: np.asarray(array, np.float16)
        for path, array in flatten_dict(jax.device_get(state.params), sep="/").items()
    }
    if not len(dataset.test_labels):
        return weights, math.nan
    test = parallel.to_devices(data.test, strategy.replicated)
    metrics = jax.device_get(programs.evaluate(state, test))
    return weights, float(metrics.compute()["accuracy"])


def encode(weights: Weights) -> bytes:
    """Returns weights as the file that this folder stores."""
    file = io.BytesIO()
    np.savez(file, **weights)  # type: ignore[arg-type]
    return file.getvalue()


def _stored(dataset: datasets.DatasetInfo) -> Weights | None:
    """Returns the weights in this folder, or None if it has none of the data set."""
    stored = STORED.get(dataset.name.partition(":")[0])
    if stored is None or stored.image_shape != dataset.image_shape:
        return None
    file = Path(__file__).parent / stored.file
    remedy = (
        f"restore it with git checkout, or train it with python -m experiments.features "
        f"--data={dataset.name}"
    )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"the classifier of {dataset.name}, {file}, cannot be read ({error.strerror}); {remedy}"
        ) from error
    if hashlib.sha256(content).hexdigest() != stored.sha256:
        raise UserError(
            f"the classifier of {dataset.name}, {file}, is damaged: its SHA-256 is not "
            f"{stored.sha256}; {remedy}"
        )
    with np.load(io.BytesIO(content)) as arrays:
        return dict(arrays)


def _cached(info: datasets.DatasetInfo) -> Weights:
    """Returns weights from the user's cache, or trains them."""
    dataset = datasets.load(info)
    whole = hashlib.sha256()
    for array in (dataset.train_images, dataset.train_labels):
        whole.update(np.ascontiguousarray(array).data)
    whole.update((source.code_of([train, networks.FeatureNetwork]) or "").encode())
    images = jax.ShapeDtypeStruct((1, *info.image_shape), jnp.float32)
    init = functools.partial(_network(info).init, train=False)
    shapes = flatten_dict(jax.eval_shape(init, jax.random.key(0), images)["params"], sep="/")
    return cache.stored(
        f"features/{datasets.key(info)}.arrays",
        whole.hexdigest(),
        {path: cache.Layout(leaf.shape, "float16") for path, leaf in shapes.items()},
        lambda: train(info, dataset)[0],
    )


def _network(info: datasets.DatasetInfo) -> Classifier:
    layers = make_layers(jnp.float32)
    return Classifier(networks.FeatureNetwork(conv=layers.conv), info.num_classes)


STORED: dict[str, Stored] = {
    "mnist": Stored(
        "features_mnist.npz",
        (28, 28, 1),
        "6cf538851a56383247f2aff8d42d947438b4958ef1b55755588742d1e15ef5f2",
    ),
}
