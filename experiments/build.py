"""From a config to everything a run is made of; every error in a config is raised here."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from experiments import ranges, step
from experiments.data import augment, datasets, preprocess
from experiments.errors import UserError
from experiments.models import Module
from experiments.models.attention import AttentionBeside, PatchTransformer
from experiments.models.layers import VARIANTS, Classifier
from experiments.models.resnet import RESNETS
from experiments.schedules import SCHEDULES, Run, make_schedule

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
ATTENTION = ("none", "beside")
LOSSES: dict[str, step.Loss] = {
    "softmax_cross_entropy": optax.softmax_cross_entropy_with_integer_labels,
}

MAX_STEPS = 2**31 - 1  # steps are counted in int32


class Experiment(NamedTuple):
    """What a run is made of, before its data are loaded."""

    dataset: datasets.DatasetInfo
    model: Module
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule
    loss: step.Loss
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
    _check_ranges(config)
    _check_choices(config)
    dataset = datasets.describe(
        config.data.name, data_dir=config.data.data_dir, image_size=config.data.image_size
    )
    _check_against_dataset(config, dataset)
    steps_per_epoch = dataset.num_train // config.batch_size
    num_steps = round(config.epochs * steps_per_epoch)
    if not 1 <= num_steps <= MAX_STEPS:
        raise UserError(
            f"epochs={config.epochs} at {steps_per_epoch} steps an epoch is {num_steps} steps; "
            f"a run has from 1 to {MAX_STEPS}"
        )
    schedule = make_schedule(config.schedule, Run(steps_per_epoch, num_steps))
    return Experiment(
        dataset=dataset,
        model=make_model(config.model, dataset.num_classes),
        optimizer=OPTIMIZERS[config.optimizer.name](config.optimizer, schedule),
        schedule=schedule,
        loss=LOSSES[config.loss.name],
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
    )


def make_steps(
    config: ConfigDict, experiment: Experiment, dataset: datasets.Dataset
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The training and the evaluation step of an experiment, ready to be compiled.

    Args:
      config: the config the experiment was built from.
      experiment: what `build` returned.
      dataset: the loaded data set, to whose training split the normalisation is fitted.

    Returns:
      `step.train_step` and `step.eval_step`, waiting for state and batch alone.
    """
    mean, std = preprocess.channel_statistics(dataset.train_images)
    normalize = partial(preprocess.standardize, mean=mean, std=std)
    crop_and_flip = partial(
        augment.crop_and_flip,
        padding=config.data.crop_padding if config.data.augment else 0,
        flip=config.data.augment and experiment.dataset.flip,
    )
    train_step = partial(
        step.train_step,
        model=experiment.model,
        optimizer=experiment.optimizer,
        loss=experiment.loss,
        augment=crop_and_flip,
        normalize=normalize,
    )
    eval_step = partial(
        step.eval_step, model=experiment.model, loss=experiment.loss, normalize=normalize
    )
    return train_step, eval_step


def make_model(config: ConfigDict, num_classes: int) -> Module:
    """The classifier that the section `model` describes, for this many classes."""
    dtype = DTYPES[config.dtype]
    backbone: Module = RESNETS[config.name](
        width_multiplier=config.width_multiplier, variant=config.variant, dtype=dtype
    )
    if config.attention.name == "beside":
        transformer = PatchTransformer(
            patch_size=config.attention.patch_size,
            width=config.attention.width,
            num_heads=config.attention.num_heads,
            mlp_width=config.attention.mlp_width,
            dtype=dtype,
        )
        backbone = AttentionBeside(backbone, transformer)
    return Classifier(backbone, num_classes)


def _sgd(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.sgd(schedule, momentum=config.momentum, nesterov=config.nesterov),
    )


def _adam(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(config.weight_decay), optax.adam(schedule))


def _rmsprop(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay),
        optax.rmsprop(schedule, momentum=config.momentum),
    )


OPTIMIZERS: dict[str, Callable[[ConfigDict, optax.Schedule], optax.GradientTransformation]] = {
    "adam": _adam,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
}

CHOICES: dict[str, Any] = {
    "data.name": datasets.DATASETS,
    "model.name": RESNETS,
    "model.variant": VARIANTS,
    "model.dtype": DTYPES,
    "model.attention.name": ATTENTION,
    "optimizer.name": OPTIMIZERS,
    "schedule.name": SCHEDULES,
    "loss.name": LOSSES,
}


def _check_ranges(config: ConfigDict) -> None:
    ranges.check(config, ranges.CONFIG)
    if config.seed >= 2**32:
        raise UserError(f"seed={config.seed} is out of range; it must be below {2**32}")
    if config.optimizer.momentum >= 1:
        raise UserError(
            f"optimizer.momentum={config.optimizer.momentum} is out of range; it must be below 1"
        )
    if config.schedule.warmup_epochs > config.epochs:
        raise UserError(
            f"schedule.warmup_epochs={config.schedule.warmup_epochs} is longer than the run, "
            f"epochs={config.epochs}"
        )


def _check_choices(config: ConfigDict) -> None:
    for path, choices in CHOICES.items():
        value = ranges.field(config, path)
        if value not in choices:
            raise UserError(f"unknown {path}={value!r}; choose one of {', '.join(choices)}")
    attention = config.model.attention
    if attention.name != "none" and attention.width % attention.num_heads:
        raise UserError(
            f"model.attention.num_heads={attention.num_heads} does not divide "
            f"model.attention.width={attention.width}"
        )


def _check_against_dataset(config: ConfigDict, dataset: datasets.DatasetInfo) -> None:
    if config.batch_size > dataset.num_train:
        raise UserError(
            f"batch_size={config.batch_size} is larger than the data set: "
            f"{dataset.name} has {dataset.num_train} training images"
        )
    height, width, _ = dataset.image_shape
    if config.data.augment and config.data.crop_padding >= min(height, width):
        raise UserError(
            f"data.crop_padding={config.data.crop_padding} must be less than the image's side: "
            f"images are {height}x{width}"
        )
    patch = config.model.attention.patch_size
    if config.model.attention.name != "none" and (height % patch or width % patch):
        raise UserError(
            f"model.attention.patch_size={patch} does not divide the image: images are "
            f"{height}x{width}"
        )
