"""Flax Linen models: images in, logits out. Nothing outside this package imports Linen."""

from flax.linen import Module

__all__ = ["Module"]
