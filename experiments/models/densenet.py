"""Densely connected networks (Huang et al. 2017, arXiv:1608.06993), for small and ImageNet images.

All are DenseNet-BC (section 3): bottlenecks are four times as wide as the growth rate, and
transitions halve the number of channels.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.layers import BatchNorm, Conv, ModuleDef, scaled


class DenseLayer(nn.Module):
    """A 1x1 and a 3x3 convolution whose output is concatenated to their input (section 3).

    Attributes:
      growth_rate: number of channels that the layer adds.
      dropout_rate: fraction of the values dropped after each convolution.
      conv: convolution.
      norm: normalization, in training or evaluation mode.
    """

    growth_rate: int
    dropout_rate: float
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h, w, c + growth_rate]."""
        dropout = partial(nn.Dropout, self.dropout_rate, deterministic=not train)
        y = nn.relu(self.norm(name="bottleneck_norm")(x))
        y = self.conv(4 * self.growth_rate, (1, 1), name="bottleneck")(y)
        y = nn.relu(self.norm(name="norm")(dropout()(y)))
        y = self.conv(self.growth_rate, (3, 3), padding=1, name="conv")(y)
        return jnp.concatenate([x, dropout()(y)], axis=-1)


class Transition(nn.Module):
    """A 1x1 convolution that halves the channels, then a 2x2 average pool, between dense blocks.

    Attributes:
      dropout_rate: fraction of the values dropped after the convolution.
      conv: convolution.
      norm: normalization, in training or evaluation mode.
    """

    dropout_rate: float
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h // 2, w // 2, c // 2]."""
        x = nn.relu(self.norm(name="norm")(x))
        x = self.conv(x.shape[-1] // 2, (1, 1), name="conv")(x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.avg_pool(x, (2, 2), (2, 2))


class DenseNet(nn.Module):
    """A densely connected network up to its globally pooled features.

    Attributes:
      block_sizes: number of layers in each dense block; a transition between two blocks halves the
        image.
      growth_rate: number of channels that a layer adds; the stem has twice as many.
      width_multiplier: multiplies the growth rate.
      dropout_rate: fraction of the values dropped after each convolution but the first. The paper
        uses 0.2 without data augmentation (section 4.2).
      variant: "cifar" (3x3 stem of stride 1) or "imagenet" (7x7 stem of stride 2, then a 3x3
        max pool of stride 2).
      conv: convolution; see `experiments.models.layers`.
      norm: normalization.
    """

    block_sizes: Sequence[int]
    growth_rate: int
    width_multiplier: float = 1.0
    dropout_rate: float = 0.0
    variant: str = "cifar"
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @property
    def min_image_side(self) -> int:
        """Smallest side, in pixels, that leaves one pixel; transitions round down."""
        side = 2 ** (len(self.block_sizes) - 1)
        # Both strides of the ImageNet stem round up.
        return 4 * (side - 1) + 1 if self.variant == "imagenet" else side

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        growth_rate = scaled(self.growth_rate, self.width_multiplier)
        norm = partial(self.norm, use_running_average=not train)
        if self.variant == "imagenet":
            x = self.conv(2 * growth_rate, (7, 7), 2, padding=3, name="stem")(images)
            x = nn.relu(norm(name="stem_norm")(x))
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        else:
            x = self.conv(2 * growth_rate, (3, 3), padding=1, name="stem")(images)
        for block, num_layers in enumerate(self.block_sizes, start=1):
            if block > 1:
                transition = Transition(
                    self.dropout_rate, self.conv, norm, name=f"transition{block - 1}"
                )
                x = transition(x, train=train)
            for index in range(1, num_layers + 1):
                layer = DenseLayer(
                    growth_rate,
                    self.dropout_rate,
                    self.conv,
                    norm,
                    name=f"block{block}_layer{index}",
                )
                x = layer(x, train=train)
        x = nn.relu(norm(name="norm")(x))
        return x.mean(axis=(1, 2))


DenseNet100 = partial(DenseNet, block_sizes=(16, 16, 16), growth_rate=12)  # table 2, L=100, k=12
DenseNet121 = partial(DenseNet, block_sizes=(6, 12, 24, 16), growth_rate=32)  # table 1
