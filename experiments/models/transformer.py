"""A decoder-only transformer: from tokens to the logits of the next ones."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.attention import attend

EMBEDDING_INIT = nn.initializers.normal(0.02)
MLP_FACTOR = 4


class Transformer(nn.Module):
    """GPT-2's network without biases, initialized like it.

    Learned embeddings of tokens and positions; blocks of causal self-attention and a multilayer
    perceptron with GELU, each with a preceding layer norm and a residual connection; a last layer
    norm and a linear layer. Weights start as normal numbers with standard deviation 0.02. In the
    layers that end a residual branch, it is divided by the root of the number of branches (Radford
    et al. 2019, Language models are unsupervised multitask learners, section 2.3). Dropout acts on
    the embeddings and on the result of each branch, but not on the attention weights.

    Attributes:
      vocabulary_size: number of different tokens.
      context_length: the largest number of tokens that attend to each other.
      num_layers: number of blocks.
      num_heads: number of attention heads; must divide `width`.
      width: size of an embedding.
      dropout_rate: probability that a value is dropped during training.
      tied_embeddings: whether the last linear layer is the transposed embedding of tokens.
      dtype: dtype of the computation. Parameters, sums of layer norms, and logits are float32.
    """

    vocabulary_size: int
    context_length: int
    num_layers: int
    num_heads: int
    width: int
    dropout_rate: float = 0.0
    tied_embeddings: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, *, train: bool) -> jax.Array:
        """Maps tokens to logits of the token after each of them.

        Args:
          tokens: int32 [batch, length], with a length of at most `context_length`.
          train: whether to drop values; needs the random key "dropout" if the rate is above 0.

        Returns:
          float32 [batch, length, vocabulary_size].
        """
        embed = nn.Embed(
            self.vocabulary_size,
            self.width,
            dtype=self.dtype,
            embedding_init=EMBEDDING_INIT,
            name="tokens",
        )
        positions = self.param(
            "positions", EMBEDDING_INIT, (1, self.context_length, self.width), jnp.float32
        )
        x = embed(tokens) + positions[:, : tokens.shape[1]].astype(self.dtype)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        for index in range(self.num_layers):
            x = Block(
                self.num_heads,
                num_branches=2 * self.num_layers,
                dropout_rate=self.dropout_rate,
                dtype=self.dtype,
                name=f"block{index + 1}",
            )(x, train=train)
        x = _norm(self.dtype, "norm")(x).astype(jnp.float32)
        if self.tied_embeddings:
            return x @ embed.embedding.T
        return _dense(self.vocabulary_size, jnp.float32, "head")(x)


class Block(nn.Module):
    """Causal self-attention, and then a multilayer perceptron, each added to its input.

    Attributes:
      num_heads: number of attention heads.
      num_branches: number of residual branches of the whole network.
      dropout_rate: probability that a value of a branch's result is dropped during training.
      dtype: dtype of the computation.
    """

    num_heads: int
    num_branches: int
    dropout_rate: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [batch, length, width] to the same shape."""
        batch, length, width = x.shape
        deviation = 0.02 / math.sqrt(self.num_branches)
        drop = nn.Dropout(self.dropout_rate, deterministic=not train)

        y = _norm(self.dtype, "attention_norm")(x)
        y = _dense(3 * width, self.dtype, "query_key_value")(y)
        heads = y.reshape(batch, length, 3, self.num_heads, width // self.num_heads)
        y = attend(*jnp.moveaxis(heads, 2, 0), causal=True).reshape(x.shape)
        x = x + drop(_dense(width, self.dtype, "attention_out", deviation)(y))

        y = _norm(self.dtype, "mlp_norm")(x)
        y = nn.gelu(_dense(MLP_FACTOR * width, self.dtype, "mlp_in")(y))
        return x + drop(_dense(width, self.dtype, "mlp_out", deviation)(y))


def _dense(features: int, dtype: Any, name: str, deviation: float = 0.02) -> nn.Dense:
    return nn.Dense(
        features,
        use_bias=False,
        dtype=dtype,
        kernel_init=nn.initializers.normal(deviation),
        name=name,
    )


def _norm(dtype: Any, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_bias=False, dtype=dtype, name=name)
