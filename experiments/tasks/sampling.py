"""Draws a text from a language model, one token after another in one compiled program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data.text import Vocabulary
from experiments.errors import UserError
from experiments.program.state import key_data, make_key
from experiments.tasks.task import Sampling

LogitsOf = Callable[[Any, jax.Array], jax.Array]  # parameters, tokens -> logits


def continued(
    logits_of: LogitsOf,
    params: Any,
    vocabulary: Vocabulary,
    context_length: int,
    options: Sampling,
) -> str:
    """Returns a prompt and its continuation.

    Args:
      logits_of: from parameters and int32 tokens [1, context_length] to float32 logits of the
        token after each of them, [1, context_length, tokens].
      params: the parameters.
      vocabulary: the tokens.
      context_length: number of tokens in the input of the model.
      options: the prompt, and how to draw.

    Returns:
      The text.

    Raises:
      UserError: the prompt is empty, or has a character that the vocabulary lacks.
    """
    prompt = options.prompt
    if prompt is None:  # a text begins as if after the end of a line
        has_lines = vocabulary.characters is None or "\n" in vocabulary.characters
        prompt = "\n" if has_lines else vocabulary.decode(np.zeros(1, np.uint8))
    if not prompt:
        raise UserError("--prompt is empty; pass at least one character, or leave it out")
    begin = vocabulary.encode(prompt, "--prompt")
    tokens = np.zeros(max(context_length, begin.size + options.length), np.int32)
    tokens[: begin.size] = begin
    drawer = jax.jit(_drawer(logits_of, context_length, begin.size, options))
    drawn = drawer(params, *jax.device_put((tokens, key_data(options.seed))))
    return vocabulary.decode(jax.device_get(drawn)[: begin.size + options.length])


def _drawer(
    logits_of: LogitsOf, context_length: int, begin: int, options: Sampling
) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """Makes the function that replaces all tokens after the prompt by drawn ones."""

    def draw(params: Any, tokens: jax.Array, data: jax.Array) -> jax.Array:
        key = make_key(data)

        def body(place: jax.Array, tokens: jax.Array) -> jax.Array:
            # Attention is causal, so the tokens after the place do not matter.
            start = jnp.maximum(place - context_length, 0)
            window = jax.lax.dynamic_slice_in_dim(tokens, start, context_length)
            logits = logits_of(params, window[jnp.newaxis])[0, place - start - 1]
            token = _choose(logits, jax.random.fold_in(key, place), options)
            return tokens.at[place].set(token)

        return jax.lax.fori_loop(begin, begin + options.length, body, tokens)

    return draw


def _choose(logits: jax.Array, key: jax.Array, options: Sampling) -> jax.Array:
    """Draws a token from the softmax of its logits, float32 [tokens]."""
    if options.temperature == 0:
        return jnp.argmax(logits).astype(jnp.int32)
    if options.top_k is not None and options.top_k < logits.size:
        lowest = jax.lax.top_k(logits, options.top_k)[0][-1]
        logits = jnp.where(logits < lowest, -jnp.inf, logits)
    return jax.random.categorical(key, logits / options.temperature).astype(jnp.int32)
