"""Turns a config into the task of training a GAN: its data set, networks, and losses."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.build import features, images, loading, names
from experiments.build.models import DTYPES, make_layers, model_label
from experiments.build.optimizers import INNER_SCHEDULE
from experiments.data import datasets
from experiments.errors import UserError
from experiments.models import dcgan, layers
from experiments.models.layers import Layers, ModuleDef
from experiments.tasks import adversarial, gan
from experiments.tasks.task import Task


class DiscriminatorLayers(NamedTuple):
    """The layers that a discriminator is built from, as in `models.layers.Layers`.

    Attributes:
      conv: convolution.
      norm: normalization, or None where there must be none.
    """

    conv: ModuleDef
    norm: ModuleDef | None


# The factory of a generator and a discriminator, called as
# `factory(config, image_shape, of_generator, of_discriminator)` with
#   config: the config of the run; a factory reads only the fields that it uses;
#   image_shape: height, width, and channels of an image;
#   of_generator, of_discriminator: the layers that each should use.
# Generators map noise [batch, latent_size] to images in -1..1, and discriminators map these to
# logits [batch]. Both are called as `module(inputs, train=train)`.
Build = Callable[[ConfigDict, tuple[int, int, int], Layers, DiscriminatorLayers], tuple[Any, Any]]


def make_task(config: ConfigDict, axis_name: str | None) -> Task:
    """A generator of images and a discriminator, trained in turns.

    Args:
      config: a config that `fields.check` accepted.
      axis_name: the mapped axis along which devices share a batch, if there is one.

    Returns:
      The task.

    Raises:
      UserError: a name is unknown, or the config does not fit the data set.
    """
    factory = names.resolve("model.name", config.model.name, GANS)
    loss = names.choose("gan.loss", config.gan.loss, adversarial.LOSSES)
    dataset = images.describe(config.data)
    loading.check_in_memory(dataset)
    if dataset.dtype != "uint8":
        raise UserError(
            f"a GAN needs uint8 images, but data.name={dataset.name!r} returns {dataset.dtype} "
            "images; return values from 0 to 255 as uint8"
        )
    _check(config)
    features.check(dataset)
    sync_batch_norm = axis_name is not None and config.parallel.sync_batch_norm
    dtype = names.choose("model.dtype", config.model.dtype, DTYPES)
    of_generator = make_layers(dtype, axis_name if sync_batch_norm else None)
    # A penalty of each image's own gradient excludes norms over the batch, and spectral
    # normalization takes their place.
    plain = loss.gradient_penalty or config.gan.spectral_norm
    # The project's convolution defines its first derivative, but the penalty needs the second.
    native = partial(layers.Conv, dtype=dtype)
    of_discriminator = DiscriminatorLayers(
        conv=native if loss.gradient_penalty else of_generator.conv,
        norm=None if plain else of_generator.norm,
    )
    generator, discriminator = factory(config, dataset.image_shape, of_generator, of_discriminator)

    @functools.cache
    def load() -> tuple[np.ndarray, np.ndarray]:
        """Loads the data set at the first call."""
        loaded = datasets.load(dataset)
        return loaded.train_images, loaded.test_images

    return gan.make_task(
        data=dataset.name,
        model_name=model_label(config.model),
        num_train=dataset.num_train,
        load=load,
        features=functools.cache(lambda: features.extractor(dataset)),
        generator=generator,
        discriminator=discriminator,
        image_shape=dataset.image_shape,
        latent_size=config.gan.latent_size,
        loss=loss,
        gradient_penalty=config.gan.gradient_penalty if loss.gradient_penalty else 0.0,
        discriminator_steps=config.gan.discriminator_steps,
        rates=gan.Rates(config.gan.generator_rate, config.gan.discriminator_rate),
        axis_name=axis_name,
    )


def _check(config: ConfigDict) -> None:
    steps, pieces = config.gan.discriminator_steps, config.parallel.accumulate_steps
    if config.batch_size % steps:
        raise UserError(
            f"batch_size={config.batch_size} cannot be divided into gan.discriminator_steps="
            f"{steps} equal parts, one for each step of the discriminator"
        )
    rates = (config.gan.generator_rate, config.gan.discriminator_rate)
    if config.optimizer.name in INNER_SCHEDULE and (steps, *rates) != (1, 1, 1):
        raise UserError(
            f"optimizer.name={config.optimizer.name!r} follows the schedule by itself, so "
            f"gan.discriminator_steps={steps}, gan.generator_rate={rates[0]}, and "
            f"gan.discriminator_rate={rates[1]} cannot be used with it; set all three to 1"
        )
    if pieces != 1:
        raise UserError(
            f"parallel.accumulate_steps={pieces} has no effect with task.name='gan', whose two "
            "networks take turns within a step; set it to 1"
        )


def _dcgan(
    config: ConfigDict,
    image_shape: tuple[int, int, int],
    of_generator: Layers,
    of_discriminator: DiscriminatorLayers,
) -> tuple[Any, Any]:
    """DCGAN with a generator and a discriminator of two convolutions each."""
    names.check("gan.upsampling", config.gan.upsampling, dcgan.UPSAMPLING)
    height, width, _ = image_shape
    multiple = dcgan.SIDE_MULTIPLE
    if height % multiple or width % multiple:
        raise UserError(
            f"model.name='dcgan' generates images whose sides are multiples of {multiple}, but "
            f"those of {config.data.name} are {height}x{width}; set data.image_size to a multiple "
            f"of {multiple}"
        )
    width_multiplier = config.model.width_multiplier
    generator = dcgan.Generator(
        image_shape,
        width_multiplier=width_multiplier,
        upsampling=config.gan.upsampling,
        **of_generator._asdict(),
    )
    discriminator = dcgan.Discriminator(
        width_multiplier=width_multiplier,
        spectral_norm=config.gan.spectral_norm,
        **of_discriminator._asdict(),
    )
    return generator, discriminator


GANS: dict[str, Build] = {"dcgan": _dcgan}
