"""From a config to everything a run is made of; what its data set cannot do is refused here."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from experiments import fields, optimizers, parallel, step
from experiments.architectures import make_model
from experiments.data import augment, datasets, preprocess
from experiments.errors import UserError
from experiments.losses import LOSSES
from experiments.models import Module
from experiments.schedules import Run, make_schedule

# Of `model.matmul_precision`; None leaves what jax is set to.
MATMUL_PRECISIONS = {"default": None, "high": "high", "highest": "highest"}
MAX_STEPS = 10**8  # of a run, whose learning rates are tabulated before it
MAX_COUNT = 2**31 - 1  # steps are counted in int32
MAX_BYTES = 2**34  # of all images of a data set, which are in memory at once


class Experiment(NamedTuple):
    """What a run is made of, before its data are loaded."""

    dataset: datasets.DatasetInfo
    model: Module
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    steps_per_epoch: int
    num_steps: int


def build(config: ConfigDict) -> Experiment:
    """Checks a config as a whole and builds what it describes, without compiling anything.

    Args:
      config: a config with the fields of `configs/base.py`.

    Returns:
      The experiment.

    Raises:
      UserError: a field, or a combination of fields, cannot be used.
    """
    fields.check(config)
    dataset = datasets.describe(
        config.data.name, data_dir=config.data.data_dir, image_size=config.data.image_size
    )
    preprocess.check(config.data.preprocess)
    preprocess.check_size(config.data.preprocess, dataset.image_shape)
    if config.data.validation_examples:
        if config.data.validation_examples >= dataset.num_train:
            raise UserError(
                f"data.validation_examples={config.data.validation_examples} leaves nothing to "
                f"train on: {dataset.name} has {dataset.num_train} training images"
            )
        dataset = datasets.hold_out(dataset, config.data.validation_examples)
    _check_against_dataset(config, dataset)
    steps_per_epoch = dataset.num_train // config.batch_size
    num_steps = round(config.epochs * steps_per_epoch)
    if not 1 <= num_steps <= MAX_STEPS:
        raise UserError(
            f"epochs={config.epochs} at {steps_per_epoch} steps an epoch is {num_steps} steps; "
            f"a run has from 1 to {MAX_STEPS}"
        )
    grace_steps = round(config.guard.grace_epochs * steps_per_epoch)
    if grace_steps > MAX_COUNT:
        raise UserError(
            f"guard.grace_epochs={config.guard.grace_epochs} at {steps_per_epoch} steps an epoch "
            f"is {grace_steps} steps; it may be at most {MAX_COUNT}"
        )
    schedule = make_schedule(config.schedule, Run(steps_per_epoch, num_steps))
    return Experiment(
        dataset=dataset,
        model=make_model(
            config.model,
            image_shape=dataset.image_shape,
            num_classes=dataset.num_classes,
            axis_name=_axis_name(config) if config.parallel.sync_batch_norm else None,
        ),
        optimizer=optimizers.make_optimizer(
            config.optimizer, schedule, weight_decay=config.optimizer.weight_decay
        ),
        schedule=schedule,
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
    )


def load(config: ConfigDict, experiment: Experiment) -> tuple[datasets.Dataset, step.Normalize]:
    """Loads the data set of an experiment and preprocesses it.

    Args:
      config: the config the experiment was built from.
      experiment: what `build` returned.

    Returns:
      The data set as it goes onto the device, and what a step does to its images there.
    """
    return preprocess.prepare(
        datasets.load(experiment.dataset),
        config.data.preprocess,
        zca_epsilon=config.data.zca_epsilon,
        cache_key=datasets.key(experiment.dataset),
    )


def make_steps(
    config: ConfigDict, experiment: Experiment, normalize: step.Normalize
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The training and the evaluation step of an experiment, ready to be compiled.

    Args:
      config: the config the experiment was built from.
      experiment: what `build` returned.
      normalize: what a step does to the images that `load` returned.

    Returns:
      `step.train_step` and `step.eval_step`, waiting for state and batch alone.
    """
    crop_and_flip = partial(
        augment.crop_and_flip,
        padding=config.data.crop_padding if config.data.augment else 0,
        flip=config.data.augment and experiment.dataset.flip,
        axis_name=_axis_name(config),
    )
    precision = MATMUL_PRECISIONS[config.model.matmul_precision]
    train_step = partial(
        _at_precision(step.train_step, precision),
        model=experiment.model,
        optimizer=experiment.optimizer,
        loss=partial(LOSSES[config.loss.name], label_smoothing=config.loss.label_smoothing),
        augment=crop_and_flip,
        normalize=normalize,
        accumulate_steps=config.parallel.accumulate_steps,
        axis_name=_axis_name(config),
    )
    eval_step = partial(
        _at_precision(step.eval_step, precision),
        model=experiment.model,
        loss=LOSSES[config.loss.name],
        normalize=normalize,
        axis_name=_axis_name(config),
    )
    return train_step, eval_step


def _at_precision(function: Callable[..., Any], precision: str | None) -> Callable[..., Any]:
    """The function, whose products of float32 are of this precision, those of gradients too."""
    if precision is None:
        return function

    @wraps(function)
    def at_precision(*args: Any, **kwargs: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return function(*args, **kwargs)

    return at_precision


def _axis_name(config: ConfigDict) -> str | None:
    """The mapped axis along which a step's devices know each other by name."""
    return parallel.AXIS if config.parallel.strategy == "pmap" else None


def _check_against_dataset(config: ConfigDict, dataset: datasets.DatasetInfo) -> None:
    if config.batch_size > dataset.num_train:
        raise UserError(
            f"batch_size={config.batch_size} is larger than the data set: "
            f"{dataset.name} has {dataset.num_train} training images"
        )
    height, width, channels = dataset.image_shape
    num_bytes = (dataset.num_train + dataset.num_test) * height * width * channels
    if num_bytes > MAX_BYTES:
        raise UserError(
            f"{dataset.name} in images of {height}x{width} pixels has {num_bytes / 1e9:.0f} GB, "
            f"which are in memory at once; at most {MAX_BYTES / 1e9:.0f} GB can be used, so set a "
            "smaller data.image_size"
        )
    if config.data.augment and config.data.crop_padding >= min(height, width):
        raise UserError(
            f"data.crop_padding={config.data.crop_padding} must be less than the image's side: "
            f"images are {height}x{width}"
        )
