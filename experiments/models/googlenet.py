"""GoogLeNet, the first Inception network (Szegedy et al. 2015, arXiv:1409.4842), with batch norm.

A batch norm follows every convolution (Ioffe and Szegedy 2015, arXiv:1502.03167). The largest
kernel of a block is 5x5, as in table 1; torchvision uses 3x3 there.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.layers import BatchNorm, Conv, ModuleDef, scaled

EPSILON = 1e-3  # of every batch norm, as in torchvision


class Filters(NamedTuple):
    """Filters of an Inception block: a row of table 1, with the names of its columns."""

    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    project: int


# The blocks of table 1. A 3x3 max pool of stride 2 precedes 4a and 5a.
BLOCKS = {
    "3a": Filters(64, 96, 128, 16, 32, 32),
    "3b": Filters(128, 128, 192, 32, 96, 64),
    "4a": Filters(192, 96, 208, 16, 48, 64),
    "4b": Filters(160, 112, 224, 24, 64, 64),
    "4c": Filters(128, 128, 256, 24, 64, 64),
    "4d": Filters(112, 144, 288, 32, 64, 64),
    "4e": Filters(256, 160, 320, 32, 128, 128),
    "5a": Filters(256, 160, 320, 32, 128, 128),
    "5b": Filters(384, 192, 384, 48, 128, 128),
}
AUXILIARY = ("4a", "4d")  # blocks whose output feeds an auxiliary classifier (section 5)


class ConvNorm(nn.Module):
    """A convolution padded to keep the resolution, a batch norm, and a ReLU.

    Attributes:
      filters: number of output channels.
      kernel_size: side of the square kernel.
      conv: convolution.
      norm: normalization, in training or evaluation mode.
      strides: stride in both directions.
    """

    filters: int
    kernel_size: int
    conv: ModuleDef
    norm: ModuleDef
    strides: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, ceil(h / strides), ceil(w / strides), filters]."""
        side = self.kernel_size
        x = self.conv(self.filters, (side, side), self.strides, side // 2, name="conv")(x)
        return nn.relu(self.norm(epsilon=EPSILON, name="norm")(x))


class Inception(nn.Module):
    """1x1, 3x3, and 5x5 convolutions and a max pool in parallel (figure 2b).

    Attributes:
      filters: number of filters of each convolution.
      conv: convolution.
      norm: normalization, in training or evaluation mode.
    """

    filters: Filters
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h, w, filters of the four branches]."""

        def conv(x: jax.Array, name: str, kernel_size: int) -> jax.Array:
            filters = getattr(self.filters, name)
            return ConvNorm(filters, kernel_size, self.conv, self.norm, name=name)(x)

        pooled = nn.max_pool(x, (3, 3), (1, 1), padding="SAME")
        branches = [
            conv(x, "conv1x1", 1),
            conv(conv(x, "reduce3x3", 1), "conv3x3", 3),
            conv(conv(x, "reduce5x5", 1), "conv5x5", 5),
            conv(pooled, "project", 1),
        ]
        return jnp.concatenate(branches, axis=-1)


class AuxiliaryClassifier(nn.Module):
    """A small classifier on the output of an inner block (section 5).

    Attributes:
      num_classes: number of logits.
      width_multiplier: multiplies the published filters and units.
      conv: convolution.
      norm: normalization, in training or evaluation mode.
    """

    num_classes: int
    width_multiplier: float
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c], at least 4x4 pixels, to float32 logits [batch, num_classes]."""
        # Pool to 4x4: a 5x5 window of stride 3 on the paper's 14x14, 4x4 of stride 4 on 16x16.
        strides = (x.shape[1] // 4, x.shape[2] // 4)
        window = (x.shape[1] - 3 * strides[0], x.shape[2] - 3 * strides[1])
        x = nn.avg_pool(x, window, strides)
        filters = scaled(128, self.width_multiplier)
        x = ConvNorm(filters, 1, self.conv, self.norm, name="reduce")(x)
        x = nn.Dense(
            scaled(1024, self.width_multiplier),
            dtype=x.dtype,
            kernel_init=nn.initializers.he_normal(),
            name="fc",
        )(x.reshape(x.shape[0], -1))
        x = nn.Dropout(0.7, deterministic=not train)(nn.relu(x))
        return nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32))


class GoogLeNet(nn.Module):
    """GoogLeNet up to its globally pooled features, after dropout.

    Attributes:
      width_multiplier: multiplies the published filters and the units of the auxiliary classifiers.
      variant: "imagenet" (the stem of table 1, which reduces the side by a factor of 8) or "cifar"
        (one 3x3 convolution of stride 1 with the same number of filters).
      dropout_rate: dropout of the features (table 1). Training needs the random number stream
        "dropout".
      auxiliary_classes: number of logits of the two auxiliary classifiers, or None to omit them. In
        training mode only, they sow their logits [batch, auxiliary_classes] as "4a" and "4d" in the
        collection "auxiliary_logits". The paper adds 0.3 times the loss of each.
      conv: convolution; see `experiments.models.layers`.
      norm: normalization.
    """

    width_multiplier: float = 1.0
    variant: str = "cifar"
    dropout_rate: float = 0.4
    auxiliary_classes: int | None = None
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @property
    def min_image_side(self) -> int:
        """Smallest side, in pixels, for a 2x2 last pool and 4x4 auxiliary classifiers.

        A pool or convolution of stride 2 halves the side and rounds up.
        """
        stride = 16 if self.variant == "imagenet" else 2  # total stride at blocks 4a to 4e
        least = 2 if self.auxiliary_classes is None else 4
        return stride * (least - 1) + 1

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        halve = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME")
        norm = partial(self.norm, use_running_average=not train)
        unit = partial(ConvNorm, conv=self.conv, norm=norm)
        narrow, wide = (scaled(filters, self.width_multiplier) for filters in (64, 192))
        if self.variant == "imagenet":
            x = halve(unit(narrow, 7, strides=2, name="stem1")(images))
            x = unit(narrow, 1, name="stem2")(x)
            x = halve(unit(wide, 3, name="stem3")(x))
        else:
            x = unit(wide, 3, name="stem")(images)
        for name, published in BLOCKS.items():
            if name in ("4a", "5a"):
                x = halve(x)
            filters = Filters(*(scaled(channels, self.width_multiplier) for channels in published))
            x = Inception(filters, self.conv, norm, name=f"inception{name}")(x)
            if (
                name in AUXILIARY
                and self.auxiliary_classes is not None
                and (train or self.is_initializing())
            ):
                auxiliary = AuxiliaryClassifier(
                    self.auxiliary_classes,
                    self.width_multiplier,
                    self.conv,
                    norm,
                    name=f"auxiliary{name}",
                )
                self.sow("auxiliary_logits", name, auxiliary(x, train=train))
        x = x.mean(axis=(1, 2))
        return nn.Dropout(self.dropout_rate, deterministic=not train)(x)
