"""VGG networks (Simonyan and Zisserman 2015, arXiv:1409.1556, table 1), for small images too."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.layers import BatchNorm, Conv, max_pool_2x2, scaled


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each before a 2x2 max-pool, then two fully connected layers.

    Attributes:
      stages: number of convolutions and their filters, of each stage.
      width_multiplier: times the filters and the units.
      variant: "cifar" (fully connected layers of 512 units: on images of 32x32 they see 512
        features; the number is this repository's default) or "imagenet" (4096 units, as published).
      batch_norm: whether a batch norm follows each convolution (Ioffe and Szegedy 2015); the
        convolutions then have no bias, which the batch norm would subtract again.
      dropout_rate: dropout after each fully connected layer (section 3.1); in training mode it
        draws from the random numbers "dropout".
      dtype: dtype of the computation; parameters are float32.
      axis_name: the mapped axis over which a batch norm takes its statistics, besides the batch.
    """

    stages: Sequence[tuple[int, int]]
    width_multiplier: float = 1.0
    variant: str = "cifar"
    batch_norm: bool = False
    dropout_rate: float = 0.5
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @property
    def min_image_side(self) -> int:
        """The side in pixels that the down-sampling leaves one pixel of."""
        return 2 ** len(self.stages)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        x = images.astype(self.dtype)
        for stage, (num_convs, filters) in enumerate(self.stages, start=1):
            for index in range(1, num_convs + 1):
                x = Conv(
                    scaled(filters, self.width_multiplier),
                    (3, 3),
                    padding=1,
                    use_bias=not self.batch_norm,
                    dtype=self.dtype,
                    name=f"stage{stage}_conv{index}",
                )(x)
                if self.batch_norm:
                    x = BatchNorm(
                        use_running_average=not train,
                        dtype=self.dtype,
                        axis_name=self.axis_name,
                        name=f"stage{stage}_norm{index}",
                    )(x)
                x = nn.relu(x)
            x = max_pool_2x2(x)
        x = x.reshape(x.shape[0], -1)
        units = 4096 if self.variant == "imagenet" else 512
        for layer in (1, 2):
            x = nn.Dense(
                scaled(units, self.width_multiplier),
                dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(),
                name=f"fc{layer}",
            )(x)
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(nn.relu(x))
        return x


VGGS = {
    # The paper has no network of nine weight layers; this one is the repository's.
    "vgg9": partial(VGG, stages=((1, 64), (1, 128), (2, 256), (2, 512))),
    "vgg16": partial(VGG, stages=((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))),  # column D
    "vgg19": partial(VGG, stages=((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))),  # column E
}
