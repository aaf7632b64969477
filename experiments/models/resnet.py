"""Residual networks (He et al. 2016, arXiv:1512.03385), for small and for ImageNet images.

The 3x3 convolution of a bottleneck block has the stride, as in torchvision, whose parameter counts
`tests/experiments/models/test_resnet.py` checks.
"""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax

from experiments.models.cpu.activation import relu
from experiments.models.layers import BatchNorm, Conv, ModuleDef, scaled


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5, left)."""

    filters: int
    strides: int
    conv: ModuleDef
    norm: ModuleDef

    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h / strides, w / strides, filters]."""
        y = self.conv(self.filters, (3, 3), self.strides, padding=1)(x)
        y = relu(self.norm()(y))
        y = self.conv(self.filters, (3, 3), padding=1)(y)
        # With a zero scale, the block starts as the identity (Goyal et al. 2017, section 5.1).
        y = self.norm(scale_init=nn.initializers.zeros)(y)
        if x.shape != y.shape:
            x = self.conv(self.filters, (1, 1), self.strides, name="shortcut")(x)
            x = self.norm(name="shortcut_norm")(x)
        return relu(x + y)


class BottleneckBlock(nn.Module):
    """1x1, 3x3, and 1x1 convolutions and a shortcut (He et al. 2016, figure 5, right)."""

    filters: int
    strides: int
    conv: ModuleDef
    norm: ModuleDef

    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [batch, h, w, c] to [batch, h / strides, w / strides, 4 * filters]."""
        y = relu(self.norm()(self.conv(self.filters, (1, 1))(x)))
        y = relu(self.norm()(self.conv(self.filters, (3, 3), self.strides, padding=1)(y)))
        y = self.conv(self.expansion * self.filters, (1, 1))(y)
        y = self.norm(scale_init=nn.initializers.zeros)(y)
        if x.shape != y.shape:
            filters = self.expansion * self.filters
            x = self.conv(filters, (1, 1), self.strides, name="shortcut")(x)
            x = self.norm(name="shortcut_norm")(x)
        return relu(x + y)


class ResNet(nn.Module):
    """A residual network up to its globally pooled features.

    Attributes:
      stage_sizes: number of blocks in each stage; every stage but the first halves the image.
      block: `BasicBlock` or `BottleneckBlock`.
      width_multiplier: multiplies the published filters: 64 in the first stage, then doubled in
        each stage.
      variant: "cifar" (3x3 stem of stride 1) or "imagenet" (7x7 stem of stride 2, then a 3x3
        max pool of stride 2).
      conv: convolution; see `experiments.models.layers`.
      norm: normalization.
    """

    stage_sizes: Sequence[int]
    block: type[BasicBlock] | type[BottleneckBlock]
    width_multiplier: float = 1.0
    variant: str = "cifar"
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @property
    def min_image_side(self) -> int:
        """Total stride in pixels; below it, the last stage would see mostly padding."""
        stem = 4 if self.variant == "imagenet" else 1
        return stem * 2 ** (len(self.stage_sizes) - 1)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        norm = partial(self.norm, use_running_average=not train)
        filters = scaled(64, self.width_multiplier)
        if self.variant == "imagenet":
            x = self.conv(filters, (7, 7), 2, padding=3, name="stem")(images)
            x = relu(norm(name="stem_norm")(x))
            x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        else:
            x = self.conv(filters, (3, 3), padding=1, name="stem")(images)
            x = relu(norm(name="stem_norm")(x))
        for stage, num_blocks in enumerate(self.stage_sizes):
            for index in range(num_blocks):
                x = self.block(
                    filters=filters * 2**stage,
                    strides=2 if stage > 0 and index == 0 else 1,
                    conv=self.conv,
                    norm=norm,
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
        return x.mean(axis=(1, 2))


ResNet10 = partial(ResNet, stage_sizes=(1, 1, 1, 1), block=BasicBlock)
ResNet18 = partial(ResNet, stage_sizes=(2, 2, 2, 2), block=BasicBlock)
ResNet34 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=BasicBlock)
ResNet50 = partial(ResNet, stage_sizes=(3, 4, 6, 3), block=BottleneckBlock)
