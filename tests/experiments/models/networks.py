"""What the tests of the networks share: shapes of variables, and the layers of a real run."""

import functools

import jax
import jax.numpy as jnp

from experiments.build.models import make_layers

KEY = jax.random.key(0)


def shapes_of(model, image_shape):
    """Returns the shapes and dtypes of a network's variables without computing them."""
    images = jnp.zeros((2, *image_shape))
    return jax.eval_shape(lambda key, x: model.init(key, x, train=True), KEY, images)


def count(tree):
    """Returns the number of values in a tree of arrays."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def dtypes(tree):
    """Returns the dtypes in a tree of arrays."""
    return {str(leaf.dtype) for leaf in jax.tree.leaves(tree)}


@functools.cache
def injected(dtype=jnp.float32):
    """Returns the convolution and the norm that a run injects, as fields of a network."""
    layers = make_layers(dtype)
    return {"conv": layers.conv, "norm": layers.norm}
