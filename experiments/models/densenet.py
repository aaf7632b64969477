"""Densely connected networks (Huang et al. 2017, arXiv:1608.06993), for small and ImageNet images.

All are DenseNet-BC (section 3): bottlenecks of four times the growth rate, and transitions that
halve the channels.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.layers import BatchNorm, Conv, scaled


class DenseLayer(nn.Module):
    """A 1x1 and a 3x3 convolution whose output is concatenated to their input (section 3).

    Attributes:
      growth_rate: number of channels that the layer adds.
      dropout_rate: share of the values dropped after each convolution.
      dtype: dtype of the computation; parameters are float32.
      axis_name: the mapped axis over which a batch norm takes its statistics, besides the batch.
    """

    growth_rate: int
    dropout_rate: float
    dtype: Any
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h, w, c + growth_rate]."""
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        dropout = partial(nn.Dropout, self.dropout_rate, deterministic=not train)
        y = nn.relu(norm(name="bottleneck_norm")(x))
        y = Conv(4 * self.growth_rate, (1, 1), dtype=self.dtype, name="bottleneck")(y)
        y = nn.relu(norm(name="norm")(dropout()(y)))
        y = Conv(self.growth_rate, (3, 3), padding=1, dtype=self.dtype, name="conv")(y)
        return jnp.concatenate([x, dropout()(y)], axis=-1)


class Transition(nn.Module):
    """A 1x1 convolution to half the channels and a 2x2 average pool between two dense blocks.

    Attributes:
      dropout_rate: share of the values dropped after the convolution.
      dtype: dtype of the computation; parameters are float32.
      axis_name: the mapped axis over which a batch norm takes its statistics, besides the batch.
    """

    dropout_rate: float
    dtype: Any
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h // 2, w // 2, c // 2]."""
        norm = BatchNorm(
            use_running_average=not train,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name="norm",
        )
        x = nn.relu(norm(x))
        x = Conv(x.shape[-1] // 2, (1, 1), dtype=self.dtype, name="conv")(x)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.avg_pool(x, (2, 2), (2, 2))


class DenseNet(nn.Module):
    """A densely connected network up to its globally pooled features.

    Attributes:
      block_sizes: number of layers in each dense block; between two of them the image is halved.
      growth_rate: number of channels that a layer adds; the stem has twice as many.
      width_multiplier: times the growth rate.
      dropout_rate: share of the values dropped after each convolution but the first; the paper
        takes 0.2 where it trains without data augmentation (section 4.2).
      variant: "cifar" (a stem of 3x3, stride 1) or "imagenet" (7x7, stride 2, then a 3x3 max-pool,
        stride 2).
      dtype: dtype of the computation; parameters are float32.
      axis_name: the mapped axis over which a batch norm takes its statistics, besides the batch.
    """

    block_sizes: Sequence[int]
    growth_rate: int
    width_multiplier: float = 1.0
    dropout_rate: float = 0.0
    variant: str = "cifar"
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def min_image_side(self) -> int:
        """The side in pixels that the transitions, which round down, leave one pixel of."""
        side = 2 ** (len(self.block_sizes) - 1)
        # Both strides of the ImageNet stem round up.
        return 4 * (side - 1) + 1 if self.variant == "imagenet" else side

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        x = images.astype(self.dtype)
        growth_rate = scaled(self.growth_rate, self.width_multiplier)
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        if self.variant == "imagenet":
            x = Conv(2 * growth_rate, (7, 7), 2, padding=3, dtype=self.dtype, name="stem")(x)
            x = nn.relu(norm(name="stem_norm")(x))
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        else:
            x = Conv(2 * growth_rate, (3, 3), padding=1, dtype=self.dtype, name="stem")(x)
        for block, num_layers in enumerate(self.block_sizes, start=1):
            if block > 1:
                x = Transition(
                    self.dropout_rate, self.dtype, self.axis_name, name=f"transition{block - 1}"
                )(x, train=train)
            for layer in range(1, num_layers + 1):
                x = DenseLayer(
                    growth_rate,
                    self.dropout_rate,
                    self.dtype,
                    self.axis_name,
                    name=f"block{block}_layer{layer}",
                )(x, train=train)
        x = nn.relu(norm(name="norm")(x))
        return x.mean(axis=(1, 2))


DENSENETS = {
    # Table 2, DenseNet-BC with L=100 and k=12.
    "densenet100": partial(DenseNet, block_sizes=(16, 16, 16), growth_rate=12),
    # Table 1.
    "densenet121": partial(DenseNet, block_sizes=(6, 12, 24, 16), growth_rate=32),
}
