"""From a config to everything a run is made of; every error in a config is raised here."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import optax
from ml_collections import ConfigDict

from experiments import optimizers, ranges, step
from experiments.architectures import ATTENTION, BACKBONES, DTYPES, make_model
from experiments.data import augment, datasets, preprocess
from experiments.errors import UserError
from experiments.losses import LOSSES
from experiments.models import Module
from experiments.models.layers import VARIANTS
from experiments.schedules import SCHEDULES, Run, make_schedule

MAX_STEPS = 2**31 - 1  # steps are counted in int32


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
    if "schedule" not in config:
        raise UserError(
            "the config has no section schedule: it is none of a run; configs/base.py has all "
            "fields of one, and configs/sweeps/ are for experiments.sweep"
        )
    _check_ranges(config)
    _check_choices(config)
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
    schedule = make_schedule(config.schedule, Run(steps_per_epoch, num_steps))
    return Experiment(
        dataset=dataset,
        model=make_model(
            config.model, image_shape=dataset.image_shape, num_classes=dataset.num_classes
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
    )
    train_step = partial(
        step.train_step,
        model=experiment.model,
        optimizer=experiment.optimizer,
        loss=partial(LOSSES[config.loss.name], label_smoothing=config.loss.label_smoothing),
        augment=crop_and_flip,
        normalize=normalize,
    )
    eval_step = partial(
        step.eval_step, model=experiment.model, loss=LOSSES[config.loss.name], normalize=normalize
    )
    return train_step, eval_step


CHOICES: dict[str, Any] = {
    "model.name": BACKBONES,
    "model.variant": VARIANTS,
    "model.dtype": DTYPES,
    "model.attention.name": ATTENTION,
    "optimizer.name": optimizers.METHODS,
    "optimizer.decayed": optimizers.DECAYED,
    "schedule.name": SCHEDULES,
    "loss.name": LOSSES,
}


def _check_ranges(config: ConfigDict) -> None:
    ranges.check(config, ranges.CONFIG)
    if config.seed >= 2**32:
        raise UserError(f"seed={config.seed} is out of range; it must be below {2**32}")
    for path in ("optimizer.momentum", "loss.label_smoothing", "model.dropout_rate"):
        value = ranges.field(config, path)
        if value is not None and value >= 1:
            raise UserError(f"{path}={value} is out of range; it must be below 1")
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
    decay = config.optimizer.decay
    if decay not in (None, *optimizers.DECAYS):
        raise UserError(
            f"unknown optimizer.decay={decay!r}; choose one of {', '.join(optimizers.DECAYS)}"
        )
    if config.optimizer.name == "adamw" and decay == "coupled":
        raise UserError("optimizer.decay='coupled' is adam, not adamw: set optimizer.name=adam")


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
