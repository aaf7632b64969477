"""Gradients of a batch from micro-batches that are processed one after another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.program.steps import Examples

# (batch_stats, key, batch) -> (gradients, batch_stats, metrics)
GradientFunction = Callable[[Any, jax.Array, Examples], tuple[Any, Any, Any]]


def accumulate(
    gradients_of: GradientFunction,
    accumulate_steps: int,
    *,
    params: Any,
    batch_stats: Any,
    key: jax.Array,
    batch: Examples,
    no_metrics: Any,
) -> tuple[Any, Any, Any]:
    """Averages gradients over the micro-batches of a batch.

    Args:
      gradients_of: gradients, new batch statistics, and metrics of one micro-batch.
      accumulate_steps: number of micro-batches; it divides the batch.
      params: the parameters, for the shapes of the gradients.
      batch_stats: batch statistics before the step; each micro-batch updates them in turn.
      key: typed PRNG key; each micro-batch gets its own key, split from it.
      batch: arrays with a leading axis of examples.
      no_metrics: the metrics of no examples.

    Returns:
      Mean gradients, the last batch statistics, and the metrics of the whole batch.
    """
    if accumulate_steps == 1:
        return gradients_of(batch_stats, key, batch)

    def micro_batches(examples: jax.Array) -> jax.Array:
        # Take every k-th example, so that each device holds part of every micro-batch.
        split = examples.reshape(-1, accumulate_steps, *examples.shape[1:])
        return jnp.moveaxis(split, 1, 0)

    def body(
        carry: tuple[Any, Any, Any], piece: tuple[jax.Array, Examples]
    ) -> tuple[tuple[Any, Any, Any], None]:
        sums, batch_stats, metrics = carry
        gradients, batch_stats, piece_metrics = gradients_of(batch_stats, *piece)
        sums = jax.tree.map(jnp.add, sums, gradients)
        return (sums, batch_stats, metrics.merge(piece_metrics)), None

    before = (jax.tree.map(jnp.zeros_like, params), batch_stats, no_metrics)
    keys = jax.random.split(key, accumulate_steps)
    pieces = (keys, jax.tree.map(micro_batches, batch))
    (sums, batch_stats, metrics), _ = jax.lax.scan(body, before, pieces)
    return jax.tree.map(lambda total: total / accumulate_steps, sums), batch_stats, metrics
