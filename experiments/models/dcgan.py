"""DCGAN: a generator of images and a discriminator (Radford et al. 2016, arXiv:1511.06434).

Both change the size of the image by a factor of four, in two steps, so that images of 8x8 to about
64x64 pixels fit. The published network does so in four steps, for images of 64x64.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.layers import BatchNorm, Conv, ModuleDef, scaled

SIDE_MULTIPLE = 4  # the sides of an image must be multiples of this
UPSAMPLING = ("pixel_shuffle", "transposed")
LEAK = 0.2  # slope of the discriminator's ReLU below 0


def pixel_shuffle(x: jax.Array) -> jax.Array:
    """Rearranges groups of four channels into blocks of 2x2 pixels (Shi et al. 2016).

    Args:
      x: [batch, height, width, 4 channels].

    Returns:
      [batch, 2 height, 2 width, channels].

    >>> pixel_shuffle(jnp.arange(4).reshape(1, 1, 1, 4)).squeeze().tolist()
    [[0, 1], [2, 3]]
    """
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height, width, 2, 2, channels // 4)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels // 4)


class Generator(nn.Module):
    """Maps noise to images: a linear layer, and two doublings of the size.

    Attributes:
      image_shape: height, width, and channels of an image; the sides are multiples of 4.
      width_multiplier: multiplies the published numbers of filters, 128 and 64.
      upsampling: "pixel_shuffle" (a 3x3 convolution to four times the channels, which become
        pixels) or "transposed" (a 4x4 transposed convolution, as published, with the native kernels
        of XLA).
      conv: convolution.
      norm: normalization.
      dtype: dtype of the computation; parameters are float32.
    """

    image_shape: tuple[int, int, int]
    width_multiplier: float = 1.0
    upsampling: str = "pixel_shuffle"
    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, noise: jax.Array, *, train: bool) -> jax.Array:
        """Maps noise [batch, latent_size] to float32 images in -1..1 [batch, h, w, channels]."""
        height, width, channels = self.image_shape
        filters = [scaled(number, self.width_multiplier) for number in (128, 64)]
        small = height // SIDE_MULTIPLE, width // SIDE_MULTIPLE
        x = nn.Dense(
            small[0] * small[1] * filters[0], use_bias=False, dtype=self.dtype, name="project"
        )(noise)
        x = x.reshape(len(noise), *small, filters[0])
        x = nn.relu(self.norm(use_running_average=not train, name="norm0")(x))
        x = self._doubled(x, filters[1], name="conv1")
        x = nn.relu(self.norm(use_running_average=not train, name="norm1")(x))
        x = self._doubled(x, channels, use_bias=True, name="conv2")
        return jnp.tanh(x.astype(jnp.float32))

    def _doubled(
        self, x: jax.Array, filters: int, *, use_bias: bool = False, name: str
    ) -> jax.Array:
        if self.upsampling == "pixel_shuffle":
            return pixel_shuffle(self.conv(4 * filters, (3, 3), use_bias=use_bias, name=name)(x))
        layer = nn.ConvTranspose(
            filters, (4, 4), (2, 2), use_bias=use_bias, dtype=self.dtype, name=name
        )
        return layer(x)


class Discriminator(nn.Module):
    """Maps images to logits: two strided convolutions and a linear layer.

    Attributes:
      width_multiplier: multiplies the numbers of filters, 64 and 128.
      spectral_norm: whether to divide every kernel by its largest singular value (Miyato et al.
        2018, arXiv:1802.05957).
      conv: convolution.
      norm: normalization after the second convolution, or None for none.
    """

    width_multiplier: float = 1.0
    spectral_norm: bool = False
    conv: ModuleDef = Conv
    norm: ModuleDef | None = BatchNorm

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to float32 logits [batch]."""
        x = images
        for step, number in enumerate((64, 128), start=1):
            # The published network normalizes all layers but the first.
            norm = self.norm if step > 1 else None
            layer = self.conv(
                scaled(number, self.width_multiplier),
                (4, 4),
                (2, 2),
                padding=((1, 1), (1, 1)),
                use_bias=norm is None,
                name=f"conv{step}",
            )
            x = self._apply(layer, x, train=train)
            if norm is not None:
                x = norm(use_running_average=not train, name=f"norm{step}")(x)
            x = nn.leaky_relu(x, LEAK)
        head = nn.Dense(1, name="head")
        return self._apply(head, x.astype(jnp.float32).reshape(len(x), -1), train=train)[:, 0]

    def _apply(self, layer: nn.Module, x: jax.Array, *, train: bool) -> jax.Array:
        if not self.spectral_norm:
            return layer(x)
        return nn.SpectralNorm(layer, name=f"spectral_{layer.name}")(x, update_stats=train)
