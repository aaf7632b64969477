"""Small networks for handwritten digits: fully connected ones, and LeNet.

Nakamura et al. 2021 (doi:10.3390/electronics10162029) train both and do not say how wide they are:
`HIDDEN_UNITS` and the sizes of LeNet are this repository's defaults, not the paper's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.layers import Conv, max_pool_2x2, scaled

HIDDEN_UNITS = 500  # of every fully connected layer, as in Caffe's LeNet


class NN(nn.Module):
    """Fully connected layers with ReLU, on the pixels of an image.

    Attributes:
      hidden: number of units of each layer.
      width_multiplier: times these numbers.
      dtype: dtype of the computation; parameters are float32.
    """

    hidden: Sequence[int]
    width_multiplier: float = 1.0
    dtype: Any = jnp.float32

    @property
    def min_image_side(self) -> int:
        """One pixel: nothing down-samples."""
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
            x = nn.relu(x)
        return x


class LeNet(nn.Module):
    """LeNet-5 (LeCun et al. 1998) in Caffe's form, with ReLU and max-pooling, up to its features.

    Two 5x5 convolutions without padding, of 20 and 50 filters, each before a 2x2 max-pool, then a
    fully connected layer. Caffe has no ReLU after the convolutions; here there is one.

    Attributes:
      width_multiplier: times these numbers of filters and of units.
      dtype: dtype of the computation; parameters are float32.
    """

    width_multiplier: float = 1.0
    dtype: Any = jnp.float32

    @property
    def min_image_side(self) -> int:
        """The side in pixels that the down-sampling leaves one pixel of: 16, 12, 6, 2, 1."""
        return 16

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        x = images.astype(self.dtype)
        for layer, filters in enumerate((20, 50), start=1):
            x = Conv(
                scaled(filters, self.width_multiplier),
                (5, 5),
                padding="VALID",
                dtype=self.dtype,
                name=f"conv{layer}",
            )(x)
            bias = self.param(f"conv{layer}_bias", nn.initializers.zeros, (x.shape[-1],))
            # As bias and ReLU before the pool, on a quarter of the pixels.
            x = nn.relu(max_pool_2x2(x) + bias.astype(self.dtype).reshape(1, 1, 1, -1))
        x = nn.Dense(
            scaled(HIDDEN_UNITS, self.width_multiplier),
            dtype=self.dtype,
            kernel_init=nn.initializers.he_normal(),
            name="fc",
        )(x.reshape(x.shape[0], -1))
        return nn.relu(x)


SMALL: dict[str, Callable[..., nn.Module]] = {
    "nn2": partial(NN, hidden=(HIDDEN_UNITS,) * 2),
    "nn3": partial(NN, hidden=(HIDDEN_UNITS,) * 3),
    "lenet4": LeNet,
}
