"""Residual networks (He et al. 2016, arXiv:1512.03385), for small and for ImageNet images.

The 3x3 convolution of a bottleneck carries the stride, as in the reference implementations whose
parameter counts `tests/test_models.py` holds.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.layers import BatchNorm, Conv, scaled


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5, left)."""

    filters: int
    strides: int
    dtype: Any
    axis_name: str | None = None

    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h / strides, w / strides, filters]."""
        conv = partial(Conv, dtype=self.dtype)
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        y = conv(self.filters, (3, 3), self.strides, padding=1)(x)
        y = nn.relu(norm()(y))
        y = conv(self.filters, (3, 3), padding=1)(y)
        # The block begins as the identity (Goyal et al. 2017, section 5.1).
        y = norm(scale_init=nn.initializers.zeros)(y)
        if x.shape != y.shape:
            x = norm(name="shortcut_norm")(
                conv(self.filters, (1, 1), self.strides, name="shortcut")(x)
            )
        return nn.relu(x + y)


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (He et al. 2016, figure 5, right)."""

    filters: int
    strides: int
    dtype: Any
    axis_name: str | None = None

    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h / strides, w / strides, 4 * filters]."""
        conv = partial(Conv, dtype=self.dtype)
        norm = partial(
            BatchNorm,
            use_running_average=not train,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        y = nn.relu(norm()(conv(self.filters, (1, 1))(x)))
        y = nn.relu(norm()(conv(self.filters, (3, 3), self.strides, padding=1)(y)))
        y = conv(self.expansion * self.filters, (1, 1))(y)
        y = norm(scale_init=nn.initializers.zeros)(y)
        if x.shape != y.shape:
            x = norm(name="shortcut_norm")(
                conv(self.expansion * self.filters, (1, 1), self.strides, name="shortcut")(x)
            )
        return nn.relu(x + y)


class ResNet(nn.Module):
    """A residual network up to its globally pooled features.

    Attributes:
      stage_sizes: number of blocks in each stage; every stage but the first halves the image.
      block: `BasicBlock` or `BottleneckBlock`.
      width_multiplier: times the published filters, 64 in the first stage and doubled in each next.
      variant: "cifar" (a stem of 3x3, stride 1) or "imagenet" (7x7, stride 2, then a 3x3 max-pool,
        stride 2).
      dtype: dtype of the computation; parameters are float32.
      axis_name: the mapped axis over which a batch norm takes its statistics, besides the batch.
    """

    stage_sizes: Sequence[int]
    block: type[BasicBlock] | type[BottleneckBlock]
    width_multiplier: float = 1.0
    variant: str = "cifar"
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def min_image_side(self) -> int:
        """The side in pixels that the down-sampling leaves one pixel of."""
        stem = 4 if self.variant == "imagenet" else 1
        return stem * 2 ** (len(self.stage_sizes) - 1)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        x = images.astype(self.dtype)
        filters = scaled(64, self.width_multiplier)
        norm = BatchNorm(
            use_running_average=not train,
            dtype=self.dtype,
            axis_name=self.axis_name,
            name="stem_norm",
        )
        if self.variant == "imagenet":
            x = Conv(filters, (7, 7), 2, padding=3, dtype=self.dtype, name="stem")(x)
            x = nn.relu(norm(x))
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        else:
            x = Conv(filters, (3, 3), padding=1, dtype=self.dtype, name="stem")(x)
            x = nn.relu(norm(x))
        for stage, num_blocks in enumerate(self.stage_sizes):
            for index in range(num_blocks):
                x = self.block(
                    filters=filters * 2**stage,
                    strides=2 if stage > 0 and index == 0 else 1,
                    dtype=self.dtype,
                    axis_name=self.axis_name,
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x, train=train)
        return x.mean(axis=(1, 2))


RESNETS = {
    "resnet10": partial(ResNet, stage_sizes=(1, 1, 1, 1), block=BasicBlock),
    "resnet18": partial(ResNet, stage_sizes=(2, 2, 2, 2), block=BasicBlock),
    "resnet34": partial(ResNet, stage_sizes=(3, 4, 6, 3), block=BasicBlock),
    "resnet50": partial(ResNet, stage_sizes=(3, 4, 6, 3), block=BottleneckBlock),
}
