"""A small classifier whose features measure how alike two sets of images are."""

import flax.linen as nn
import jax

from experiments.models.cpu.pooling import max_pool_2x2
from experiments.models.layers import Conv, ModuleDef

NUM_FEATURES = 64
MIN_IMAGE_SIDE = 4  # pixels; leaves one


class FeatureNetwork(nn.Module):
    """Two convolutions and a linear layer, whose outputs are the features.

    The features are smooth and none is always 0, so that their covariance is not singular.

    Attributes:
      conv: convolution.
    """

    conv: ModuleDef = Conv

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, 64]."""
        x = images
        for layer, filters in enumerate((16, 32), start=1):
            x = self.conv(filters, (3, 3), use_bias=True, name=f"conv{layer}")(x)
            x = nn.relu(max_pool_2x2(x))
        x = nn.Dense(NUM_FEATURES, name="features")(x.reshape(len(x), -1))
        return nn.silu(x)
