"""Xception (Chollet 2017, arXiv:1610.02357, figure 5), for small and for ImageNet images.

Padding and batch norm follow the author's implementation in Keras, with which
`tests/experiments/models/test_xception.py` compares.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax

from experiments.models.layers import BatchNorm, Conv, ModuleDef, scaled

# Filters of the separable convolutions and stride of each block.
BLOCKS = (
    *(((128, 128), 2), ((256, 256), 2), ((728, 728), 2)),  # entry flow
    *(8 * (((728, 728, 728), 1),)),  # middle flow
    *(((728, 1024), 2),),  # exit flow
)


class SeparableConv(nn.Module):
    """A 3x3 convolution of each channel, a 1x1 convolution across channels, and a batch norm.

    Attributes:
      filters: number of channels after the 1x1 convolution.
      conv: convolution.
      norm: normalization, in training or evaluation mode.
    """

    filters: int
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h, w, filters]."""
        channels = x.shape[-1]
        x = self.conv(
            channels,
            (3, 3),
            padding=1,
            feature_group_count=channels,
            # The fan-out of a grouped kernel would count the outputs of all groups.
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
            name="depthwise",
        )(x)
        x = self.conv(self.filters, (1, 1), name="pointwise")(x)
        return self.norm(name="norm")(x)


class Block(nn.Module):
    """Separable convolutions, each preceded by a ReLU, and a shortcut.

    Attributes:
      filters: number of channels after each separable convolution.
      strides: 2 to end with a max pool that halves the image, else 1.
      conv: convolution.
      norm: normalization, in training or evaluation mode.
    """

    filters: Sequence[int]
    strides: int
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h / strides, w / strides, filters[-1]], rounded up."""
        y = x
        for index, filters in enumerate(self.filters, start=1):
            y = SeparableConv(filters, self.conv, self.norm, name=f"separable{index}")(nn.relu(y))
        if self.strides > 1:
            y = nn.max_pool(y, (3, 3), (self.strides, self.strides), padding="SAME")
            x = self.conv(self.filters[-1], (1, 1), self.strides, name="shortcut")(x)
            x = self.norm(name="shortcut_norm")(x)
        return x + y


class Xception(nn.Module):
    """The Xception network up to its globally pooled features.

    Attributes:
      width_multiplier: multiplies the published filters.
      dropout_rate: fraction of the features dropped before the classifier (section 4.3).
      variant: "imagenet" (two unpadded 3x3 convolutions, the first of stride 2) or "cifar" (both of
        stride 1 and padded, so that the last block of a 32x32 image is 2x2).
      conv: convolution; see `experiments.models.layers`.
      norm: normalization.
    """

    width_multiplier: float = 1.0
    dropout_rate: float = 0.5
    variant: str = "cifar"
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @property
    def min_image_side(self) -> int:
        """Smallest side, in pixels, that leaves one pixel after the unpadded stem."""
        return 7 if self.variant == "imagenet" else 1

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        width = partial(scaled, multiplier=self.width_multiplier)
        norm = partial(self.norm, use_running_average=not train, momentum=0.99, epsilon=1e-3)
        stride, padding = (2, "VALID") if self.variant == "imagenet" else (1, "SAME")
        x = self.conv(width(32), (3, 3), stride, padding=padding, name="stem1")(images)
        x = nn.relu(norm(name="stem1_norm")(x))
        x = self.conv(width(64), (3, 3), padding=padding, name="stem2")(x)
        # In the figure, the first block starts without a ReLU. It follows this one, so that another
        # changes nothing.
        x = nn.relu(norm(name="stem2_norm")(x))
        for number, (filters, strides) in enumerate(BLOCKS, start=2):
            x = Block(
                [width(channels) for channels in filters],
                strides,
                self.conv,
                norm,
                name=f"block{number}",
            )(x)
        for index, channels in enumerate((1536, 2048), start=1):
            x = nn.relu(SeparableConv(width(channels), self.conv, norm, name=f"exit{index}")(x))
        return nn.Dropout(self.dropout_rate, deterministic=not train)(x.mean(axis=(1, 2)))
