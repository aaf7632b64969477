"""Small networks for handwritten digits: fully connected networks and LeNet.

Nakamura et al. 2021 (doi:10.3390/electronics10162029) train both but do not state their widths.
`HIDDEN_UNITS` and the sizes of LeNet are therefore this repository's choice, taken from Caffe.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.cpu.activation import relu
from experiments.models.cpu.pooling import max_pool_2x2
from experiments.models.layers import Conv, ModuleDef, scaled

HIDDEN_UNITS = 500  # per fully connected layer, as in Caffe's LeNet


class NN(nn.Module):
    """Fully connected layers with ReLU on the pixels of an image.

    Attributes:
      hidden: number of units in each layer.
      width_multiplier: multiplies these numbers.
      dtype: dtype of the computation; parameters are float32.
    """

    hidden: Sequence[int]
    width_multiplier: float = 1.0
    dtype: Any = jnp.float32

    @property
    def min_image_side(self) -> int:
        """One pixel: the network does not down-sample."""
        return 1

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        x = images.astype(self.dtype).reshape(images.shape[0], -1)
        for layer, units in enumerate(self.hidden, start=1):
            x = nn.Dense(
                scaled(units, self.width_multiplier),
                dtype=self.dtype,
                kernel_init=nn.initializers.he_normal(),
                name=f"fc{layer}",
            )(x)
            x = relu(x)
        return x


class LeNet(nn.Module):
    """LeNet-5 (LeCun et al. 1998) in Caffe's form, with ReLU and max pooling, up to its features.

    Two unpadded 5x5 convolutions with 20 and 50 filters, each followed by ReLU and a 2x2 max pool,
    then a fully connected layer. Caffe's version has no ReLU after the convolutions.

    Attributes:
      width_multiplier: multiplies the filters and the units.
      conv: convolution, which also sets the dtype of the computation.
    """

    width_multiplier: float = 1.0
    conv: ModuleDef = Conv

    @property
    def min_image_side(self) -> int:
        """Smallest side, in pixels, that leaves one pixel: 16, 12, 6, 2, 1."""
        return 16

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        x = images
        for layer, filters in enumerate((20, 50), start=1):
            x = self.conv(
                scaled(filters, self.width_multiplier),
                (5, 5),
                padding="VALID",
                name=f"conv{layer}",
            )(x)
            bias = self.param(f"conv{layer}_bias", nn.initializers.zeros, (x.shape[-1],))
            # Pooling first gives the same values, and leaves a quarter of the pixels for the rest.
            x = relu(max_pool_2x2(x) + bias.astype(x.dtype).reshape(1, 1, 1, -1))
        x = nn.Dense(
            scaled(HIDDEN_UNITS, self.width_multiplier),
            dtype=x.dtype,
            kernel_init=nn.initializers.he_normal(),
            name="fc",
        )(x.reshape(x.shape[0], -1))
        return relu(x)


NN2 = partial(NN, hidden=(HIDDEN_UNITS,) * 2)
NN3 = partial(NN, hidden=(HIDDEN_UNITS,) * 3)
