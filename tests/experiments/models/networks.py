"""What the tests of the networks share: shapes of variables, and the layers of a real run."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.build import models
from experiments.build.models import make_layers
from experiments.models import googlenet, xception

KEY = jax.random.key(0)


FEW_BLOCKS = {
    "resnet10": {"stage_sizes": (1, 1)},
    "resnet34": {"stage_sizes": (1, 1, 1, 1)},
    "resnet50": {"stage_sizes": (1, 1, 1, 1)},
    "densenet100": {"block_sizes": (2, 2, 2)},
    "densenet121": {"block_sizes": (2, 2, 2, 2)},
}


def use_few_blocks(monkeypatch):
    """Shortens the deep networks for a test that traces them: their blocks are all alike."""
    for name, fields in FEW_BLOCKS.items():
        build = models.MODELS[name]
        monkeypatch.setitem(
            models.MODELS, name, partial(build.func, partial(*build.args, **fields))
        )
    few = {name: googlenet.BLOCKS[name] for name in ("3a", "4a", "4d", "5a")}
    monkeypatch.setattr(googlenet, "BLOCKS", few)
    monkeypatch.setattr(xception, "BLOCKS", (*xception.BLOCKS[:4], xception.BLOCKS[-1]))


def shapes_of(model, image_shape):
    """Returns the shapes and dtypes of a network's variables without computing them."""
    images = jnp.zeros((2, *image_shape))
    return jax.eval_shape(lambda key, x: model.init(key, x, train=True), KEY, images)


def randomized(shapes):
    """Returns random variables of these shapes, with which activations keep their scale."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        noise = rng.standard_normal(leaf.shape).astype(np.float32)
        if path[-1].key == "kernel":
            return noise * np.sqrt(2 / np.prod(leaf.shape[:-1])).astype(np.float32)
        if path[-1].key in ("scale", "var"):
            return 1 + 0.3 * np.tanh(noise)
        return 0.1 * noise

    return jax.tree_util.tree_map_with_path(draw, shapes)


def random_variables(model, image_shape):
    """Returns random parameters and running statistics without compiling the initialization."""
    shapes = shapes_of(model, image_shape)
    return randomized({name: shapes[name] for name in ("params", "batch_stats") if name in shapes})


def random_values(*shape):
    """Returns a float32 array of standard normal values."""
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


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
