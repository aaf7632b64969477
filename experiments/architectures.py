"""From the section `model` of a config to a classifier."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments.errors import UserError
from experiments.models import Module
from experiments.models.attention import AttentionBefore, AttentionBeside, PatchTransformer
from experiments.models.densenet import DENSENETS
from experiments.models.googlenet import GoogLeNet
from experiments.models.layers import Classifier
from experiments.models.resnet import RESNETS
from experiments.models.small import SMALL
from experiments.models.vgg import VGGS
from experiments.models.xception import XCEPTIONS

# From the section of the config, the number of classes and `axis_name`.
Build = Callable[[ConfigDict, int, str | None], Module]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
ATTENTION = {"none": None, "beside": AttentionBeside, "before": AttentionBefore}


def make_model(
    config: ConfigDict,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    axis_name: str | None = None,
) -> Module:
    """The classifier that the section `model` of a config describes.

    Args:
      config: the section, with the fields of `configs/base.py`.
      image_shape: height, width and channels of an image.
      num_classes: number of logits.
      axis_name: the mapped axis over which batch norms take their statistics, besides the batch.

    Returns:
      A module from images to logits.

    Raises:
      UserError: the images are too small for the network, or not whole patches of its attention.
    """
    backbone: Any = BACKBONES[config.name](config, num_classes, axis_name)
    height, width, _ = image_shape
    if min(height, width) < backbone.min_image_side:
        raise UserError(
            f"model.name={config.name!r} in its {config.variant} variant takes images of at least "
            f"{backbone.min_image_side}x{backbone.min_image_side} pixels, and these are "
            f"{height}x{width}; set data.image_size or choose another model"
        )
    attention = ATTENTION[config.attention.name]
    if attention is not None:
        if height % config.attention.patch_size or width % config.attention.patch_size:
            raise UserError(
                f"model.attention.patch_size={config.attention.patch_size} does not divide the "
                f"image: images are {height}x{width}"
            )
        transformer = PatchTransformer(
            patch_size=config.attention.patch_size,
            width=config.attention.width,
            num_heads=config.attention.num_heads,
            mlp_width=config.attention.mlp_width,
            dtype=DTYPES[config.dtype],
        )
        backbone = attention(backbone, transformer)
    return Classifier(backbone, num_classes)


def _published(config: ConfigDict, axis_name: str | None) -> dict[str, Any]:
    """The fields that every network has that may have batch norms."""
    return {
        "axis_name": axis_name,
        "width_multiplier": config.width_multiplier,
        "variant": config.variant,
        "dtype": DTYPES[config.dtype],
    }


def _dropout(config: ConfigDict) -> dict[str, Any]:
    """The dropout rate, where it is not the network's own."""
    return {} if config.dropout_rate is None else {"dropout_rate": config.dropout_rate}


def _small(name: str) -> Build:
    """A network that is the same for images of any size."""
    return lambda config, num_classes, axis_name: SMALL[name](
        width_multiplier=config.width_multiplier, dtype=DTYPES[config.dtype]
    )


def _vgg(name: str) -> Build:
    return lambda config, num_classes, axis_name: VGGS[name](
        batch_norm=config.batch_norm, **_published(config, axis_name), **_dropout(config)
    )


def _resnet(name: str) -> Build:
    return lambda config, num_classes, axis_name: RESNETS[name](**_published(config, axis_name))


def _densenet(name: str) -> Build:
    return lambda config, num_classes, axis_name: DENSENETS[name](
        **_published(config, axis_name), **_dropout(config)
    )


def _googlenet(config: ConfigDict, num_classes: int, axis_name: str | None) -> Module:
    return GoogLeNet(
        auxiliary_classes=num_classes if config.auxiliary_heads else None,
        **_published(config, axis_name),
        **_dropout(config),
    )


def _xception(name: str) -> Build:
    return lambda config, num_classes, axis_name: XCEPTIONS[name](
        **_published(config, axis_name), **_dropout(config)
    )


BACKBONES: dict[str, Build] = {
    **{name: _small(name) for name in SMALL},
    **{name: _vgg(name) for name in VGGS},
    **{name: _resnet(name) for name in RESNETS},
    **{name: _densenet(name) for name in DENSENETS},
    "googlenet": _googlenet,
    **{name: _xception(name) for name in XCEPTIONS},
}
