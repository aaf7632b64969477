"""The JAX peer: the same networks built from stock Flax layers, one compiled step per dispatch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

STAGE_SIZES = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
Variables = Any
Step = Callable[
    [Variables, optax.OptState, jax.Array, jax.Array], tuple[Variables, optax.OptState, jax.Array]
]


class ResNet(nn.Module):
    """A residual network of basic blocks for small images."""

    stage_sizes: Sequence[int]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [batch, height, width, channels] to logits."""
        conv = partial(nn.Conv, use_bias=False, padding=1, dtype=self.dtype)
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, dtype=self.dtype)
        x = nn.relu(norm()(conv(64, (3, 3))(x.astype(self.dtype))))
        for stage, num_blocks in enumerate(self.stage_sizes):
            for index in range(num_blocks):
                filters, strides = 64 * 2**stage, 2 if stage > 0 and index == 0 else 1
                y = nn.relu(norm()(conv(filters, (3, 3), strides)(x)))
                y = norm(scale_init=nn.initializers.zeros)(conv(filters, (3, 3))(y))
                if x.shape != y.shape:
                    x = norm()(conv(filters, (1, 1), strides, padding=0)(x))
                x = nn.relu(x + y)
        return nn.Dense(10)(x.mean(axis=(1, 2)).astype(jnp.float32))


class LeNet(nn.Module):
    """LeNet in Caffe's form: 5x5 convolutions with 20 and 50 filters, and 500 hidden units."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [batch, height, width, channels] to logits."""
        for filters in (20, 50):
            x = nn.Conv(filters, (5, 5), padding="VALID")(x)
            x = nn.relu(nn.max_pool(x, (2, 2), (2, 2)))
        x = nn.relu(nn.Dense(500)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


class NN2(nn.Module):
    """Two hidden layers of 500 units."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps images [batch, height, width, channels] to logits."""
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(500)(x))
        return nn.Dense(10)(x)


def make_network(name: str, dtype: Any = jnp.float32) -> nn.Module:
    """Builds a network at full width, for ten classes.

    Args:
      name: a key of `STAGE_SIZES`, or "lenet4" or "nn2", as in a config.
      dtype: dtype of a residual network's computation; the others use float32.

    Returns:
      A module from images to logits.
    """
    if name in STAGE_SIZES:
        return ResNet(STAGE_SIZES[name], dtype)
    return {"lenet4": LeNet, "nn2": NN2}[name]()


def make_step(network: nn.Module, optimizer: optax.GradientTransformation) -> Step:
    """Compiles one update.

    Args:
      network: module from images to logits.
      optimizer: optax chain.

    Returns:
      A function from variables, optimizer state, images, and labels to new variables, new optimizer
      state, and the loss. It donates the first two arguments.
    """

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(
        variables: Variables, opt_state: optax.OptState, images: jax.Array, labels: jax.Array
    ) -> tuple[Variables, optax.OptState, jax.Array]:
        params = variables["params"]

        def mean_loss(params: Any) -> tuple[jax.Array, Any]:
            logits, changed = network.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), changed

        (loss, changed), gradients = jax.value_and_grad(mean_loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
        return {"params": params, **changed}, opt_state, loss

    return step
