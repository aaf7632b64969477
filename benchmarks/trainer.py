"""The programs of `experiments.train` on a given data set."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from configs import base
from experiments.build.models import make_model, model_label
from experiments.build.optimizers import optimizer_maker
from experiments.data import augment, preprocess
from experiments.data.datasets import Dataset
from experiments.program import assemble, parallel
from experiments.program.state import TrainState
from experiments.program.steps import Batches, Examples
from experiments.runtime import ahead
from experiments.tasks import classification
from experiments.tasks.losses import LOSSES
from experiments.tasks.task import Task

NUM_CLASSES = 10


class Trainer(NamedTuple):
    """A run, ready to train.

    Attributes:
      task: what is learned.
      optimizer: the optax chain.
      batches: the division of the training split into batches.
      order: state -> order of its epoch; compiled.
      train: (state, split, order, number of steps, an int) -> (state, metrics, alarm); compiled. It
        donates the state.
      evaluate: (state, split) -> metrics; compiled.
      state: the state before the first step.
      splits: the training and the test split, on the devices.
    """

    task: Task
    optimizer: optax.GradientTransformation
    batches: Batches
    order: Any
    train: Any
    evaluate: Any
    state: TrainState
    splits: tuple[Examples, Examples]


def config_of(model: str, *, batch_size: int, augment: bool) -> ConfigDict:
    """Returns a config without attention: SGD with momentum 0.9 and weight decay 5e-4.

    Args:
      model: name of the network.
      batch_size: images per step.
      augment: whether to crop and flip images at random.

    Returns:
      The config.
    """
    config = base.get_config()
    config.batch_size = batch_size
    config.data.augment = augment
    config.model.name = model
    config.model.attention.name = "none"
    return config


def make(config: ConfigDict, dataset: Dataset, schedule: optax.Schedule | float = 0.01) -> Trainer:
    """Makes the programs and the initial state of a run on a given data set.

    Args:
      config: config of the run; its data set and its schedule are ignored.
      dataset: images of ten classes, which flips do not change.
      schedule: from steps to learning rates, or a constant learning rate.

    Returns:
      The programs, the state, and the splits.
    """
    task = _make_task(config, dataset)
    schedule = schedule if callable(schedule) else optax.constant_schedule(schedule)
    optimizer = optimizer_maker(config.optimizer)(schedule, config.optimizer.weight_decay)
    batches = Batches(task.num_train, config.batch_size, config.eval_batch_size)
    strategy = parallel.make_strategy(
        "jit", jax.devices(), bfloat16=config.model.dtype == "bfloat16"
    )
    programs = assemble.compiled(task, optimizer, batches, strategy)
    data = task.load()
    train, test = (
        parallel.to_devices(split, strategy.replicated) for split in (data.train, data.test)
    )
    ahead.compile_training(programs, train, strategy.replicated)()

    def train_steps(state: TrainState, split: Examples, order: jax.Array, num_steps: int) -> Any:
        # As a run passes it. A Python integer would be another program.
        return programs.train(state, split, order, parallel.count(num_steps, strategy.replicated))

    return Trainer(
        task=task,
        optimizer=optimizer,
        batches=batches,
        order=programs.order,
        train=train_steps,
        evaluate=programs.evaluate,
        state=programs.init(np.asarray(jax.random.key_data(jax.random.key(config.seed)))),
        splits=(train, test),
    )


def _make_task(config: ConfigDict, dataset: Dataset) -> Task:
    steps = {name: preprocess.STEPS[name] for name in config.data.preprocess}
    prepared = preprocess.prepare(
        dataset, steps, zca_epsilon=config.data.zca_epsilon, cache_key="benchmarks"
    )
    num_train, height, width, channels = dataset.train_images.shape
    image_shape = (height, width, channels)
    loss = LOSSES[config.loss.name]
    return classification.make_task(
        data="given",
        model_name=model_label(config.model),
        num_train=num_train,
        num_classes=NUM_CLASSES,
        load=lambda: prepared[:2],
        model=make_model(config.model, image_shape=image_shape, num_classes=NUM_CLASSES),
        image_shape=image_shape,
        loss=loss,
        eval_loss=loss,
        augment=partial(
            augment.crop_and_flip,
            padding=config.data.crop_padding if config.data.augment else 0,
            flip=config.data.augment,
        ),
    )
