"""GoogLeNet, the first Inception network (Szegedy et al. 2015, arXiv:1409.4842), with batch norm.

Every convolution is followed by a batch norm (Ioffe and Szegedy 2015, arXiv:1502.03167), and the
widest of a block is 5x5 as in table 1; torchvision has 3x3 there.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.layers import BatchNorm, Conv, scaled


class Filters(NamedTuple):
    """Filters of an Inception block: a row of table 1, with its columns' names."""

    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    project: int


# Blocks of table 1; a 3x3 max-pool of stride 2 precedes 4a and 5a.
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
AUXILIARY = ("4a", "4d")  # the blocks whose output an auxiliary classifier sees (section 5)


class ConvNorm(nn.Module):
    """A convolution that keeps the resolution up to its strides, batch norm and ReLU."""

    filters: int
    kernel_size: int
    strides: int = 1
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, ceil(h / strides), ceil(w / strides), filters]."""
        side = self.kernel_size
        x = Conv(
            self.filters, (side, side), self.strides, side // 2, dtype=self.dtype, name="conv"
        )(x)
        norm = BatchNorm(
            use_running_average=not train,
            epsilon=1e-3,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name="norm",
        )
        return nn.relu(norm(x))


class Inception(nn.Module):
    """1x1, 3x3 and 5x5 convolutions and a max-pool beside each other (figure 2b)."""

    filters: Filters
    dtype: Any
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h, w, filters of the four branches]."""

        def conv(x: jax.Array, name: str, kernel_size: int) -> jax.Array:
            filters = getattr(self.filters, name)
            norm = ConvNorm(
                filters, kernel_size, dtype=self.dtype, axis_name=self.axis_name, name=name
            )
            return norm(x, train=train)

        pooled = nn.max_pool(x, (3, 3), (1, 1), padding="SAME")
        branches = [
            conv(x, "conv1x1", 1),
            conv(conv(x, "reduce3x3", 1), "conv3x3", 3),
            conv(conv(x, "reduce5x5", 1), "conv5x5", 5),
            conv(pooled, "project", 1),
        ]
        return jnp.concatenate(branches, axis=-1)


class AuxiliaryClassifier(nn.Module):
    """A small classifier on the output of an inner block (section 5)."""

    num_classes: int
    width_multiplier: float
    dtype: Any
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c], of at least 4x4 pixels, to float32 logits [batch, num_classes]."""
        # To 4x4: a 5x5 window of stride 3 on the paper's 14x14, a 4x4 window of stride 4 on 16x16.
        strides = (x.shape[1] // 4, x.shape[2] // 4)
        window = (x.shape[1] - 3 * strides[0], x.shape[2] - 3 * strides[1])
        x = nn.avg_pool(x, window, strides)
        filters = scaled(128, self.width_multiplier)
        reduce = ConvNorm(filters, 1, dtype=self.dtype, axis_name=self.axis_name, name="reduce")
        x = reduce(x, train=train)
        x = nn.Dense(
            scaled(1024, self.width_multiplier),
            dtype=self.dtype,
            kernel_init=nn.initializers.he_normal(),
            name="fc",
        )(x.reshape(x.shape[0], -1))
        x = nn.Dropout(0.7, deterministic=not train)(nn.relu(x))
        return nn.Dense(self.num_classes, name="head")(x.astype(jnp.float32))


class GoogLeNet(nn.Module):
    """GoogLeNet up to its globally pooled features, after dropout.

    Attributes:
      width_multiplier: times the published filters, and the units of the auxiliary classifiers.
      variant: "imagenet" (the stem of table 1, which divides the side by 8) or "cifar" (one 3x3
        convolution of as many filters, stride 1).
      dropout_rate: dropout of the features (table 1); in training mode it draws from the random
        numbers "dropout".
      auxiliary_classes: number of logits of the two auxiliary classifiers, or None for none of
        them. In training mode alone, they sow their logits [batch, auxiliary_classes] as "4a" and
        "4d" in the collection "auxiliary_logits"; the paper adds 0.3 times the loss of each.
      dtype: dtype of the computation; parameters are float32.
      axis_name: the mapped axis over which a batch norm takes its statistics, besides the batch.
    """

    width_multiplier: float = 1.0
    variant: str = "cifar"
    dropout_rate: float = 0.4
    auxiliary_classes: int | None = None
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def min_image_side(self) -> int:
        """The least side in pixels that leaves the last pool 2x2, or an auxiliary classifier 4x4.

        A pool or convolution of stride 2 leaves half of the side, rounded up.
        """
        stride = 16 if self.variant == "imagenet" else 2  # of the blocks 4a to 4e
        least = 2 if self.auxiliary_classes is None else 4
        return stride * (least - 1) + 1

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        halve = partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME")
        conv = partial(ConvNorm, dtype=self.dtype, axis_name=self.axis_name)
        narrow, wide = (scaled(filters, self.width_multiplier) for filters in (64, 192))
        x = images.astype(self.dtype)
        if self.variant == "imagenet":
            x = halve(conv(narrow, 7, 2, name="stem1")(x, train=train))
            x = conv(narrow, 1, name="stem2")(x, train=train)
            x = halve(conv(wide, 3, name="stem3")(x, train=train))
        else:
            x = conv(wide, 3, name="stem")(x, train=train)
        for name, published in BLOCKS.items():
            if name in ("4a", "5a"):
                x = halve(x)
            filters = Filters(*(scaled(channels, self.width_multiplier) for channels in published))
            inception = Inception(filters, self.dtype, self.axis_name, name=f"inception{name}")
            x = inception(x, train=train)
            if (
                name in AUXILIARY
                and self.auxiliary_classes is not None
                and (train or self.is_initializing())
            ):
                auxiliary = AuxiliaryClassifier(
                    self.auxiliary_classes,
                    self.width_multiplier,
                    self.dtype,
                    self.axis_name,
                    name=f"auxiliary{name}",
                )
                self.sow("auxiliary_logits", name, auxiliary(x, train=train))
        x = x.mean(axis=(1, 2))
        return nn.Dropout(self.dropout_rate, deterministic=not train)(x)


GOOGLENETS = {"googlenet": GoogLeNet}
