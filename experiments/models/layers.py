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


@jax.custom_vjp
def max_pool_2x2(x: jax.Array) -> jax.Array:
    """The largest of every 2x2 pixels; a last odd row or column is left out.

    The same as `flax.linen.max_pool(x, (2, 2), (2, 2))`, of which the gradient takes thirty times
    as long on a CPU; equal largest pixels share the gradient here.

    Args:
      x: [batch, height, width, channels].

    Returns:
      [batch, height // 2, width // 2, channels].

    >>> max_pool_2x2(jnp.arange(12.0).reshape(1, 2, 6, 1)).ravel().tolist()
    [7.0, 9.0, 11.0]
    """
    windows = _windows(x)
    columns = jnp.maximum(windows[:, :, 0], windows[:, :, 1])
    return jnp.maximum(columns[..., 0, :], columns[..., 1, :])


def _windows(x: jax.Array) -> jax.Array:
    """[batch, height // 2, 2, width // 2, 2, channels]."""
    batch, height, width, channels = x.shape
    even = x[:, : height // 2 * 2, : width // 2 * 2]
    return even.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _max_pool_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return max_pool_2x2(x), x


def _max_pool_backward(x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    # Every share comes from a comparison of two. To divide by how many pixels equal the maximum is
    # not safe: XLA may compute it anew, rounded otherwise, and find none.
    def share(values: jax.Array, axis: int) -> jax.Array:
        other = jnp.flip(values, axis)
        larger, equal = (values > other).astype(g.dtype), (values == other).astype(g.dtype)
        return larger + equal / 2

    windows = _windows(x)
    columns = jnp.maximum(windows, jnp.flip(windows, 2))
    gradient = g[:, :, None, :, None] * share(windows, 2) * share(columns, 4)
    odd = [(0, side % 2) for side in x.shape[1:3]]
    even = gradient.reshape(len(x), 2 * g.shape[1], 2 * g.shape[2], -1)
    return (jnp.pad(even, ((0, 0), *odd, (0, 0))),)


max_pool_2x2.defvjp(_max_pool_forward, _max_pool_backward)


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
