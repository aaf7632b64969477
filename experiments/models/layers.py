"""What every model shares: convolution and normalisation conventions, and the classifier's head."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.convolution import conv_general_dilated

Conv = partial(
    nn.Conv,
    use_bias=False,
    conv_general_dilated=conv_general_dilated,
    # He et al. 2015 (arXiv:1502.01852), fan-out, as the reference ResNets are initialised.
    kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
)
BatchNorm = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)

VARIANTS = ("cifar", "imagenet")  # of every network: for images of about 32x32 or of 224x224


def max_pool_2x2(x: jax.Array) -> jax.Array:
    """The largest of every 2x2 pixels; a last odd row or column is left out.

    The same as `flax.linen.max_pool(x, (2, 2), (2, 2))`, of which the gradient takes ten times as
    long on a CPU; equal largest pixels share the gradient here.

    Args:
      x: [batch, height, width, channels].

    Returns:
      [batch, height // 2, width // 2, channels].

    >>> max_pool_2x2(jnp.arange(12.0).reshape(1, 2, 6, 1)).ravel().tolist()
    [7.0, 9.0, 11.0]
    """
    batch, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    # Maxima of two, of which the gradient is a choice. That of a maximum over an axis divides by
    # how many pixels equal it, which XLA may compute anew, rounded otherwise, and find none.
    rows = even.reshape(batch, height // 2, 2, -1, channels)
    columns = jnp.maximum(rows[:, :, 0], rows[:, :, 1])
    pairs = columns.reshape(batch, height // 2, width // 2, 2, channels)
    return jnp.maximum(pairs[..., 0, :], pairs[..., 1, :])


def scaled(channels: int, multiplier: float) -> int:
    """A published number of channels times a width multiplier, at least 1.

    >>> scaled(64, 0.25), scaled(64, 0.001)
    (16, 1)
    """
    return max(1, round(channels * multiplier))


class Classifier(nn.Module):
    """A linear layer on the features of a backbone.

    Attributes:
      backbone: module from images to features, called as `backbone(images, train=train)`.
      num_classes: number of logits.
    """

    backbone: nn.Module
    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, h, w, channels] to float32 logits [batch, num_classes]."""
        features = self.backbone(images, train=train)
        return nn.Dense(self.num_classes, name="head")(features.astype(jnp.float32))
