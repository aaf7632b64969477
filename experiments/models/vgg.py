"""VGG networks (Simonyan and Zisserman 2015, arXiv:1409.1556, table 1), also for small images."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax

from experiments.models.cpu.activation import relu
from experiments.models.cpu.pooling import max_pool_2x2
from experiments.models.layers import BatchNorm, Conv, ModuleDef, scaled


class VGG(nn.Module):
    """Stages of 3x3 convolutions, each ending in a 2x2 max pool, then two fully connected layers.

    Attributes:
      stages: number of convolutions and number of filters of each stage.
      width_multiplier: multiplies the filters and the units.
      variant: "imagenet" (fully connected layers of 4096 units, as published) or "cifar" (512
        units, this repository's choice: a 32x32 image leaves 512 features).
      batch_norm: whether a batch norm follows each convolution (Ioffe and Szegedy 2015). The
        convolutions then have no bias, because batch norm would subtract it.
      dropout_rate: dropout after each fully connected layer (section 3.1). Training needs the
        random number stream "dropout".
      conv: convolution, which also sets the dtype of the computation.
      norm: normalization.
    """

    stages: Sequence[tuple[int, int]]
    width_multiplier: float = 1.0
    variant: str = "cifar"
    batch_norm: bool = False
    dropout_rate: float = 0.5
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm

    @property
    def min_image_side(self) -> int:
        """Smallest side, in pixels, that leaves one pixel after the last pool."""
        return 2 ** len(self.stages)

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        norm = partial(self.norm, use_running_average=not train)
        x = images
        for stage, (num_convs, filters) in enumerate(self.stages, start=1):
            for index in range(1, num_convs + 1):
                x = self.conv(
                    scaled(filters, self.width_multiplier),
                    (3, 3),
                    padding=1,
                    use_bias=not self.batch_norm,
                    name=f"stage{stage}_conv{index}",
                )(x)
                if self.batch_norm:
                    x = norm(name=f"stage{stage}_norm{index}")(x)
                x = relu(x)
            x = max_pool_2x2(x)
        x = x.reshape(x.shape[0], -1)
        units = 4096 if self.variant == "imagenet" else 512
        for layer in (1, 2):
            x = nn.Dense(
                scaled(units, self.width_multiplier),
                dtype=x.dtype,
                kernel_init=nn.initializers.he_normal(),
                name=f"fc{layer}",
            )(x)
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(relu(x))
        return x


# Nine weight layers: not in the paper, but this repository's small version.
VGG9 = partial(VGG, stages=((1, 64), (1, 128), (2, 256), (2, 512)))
# Columns D and E.
VGG16 = partial(VGG, stages=((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)))
VGG19 = partial(VGG, stages=((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)))
