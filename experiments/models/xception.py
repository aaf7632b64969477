"""Xception (Chollet 2017, arXiv:1610.02357, figure 5), for small and for ImageNet images.

Padding and batch norms are those of the author's implementation in Keras, with which
`tests/test_xception.py` compares.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models import layers
from experiments.models.layers import Conv, scaled

BatchNorm = partial(layers.BatchNorm, momentum=0.99, epsilon=1e-3)

# Of each block, the filters of its separable convolutions and its stride.
BLOCKS = (
    *(((128, 128), 2), ((256, 256), 2), ((728, 728), 2)),  # entry flow
    *(8 * (((728, 728, 728), 1),)),  # middle flow
    *(((728, 1024), 2),),  # exit flow
)


class SeparableConv(nn.Module):
    """A 3x3 convolution of each channel by itself, a 1x1 convolution of all, and a batch norm.

    Attributes:
      filters: number of channels after the 1x1 convolution.
      dtype: dtype of the computation; parameters are float32.
      axis_name: the mapped axis over which a batch norm takes its statistics, besides the batch.
    """

    filters: int
    dtype: Any
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h, w, filters]."""
        channels = x.shape[-1]
        x = Conv(
            channels,
            (3, 3),
            padding=1,
            feature_group_count=channels,
            # The fan-out of a grouped kernel would count the outputs of all groups.
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
            dtype=self.dtype,
            name="depthwise",
        )(x)
        x = Conv(self.filters, (1, 1), dtype=self.dtype, name="pointwise")(x)
        norm = BatchNorm(
            use_running_average=not train,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name="norm",
        )
        return norm(x)


class Block(nn.Module):
    """Separable convolutions, each behind a ReLU, and a shortcut.

    Attributes:
      filters: number of channels after each separable convolution.
      strides: 2 to end in a max-pool that halves the image, else 1.
      dtype: dtype of the computation; parameters are float32.
      axis_name: the mapped axis over which a batch norm takes its statistics, besides the batch.
    """

    filters: Sequence[int]
    strides: int
    dtype: Any
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h / strides, w / strides, filters[-1]], rounded up."""
        y = x
        for index, filters in enumerate(self.filters, start=1):
            y = SeparableConv(filters, self.dtype, self.axis_name, name=f"separable{index}")(
                nn.relu(y), train=train
            )
        if self.strides > 1:
            y = nn.max_pool(y, (3, 3), (self.strides, self.strides), padding="SAME")
            x = Conv(self.filters[-1], (1, 1), self.strides, dtype=self.dtype, name="shortcut")(x)
            norm = BatchNorm(
                use_running_average=not train,
                dtype=self.dtype,
                axis_name=self.axis_name,
                name="shortcut_norm",
            )
            x = norm(x)
        return x + y


class Xception(nn.Module):
    """The Xception network up to its globally pooled features.

    Attributes:
      width_multiplier: times the published filters.
      dropout_rate: share of the features dropped before the classifier (section 4.3).
      variant: "imagenet" (two 3x3 convolutions without padding, the first of stride 2) or "cifar"
        (both of stride 1 and padded, so that the last block of a 32x32 image is 2x2).
      dtype: dtype of the computation; parameters are float32.
      axis_name: the mapped axis over which a batch norm takes its statistics, besides the batch.
    """

    width_multiplier: float = 1.0
    dropout_rate: float = 0.5
    variant: str = "cifar"
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def min_image_side(self) -> int:
        """The side in pixels that the stem leaves one pixel of; what follows is padded."""
        return 7 if self.variant == "imagenet" else 1

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        x = images.astype(self.dtype)
        width = partial(scaled, multiplier=self.width_multiplier)
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        stride, padding = (2, "VALID") if self.variant == "imagenet" else (1, "SAME")
        x = Conv(width(32), (3, 3), stride, padding=padding, dtype=self.dtype, name="stem1")(x)
        x = nn.relu(norm(name="stem1_norm")(x))
        x = Conv(width(64), (3, 3), padding=padding, dtype=self.dtype, name="stem2")(x)
        # In the figure the first block begins without a ReLU; after this one, a second is nothing.
        x = nn.relu(norm(name="stem2_norm")(x))
        for number, (filters, strides) in enumerate(BLOCKS, start=2):
            x = Block(
                [width(channels) for channels in filters],
                strides,
                self.dtype,
                self.axis_name,
                name=f"block{number}",
            )(x, train=train)
        for index, channels in enumerate((1536, 2048), start=1):
            conv = SeparableConv(width(channels), self.dtype, self.axis_name, name=f"exit{index}")
            x = nn.relu(conv(x, train=train))
        return nn.Dropout(self.dropout_rate, deterministic=not train)(x.mean(axis=(1, 2)))


XCEPTIONS = {"xception": partial(Xception)}
