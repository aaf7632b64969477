"""Builds the network that the section `model` of a config describes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments.build import names
from experiments.build.effects import unrecorded
from experiments.build.ranges import shown
from experiments.errors import UserError
from experiments.models import densenet, googlenet, layers, resnet, small, vgg, xception
from experiments.models.attention import AttentionBefore, AttentionBeside, PatchTransformer
from experiments.models.cpu.convolution import conv_general_dilated
from experiments.models.layers import Classifier, Layers

# The factory of a network: an entry of MODELS, or your own, named by `package.module:attribute`.
# It is called as `factory(config, num_classes, layers)` with
#   config: the section `model` of the config; a factory reads only the fields that it uses;
#   num_classes: number of logits, for auxiliary classifiers; `make_model` adds the head;
#   layers: the convolution, the norm, and the dtype that the network should use.
# It returns a Linen module, called as `module(images, train=train)`, from float images
# [batch, height, width, channels] to features [batch, features]. The module may have an attribute
# `min_image_side`, the smallest side in pixels that it accepts (1 if absent), and may sow logits in
# the collection "auxiliary_logits", which add to the training loss.
Build = Callable[[ConfigDict, int, Layers], nn.Module]

DTYPES: dict[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
ATTENTION: dict[str, Callable[..., nn.Module] | None] = {
    "none": None,
    "beside": AttentionBeside,
    "before": AttentionBefore,
}


def make_model(
    config: ConfigDict,
    *,
    image_shape: tuple[int, int, int],
    num_classes: int,
    axis_name: str | None = None,
) -> nn.Module:
    """Builds a classifier.

    Args:
      config: the section `model`, with the fields of `configs/base.py`.
      image_shape: height, width, and channels of an image.
      num_classes: number of logits.
      axis_name: mapped axis over which batch norms share their statistics, or None.

    Returns:
      A module from images to logits.

    Raises:
      UserError: a name is unknown, the images are too small for the network, or the patches of the
        attention block do not tile them.
    """
    factory = names.resolve("model.name", config.name, MODELS)
    attention = names.choose("model.attention.name", config.attention.name, ATTENTION)
    names.check("model.variant", unrecorded(config).variant, layers.VARIANTS)
    dtype = names.choose("model.dtype", config.dtype, DTYPES)
    injected = make_layers(dtype, axis_name)
    network = factory(config, num_classes, injected)
    _check_image_side(config, network, image_shape)
    if attention is not None:
        network = attention(network, _transformer(config.attention, injected, image_shape))
    return Classifier(network, num_classes)


def make_layers(dtype: Any, axis_name: str | None = None) -> Layers:
    """Returns the layers of a network.

    Args:
      dtype: dtype of the computation; parameters are float32.
      axis_name: mapped axis over which batch norms share their statistics, or None.

    Returns:
      The layers; convolutions use this project's kernels on a CPU.
    """
    halves = dtype == jnp.bfloat16 and axis_name is None
    norm = layers.HalfBatchNorm if halves else layers.BatchNorm
    return Layers(
        conv=partial(layers.Conv, dtype=dtype, conv_general_dilated=conv_general_dilated),
        norm=partial(norm, dtype=dtype, axis_name=axis_name),
        dtype=dtype,
    )


def has_batch_norm(model: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    """Returns whether a model keeps statistics of batches.

    Args:
      model: the model.
      image_shape: height, width, and channels of its images.
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    init = partial(model.init, train=False)
    return "batch_stats" in jax.eval_shape(init, jax.random.key(0), images)


def model_label(config: ConfigDict) -> str:
    """Returns the name of a network in tables, with its width unless that is 1.

    >>> model_label(ConfigDict({"name": "lenet4", "width_multiplier": 1.0}))
    'lenet4'
    >>> model_label(ConfigDict({"name": "lenet4", "width_multiplier": 0.25}))
    'lenet4 (width 0.25)'
    """
    fields = unrecorded(config)
    if fields.width_multiplier == 1:
        return str(fields.name)
    return f"{fields.name} (width {fields.width_multiplier:g})"


def _check_image_side(
    config: ConfigDict, network: nn.Module, image_shape: tuple[int, int, int]
) -> None:
    height, width, _ = image_shape
    side = getattr(network, "min_image_side", 1)
    if min(height, width) < side:
        raise UserError(
            f"model.name={shown(config.name)} with model.variant={shown(config.variant)} needs "
            f"images of at least {side}x{side} pixels, but they are {height}x{width}; set "
            "data.image_size or choose another model"
        )


def _transformer(
    config: ConfigDict, layers: Layers, image_shape: tuple[int, int, int]
) -> PatchTransformer:
    height, width, _ = image_shape
    if height % config.patch_size or width % config.patch_size:
        raise UserError(
            f"model.attention.patch_size={config.patch_size} must divide the image, which is "
            f"{height}x{width} pixels"
        )
    return PatchTransformer(
        patch_size=config.patch_size,
        width=config.width,
        num_heads=config.num_heads,
        mlp_width=config.mlp_width,
        conv=layers.conv,
    )


def _published(config: ConfigDict, layers: Layers) -> dict[str, Any]:
    """Returns the fields shared by all networks that may have batch norms."""
    return {
        "width_multiplier": config.width_multiplier,
        "variant": config.variant,
        "conv": layers.conv,
        "norm": layers.norm,
    }


def _dropout(config: ConfigDict) -> dict[str, Any]:
    """Returns the dropout rate, or nothing to keep the network's own."""
    return {} if config.dropout_rate is None else {"dropout_rate": config.dropout_rate}


def _nn(
    network: Callable[..., nn.Module], config: ConfigDict, num_classes: int, layers: Layers
) -> nn.Module:
    return network(width_multiplier=config.width_multiplier, dtype=layers.dtype)


def _lenet(config: ConfigDict, num_classes: int, layers: Layers) -> nn.Module:
    """LeNet-5 in Caffe's form, with ReLU and max pooling (LeCun et al. 1998)."""
    return small.LeNet(width_multiplier=config.width_multiplier, conv=layers.conv)


def _vgg(
    network: Callable[..., nn.Module], config: ConfigDict, num_classes: int, layers: Layers
) -> nn.Module:
    return network(batch_norm=config.batch_norm, **_published(config, layers), **_dropout(config))


def _resnet(
    network: Callable[..., nn.Module], config: ConfigDict, num_classes: int, layers: Layers
) -> nn.Module:
    return network(**_published(config, layers))


def _with_dropout(
    network: Callable[..., nn.Module], config: ConfigDict, num_classes: int, layers: Layers
) -> nn.Module:
    return network(**_published(config, layers), **_dropout(config))


def _googlenet(config: ConfigDict, num_classes: int, layers: Layers) -> nn.Module:
    """GoogLeNet with batch norm, and two auxiliary classifiers (Szegedy et al. 2015)."""
    return googlenet.GoogLeNet(
        auxiliary_classes=num_classes if config.auxiliary_heads else None,
        **_published(config, layers),
        **_dropout(config),
    )


MODELS: dict[str, Build] = {
    "nn2": partial(_nn, small.NN2),
    "nn3": partial(_nn, small.NN3),
    "lenet4": _lenet,
    "vgg9": partial(_vgg, vgg.VGG9),
    "vgg16": partial(_vgg, vgg.VGG16),
    "vgg19": partial(_vgg, vgg.VGG19),
    "resnet10": partial(_resnet, resnet.ResNet10),
    "resnet18": partial(_resnet, resnet.ResNet18),
    "resnet34": partial(_resnet, resnet.ResNet34),
    "resnet50": partial(_resnet, resnet.ResNet50),
    "densenet100": partial(_with_dropout, densenet.DenseNet100),
    "densenet121": partial(_with_dropout, densenet.DenseNet121),
    "googlenet": _googlenet,
    "xception": partial(_with_dropout, xception.Xception),
}
