"""Turns a config into a task: its data set, model, loss, and augmentation."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from experiments.build import gan, images, language_model, linear_regression, loading, names
from experiments.build.models import has_batch_norm, make_model, model_label
from experiments.data import augment, chain, datasets, fitting, inputs, preprocess
from experiments.data.records import Stream
from experiments.errors import UserError
from experiments.tasks import classification
from experiments.tasks.losses import LOSSES
from experiments.tasks.task import Task

# jax's name of each `model.matmul_precision`; None leaves jax's own setting.
MATMUL_PRECISIONS = {"default": None, "high": "high", "highest": "highest"}


def make_task(config: ConfigDict, *, axis_name: str | None) -> Task:
    """Builds the task that a config describes, without loading its data.

    Args:
      config: a config that `fields.check` accepted.
      axis_name: the mapped axis along which devices share a batch, if there is one.

    Returns:
      The task. Its matrix products have the precision of `model.matmul_precision`.

    Raises:
      UserError: a name is unknown, or the config does not fit the data set.
    """
    make = names.resolve("task.name", config.task.name, TASKS)
    task = make(config, axis_name)
    precision = names.choose(
        "model.matmul_precision", config.model.matmul_precision, MATMUL_PRECISIONS
    )
    return task._replace(
        train_step=at_precision(task.train_step, precision),
        eval_step=at_precision(task.eval_step, precision),
    )


def at_precision(function: Callable[..., Any], precision: str | None) -> Callable[..., Any]:
    """Sets the precision of a function's float32 matrix products, including its gradients.

    Args:
      function: the function.
      precision: a value in `MATMUL_PRECISIONS`.
    """
    if precision is None:
        return function

    @functools.wraps(function)
    def precisely(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*args, **kwargs)

    return precisely


def _classification(config: ConfigDict, axis_name: str | None) -> Task:
    """Image classification."""
    loss = names.resolve("loss.name", config.loss.name, LOSSES)
    dataset = images.describe(config.data)
    steps = preprocessing(config.data.preprocess)
    chain.check_size(steps, dataset.image_shape)
    # Random parts of images of many sizes are cut out when they are read.
    crops_on_device = config.data.augment and not dataset.many_sizes
    padding = _crop_padding(config.data, dataset.image_shape) if crops_on_device else 0
    choice = loading.choose(config, dataset)
    sync_batch_norm = axis_name is not None and config.parallel.sync_batch_norm
    model = make_model(
        config.model,
        image_shape=dataset.image_shape,
        num_classes=dataset.num_classes,
        axis_name=axis_name if sync_batch_norm else None,
    )
    if sync_batch_norm and not has_batch_norm(model, dataset.image_shape):
        raise UserError(
            f"parallel.sync_batch_norm=True has no effect with model.name={config.model.name!r}, "
            "which has no batch norm; remove it"
        )
    # A step of the user's own may take the regularization, too.
    uses_epsilon = any(name == "zca" or name not in preprocess.STEPS for name in steps)
    zca_epsilon = config.data.zca_epsilon if uses_epsilon else 0.0

    @functools.cache
    def load() -> preprocess.Prepared:
        """Loads and preprocesses the data set at the first call."""
        if choice.is_streamed:
            raise UserError(
                f"{choice.sentence}, and this command keeps its data in memory; set "
                "data.loading='memory'"
            )
        return preprocess.prepare(
            datasets.load(dataset),
            steps,
            zca_epsilon=zca_epsilon,
            cache_key=datasets.key(dataset),
        )

    @functools.cache
    def open_() -> fitting.Streamable:
        """Opens the data set, and fits the preprocessing to it at the first call."""
        return fitting.fit(
            datasets.open_readers(dataset, random_parts=config.data.augment),
            steps,
            zca_epsilon=zca_epsilon,
            cache_key=datasets.key(dataset),
            files=datasets.state(dataset),
            num_workers=choice.num_workers,
            max_damaged=choice.max_damaged,
        )

    def stored_inputs() -> bytes:
        fitted = open_().fitted if choice.is_streamed else load().fitted
        return inputs.dumps(inputs.of(dataset, tuple(steps), fitted))

    stream = None
    if choice.is_streamed:
        fitting.check(steps)
        stream = Stream(lambda: open_().readers, choice.num_workers, choice.max_damaged)
    return classification.make_task(
        data=dataset.name,
        model_name=model_label(config.model),
        num_train=dataset.num_train,
        num_classes=dataset.num_classes,
        load=lambda: load()[:2],
        model=model,
        image_shape=dataset.image_shape,
        loss=functools.partial(loss, label_smoothing=config.loss.label_smoothing),
        eval_loss=loss,
        augment=functools.partial(
            augment.crop_and_flip,
            padding=padding,
            flip=config.data.augment and dataset.flip,
            axis_name=axis_name,
        ),
        accumulate_steps=config.parallel.accumulate_steps,
        axis_name=axis_name,
        stream=stream,
        streamed_normalize=stream and (lambda: open_().normalize),
        inputs=stored_inputs,
        loading=choice.sentence,
    )


def preprocessing(step_names: Sequence[str]) -> dict[str, preprocess.Step]:
    """Returns steps of preprocessing by name, in order.

    Args:
      step_names: the names, as in `data.preprocess`.

    Raises:
      UserError: a name is unknown or not that of a step, or the steps cannot be combined.
    """
    steps = {name: names.resolve("data.preprocess", name, preprocess.STEPS) for name in step_names}
    for name, step in steps.items():
        if not isinstance(step, preprocess.Step):
            raise UserError(
                f"data.preprocess={name!r} is a {type(step).__name__}; it must be an "
                "experiments.data.preprocess.Step"
            )
    chain.check(step_names)
    return steps


def _crop_padding(config: ConfigDict, image_shape: tuple[int, int, int]) -> int:
    height, width, _ = image_shape
    padding: int = config.crop_padding
    if padding >= min(height, width):
        raise UserError(
            f"data.crop_padding={padding} must be less than the side of the images, which are "
            f"{height}x{width}"
        )
    return padding


# From the config and the mapped axis (None under jit) to the task.
TASKS: dict[str, Callable[[ConfigDict, str | None], Task]] = {
    "classification": _classification,
    "gan": gan.make_task,
    "language_model": language_model.make_task,
    "linear_regression": linear_regression.make_task,
}
