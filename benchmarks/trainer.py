"""The training program of `experiments.train`, on images that are given."""

import math
from typing import Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from configs import base
from experiments import build, parallel, step
from experiments.architectures import make_model
from experiments.data import datasets, preprocess
from experiments.optimizers import make_optimizer


class Trainer(NamedTuple):
    """What a run computes with.

    Attributes:
      order: compiled; state -> the order of its epoch.
      train: compiled; (state, split, order, number of steps) -> (state, metrics, alarm); it donates
        the state.
      evaluate: compiled; (state, split) -> metrics.
      state: before the first step.
      splits: the training and the test split, on the devices.
    """

    order: Any
    train: Any
    evaluate: Any
    state: step.TrainState
    splits: tuple[parallel.Split, parallel.Split]


def config_of(model: str, *, batch_size: int, augment: bool) -> ConfigDict:
    """The config of a run without attention: SGD with momentum 0.9 and weight decay 5e-4."""
    config = base.get_config()
    config.batch_size = batch_size
    config.data.augment = augment
    config.model.name = model
    config.model.attention.name = "none"
    return config


def make(
    config: ConfigDict, dataset: datasets.Dataset, schedule: optax.Schedule | float = 0.01
) -> Trainer:
    """What a run of a config computes with, on a data set of ten classes.

    Args:
      config: the run's config; its fields of data set and schedule are not used.
      dataset: uint8 images; mirrored ones keep their class.
      schedule: from steps to learning rates, or one rate.

    Returns:
      Its programs, state and splits.
    """
    num_train, *image_shape = dataset.train_images.shape
    if not callable(schedule):
        schedule = optax.constant_schedule(schedule)
    steps_per_epoch = num_train // config.batch_size
    experiment = build.Experiment(
        dataset=datasets.DatasetInfo(
            "given", num_train, len(dataset.test_images), tuple(image_shape), 10, True, None
        ),
        model=make_model(config.model, image_shape=tuple(image_shape), num_classes=10),
        optimizer=make_optimizer(
            config.optimizer, schedule, weight_decay=config.optimizer.weight_decay
        ),
        schedule=schedule,
        steps_per_epoch=steps_per_epoch,
        num_steps=math.ceil(config.epochs * steps_per_epoch),
    )
    dataset, normalize = preprocess.prepare(dataset, ["standardize"], zca_epsilon=0.1, cache_key="")
    strategy = parallel.make_strategy(config.parallel, jax.devices())
    train_step, eval_step = build.make_steps(config, experiment, normalize)
    train = parallel.training(
        train_step,
        batch_size=config.batch_size,
        steps_per_epoch=steps_per_epoch,
        share=strategy.share,
    )
    order = parallel.ordering(num_examples=num_train, steps_per_epoch=steps_per_epoch)
    evaluate = parallel.evaluation(
        eval_step, batch_size=config.eval_batch_size, share=strategy.share
    )

    def init() -> step.TrainState:
        return step.init_state(
            jax.random.key(config.seed),
            model=experiment.model,
            optimizer=experiment.optimizer,
            image_shape=experiment.dataset.image_shape,
        )

    return Trainer(
        order=strategy.compile(order, donate=False),
        train=strategy.compile(train, donate=True),
        evaluate=strategy.compile(evaluate, donate=False),
        state=jax.jit(init, out_shardings=strategy.sharding)(),
        splits=parallel.to_device(dataset, strategy.sharding),
    )
