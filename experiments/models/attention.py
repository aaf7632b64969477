"""The transformer attention block of naveen2024, section 2.2, beside a backbone or before it."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.layers import Conv


def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Attention in the form of `flax.linen.MultiHeadAttention`, by cuDNN where that is possible.

    cuDNN computes it in one kernel, without the weights in memory, and takes half precision alone.
    Either way the softmax is float32's.

    Args:
      query: [batch, tokens, heads, head_size].
      key: as `query`.
      value: as `query`.

    Returns:
      The attended values, as `query`.
    """
    if query.dtype != jnp.bfloat16 or not _cudnn_can(*query.shape[1:]):
        return _by_xla(query, key, value)
    # The device here has cuDNN, but the program may be compiled for another.
    return jax.lax.platform_dependent(query, key, value, cuda=_by_cudnn, default=_by_xla)


def _by_xla(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    # That of jax.nn asks for an algorithm of products that GPUs before Ampere do not have.
    weights = nn.dot_product_attention_weights(query, key, force_fp32_for_softmax=True)
    return jnp.einsum("...hqk,...khd->...qhd", weights.astype(value.dtype), value)


_by_cudnn = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")


@functools.cache
def _cudnn_can(tokens: int, heads: int, head_size: int) -> bool:
    """Whether the default device compiles cuDNN's attention and its gradient for these sizes."""
    query = jax.ShapeDtypeStruct((1, tokens, heads, head_size), jnp.bfloat16)

    def forward_and_backward(query: jax.Array, key: jax.Array, value: jax.Array) -> Any:
        attended, pull_back = jax.vjp(_by_cudnn, query, key, value)
        return pull_back(attended)

    # What cuDNN takes depends on its version, on the chip and on the sizes, and only part of it is
    # known before it is asked; a run must not end because it was refused.
    try:
        jax.jit(forward_and_backward).lower(query, query, query).compile()
    except (RuntimeError, ValueError):
        return False
    return True


class PatchTransformer(nn.Module):
    """One transformer encoder block over the patches of an image.

    Patch tokens with a learned position embedding, then multi-head self-attention and a multilayer
    perceptron, each behind a layer norm and beside a residual connection (Dosovitskiy et al. 2021,
    arXiv:2010.11929, equations 1-4, without a class token).

    Attributes:
      patch_size: side of a square patch, in pixels; must divide the image's height and width.
      width: size of a token.
      num_heads: number of attention heads; must divide `width`.
      mlp_width: size of the perceptron's hidden layer.
      dtype: dtype of the computation; parameters are float32.
    """

    patch_size: int
    width: int
    num_heads: int
    mlp_width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps float images [batch, height, width, channels] to tokens [batch, patches, width]."""
        patch = (self.patch_size, self.patch_size)
        tokens = Conv(self.width, patch, patch, padding="VALID", dtype=self.dtype, name="patches")(
            images
        )
        tokens = tokens.reshape(tokens.shape[0], -1, self.width)
        positions = self.param(
            "positions", nn.initializers.normal(0.02), (1, tokens.shape[1], self.width), jnp.float32
        )
        tokens = tokens + positions.astype(self.dtype)
        attended = nn.MultiHeadAttention(
            self.num_heads, dtype=self.dtype, attention_fn=attend, name="attention"
        )(nn.LayerNorm(dtype=self.dtype, name="attention_norm")(tokens))
        tokens = tokens + attended
        hidden = nn.Dense(self.mlp_width, dtype=self.dtype, name="mlp_in")(
            nn.LayerNorm(dtype=self.dtype, name="mlp_norm")(tokens)
        )
        tokens = tokens + nn.Dense(self.width, dtype=self.dtype, name="mlp_out")(nn.gelu(hidden))
        return nn.LayerNorm(dtype=self.dtype, name="norm")(tokens)


class AttentionBeside(nn.Module):
    """A backbone's features with the mean over a transformer's tokens concatenated to them.

    'We added a mean pooling layer after the transformer, and concatenated it to the initial
    ResNet50' (naveen2024, section 2.2).

    Attributes:
      backbone: module from images to features, called as `backbone(images, train=train)`.
      transformer: module from images to tokens, called as `transformer(images)`.
    """

    backbone: nn.Module
    transformer: nn.Module

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        features = self.backbone(images, train=train)
        return jnp.concatenate([features, self.transformer(images).mean(axis=1)], axis=-1)


class AttentionBefore(nn.Module):
    """A backbone on images to which what a transformer sees in them is added.

    'One multi-head attention transformer before the 48 convolution layers' (naveen2024, section
    2.2): every token is mapped linearly to the pixels of its patch. The map begins at zero, so
    that the backbone begins on the images themselves.

    Attributes:
      backbone: module from images to features, called as `backbone(images, train=train)`.
      transformer: module from images to tokens, called as `transformer(images)`.
    """

    backbone: nn.Module
    transformer: PatchTransformer

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, height, width, channels] to features [batch, features]."""
        batch, height, width, channels = images.shape
        patch = self.transformer.patch_size
        pixels = nn.Dense(
            patch * patch * channels,
            kernel_init=nn.initializers.zeros,
            dtype=self.transformer.dtype,
            name="pixels",
        )(self.transformer(images))
        grid = (batch, height // patch, width // patch, patch, patch, channels)
        seen = pixels.reshape(grid).transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)
        return self.backbone(images + seen, train=train)
