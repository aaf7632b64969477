"""Building blocks shared by all networks: the default layers and the classifier's head.

Convolution and normalization are injected: a network with convolutions has a field `conv`, and one
that normalizes has a field `norm`. Both are partials of Linen modules. They determine the dtype of
the computation, the implementation of convolution, and the devices that share batch statistics.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

ModuleDef = Callable[..., Any]  # a partial of a Linen module

Conv: ModuleDef = partial(
    nn.Conv,
    use_bias=False,
    # Fan-out initialization (He et al. 2015, arXiv:1502.01852), as in the reference ResNets.
    kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
)
BatchNorm: ModuleDef = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)

VARIANTS = ("cifar", "imagenet")  # a stem for images of about 32x32, or for 224x224


class Layers(NamedTuple):
    """The layers that a network is built from.

    Attributes:
      conv: convolution, called as `conv(features, kernel_size, strides, padding=...)`.
      norm: normalization, called as `norm(use_running_average=..., name=...)`.
      dtype: dtype of the computation, for layers other than these two; parameters are float32.
    """

    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm
    dtype: Any = jnp.float32


def scaled(channels: int, multiplier: float) -> int:
    """Returns a published number of channels times a width multiplier, at least 1.

    >>> scaled(64, 0.25), scaled(64, 0.001)
    (16, 1)
    """
    return max(1, round(channels * multiplier))


class Classifier(nn.Module):
    """A linear layer on the features of a backbone.

    Attributes:
      backbone: module from images to features, called as `backbone(images, train=train)`.
      num_classes: number of logits.
    """

    backbone: nn.Module
    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, h, w, channels] to float32 logits [batch, num_classes]."""
        features = self.backbone(images, train=train)
        return nn.Dense(self.num_classes, name="head")(features.astype(jnp.float32))
