"""The transformer attention block of naveen2024, section 2.2, beside or before a backbone."""

import functools
import math
import os
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.layers import Conv, ModuleDef


def attend(
    query: jax.Array, key: jax.Array, value: jax.Array, *, causal: bool = False
) -> jax.Array:
    """Computes dot-product attention, with cuDNN where possible.

    An `attention_fn` for `flax.linen.MultiHeadAttention`. cuDNN's fused kernel does not store the
    attention weights, but it supports half precision only. The softmax is in float32 either way.

    Args:
      query: [batch, tokens, heads, head_size].
      key: same shape as `query`.
      value: same shape as `query`.
      causal: whether a token attends only to itself and to the tokens before it.

    Returns:
      The attended values, with the shape and dtype of `query`.
    """
    by_xla = _causal_by_xla if causal else _by_xla
    if query.dtype != jnp.bfloat16 or not _cudnn_can(*query.shape[1:]):
        return by_xla(query, key, value)
    # This device has cuDNN, but the program may be compiled for a different one.
    by_cudnn = functools.partial(_by_cudnn, is_causal=True) if causal else _by_cudnn
    return jax.lax.platform_dependent(query, key, value, cuda=by_cudnn, default=by_xla)


def _by_xla(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    # jax.nn.dot_product_attention requests a matmul algorithm that GPUs before Ampere lack.
    weights = nn.dot_product_attention_weights(query, key, force_fp32_for_softmax=True)
    return jnp.einsum("...hqk,...khd->...qhd", weights.astype(value.dtype), value)


def _causal_by_xla(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    # With heads before tokens, a CPU computes forward and backward in 60% of the time.
    query, key, value = (jnp.swapaxes(each, -3, -2) for each in (query, key, value))
    scores = jnp.einsum("...qd,...kd->...qk", query, key, preferred_element_type=jnp.float32)
    allowed = jnp.broadcast_to(jnp.tril(jnp.ones(scores.shape[-2:], jnp.bool)), scores.shape)
    scores = jnp.where(allowed, scores / math.sqrt(query.shape[-1]), -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1)
    attended = jnp.einsum("...qk,...kd->...qd", weights.astype(value.dtype), value)
    return jnp.swapaxes(attended, -3, -2)


_by_cudnn = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")


@functools.cache
def _cudnn_can(tokens: int, heads: int, head_size: int) -> bool:
    """Returns whether the default device compiles cuDNN attention and its gradient at this size."""
    # With this flag, the gradient of cuDNN's kernel compiles, but fails when it runs (jaxlib 0.11).
    if re.search(r"--xla_gpu_deterministic_ops(=true|=1|\s|$)", os.environ.get("XLA_FLAGS", "")):
        return False
    query = jax.ShapeDtypeStruct((1, tokens, heads, head_size), jnp.bfloat16)

    def forward_and_backward(query: jax.Array, key: jax.Array, value: jax.Array) -> Any:
        attended, pull_back = jax.vjp(_by_cudnn, query, key, value)
        return pull_back(attended)

    # Support depends on cuDNN's version, the chip, and the sizes, and is documented only in part.
    # Compiling is the only reliable test, and a failure must not end the run.
    try:
        jax.jit(forward_and_backward).lower(query, query, query).compile()
    except (RuntimeError, ValueError):
        return False
    return True


class PatchTransformer(nn.Module):
    """One transformer encoder block over the patches of an image.

    Embeds patches as tokens, adds a learned position embedding, and applies multi-head
    self-attention and a multilayer perceptron, each with a preceding layer norm and a residual
    connection (Dosovitskiy et al. 2021, arXiv:2010.11929, equations 1-4, without a class token).

    Attributes:
      patch_size: side of a square patch, in pixels; must divide the image's height and width.
      width: size of a token.
      num_heads: number of attention heads; must divide `width`.
      mlp_width: size of the perceptron's hidden layer.
      conv: convolution that embeds the patches, which also sets the dtype of the computation.
    """

    patch_size: int
    width: int
    num_heads: int
    mlp_width: int
    conv: ModuleDef = Conv

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps float images [batch, height, width, channels] to tokens [batch, patches, width]."""
        patch = (self.patch_size, self.patch_size)
        tokens = self.conv(self.width, patch, patch, padding="VALID", name="patches")(images)
        dtype = tokens.dtype
        tokens = tokens.reshape(tokens.shape[0], -1, self.width)
        positions = self.param(
            "positions", nn.initializers.normal(0.02), (1, tokens.shape[1], self.width), jnp.float32
        )
        tokens = tokens + positions.astype(dtype)
        attended = nn.MultiHeadAttention(
            self.num_heads, dtype=dtype, attention_fn=attend, name="attention"
        )(nn.LayerNorm(dtype=dtype, name="attention_norm")(tokens))
        tokens = tokens + attended
        hidden = nn.Dense(self.mlp_width, dtype=dtype, name="mlp_in")(
            nn.LayerNorm(dtype=dtype, name="mlp_norm")(tokens)
        )
        tokens = tokens + nn.Dense(self.width, dtype=dtype, name="mlp_out")(nn.gelu(hidden))
        return nn.LayerNorm(dtype=dtype, name="norm")(tokens)


class AttentionBeside(nn.Module):
    """Concatenates the mean of a transformer's tokens to a backbone's features.

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
    """Adds a transformer's output to the images before a backbone.

    'One multi-head attention transformer before the 48 convolution layers' (naveen2024, section
    2.2): a linear layer maps each token to the pixels of its patch. The layer starts at zero, so
    the backbone initially sees the unchanged images.

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
        tokens = self.transformer(images)
        pixels = nn.Dense(
            patch * patch * channels,
            kernel_init=nn.initializers.zeros,
            dtype=tokens.dtype,
            name="pixels",
        )(tokens)
        grid = (batch, height // patch, width // patch, patch, patch, channels)
        change = pixels.reshape(grid).transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)
        return self.backbone(images + change, train=train)
