"""Flax Linen models: images in, logits out."""
