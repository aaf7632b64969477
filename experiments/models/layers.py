"""Building blocks shared by all networks: the default layers and the classifier's head.

Convolution and normalization are injected: a network with convolutions has a field `conv`, and one
that normalizes has a field `norm`. Both are partials of Linen modules. They determine the dtype of
the computation, the implementation of convolution, and the devices that share batch statistics.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from experiments.models.cpu import normalization

ModuleDef = Callable[..., Any]  # a partial of a Linen module

Conv: ModuleDef = partial(
    nn.Conv,
    use_bias=False,
    # Fan-out initialization (He et al. 2015, arXiv:1502.01852), as in the reference ResNets.
    kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
)
BatchNorm: ModuleDef = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)
# Its gradient in bfloat16 is faster on a CPU. It does not share statistics over a mapped axis.
HalfBatchNorm: ModuleDef = partial(normalization.BatchNorm, momentum=0.9, epsilon=1e-5)

VARIANTS = ("cifar", "imagenet")  # a stem for images of about 32x32, or for 224x224


class Layers(NamedTuple):
    """The layers that a network is built from.

    Attributes:
      conv: convolution, called as `conv(features, kernel_size, strides, padding=...)`.
      norm: normalization, called as `norm(use_running_average=..., name=...)`.
      dtype: dtype of the computation, for layers other than these two; parameters are float32.
    """

    conv: ModuleDef = Conv
    norm: ModuleDef = BatchNorm
    dtype: Any = jnp.float32


@contextlib.contextmanager
def cumulative_batch_norm(num_before: jax.Array) -> Iterator[None]:
    """Makes every `nn.BatchNorm` average the statistics of all batches so far with equal weights.

    Outside this context, it keeps an exponential moving average with a fixed momentum. This is
    `momentum=None` of PyTorch's batch norm.

    Args:
      num_before: int32 scalar, number of batches whose mean the statistics are.

    Yields:
      The context, in which a network is traced.
    """

    def intercept(
        call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        module = context.module
        if not isinstance(module, nn.BatchNorm) or context.method_name != "__call__":
            return call(*args, **kwargs)
        before: dict[str, Any] = {
            name: module.get_variable("batch_stats", name) for name in ("mean", "var")
        }
        output = call(*args, **kwargs)
        if module.is_mutable_collection("batch_stats"):
            share = 1.0 / (num_before.astype(jnp.float32) + 1.0)
            for name, mean in before.items():
                moved: Any = module.get_variable("batch_stats", name)
                own = (moved - module.momentum * mean) / (1 - module.momentum)
                module.put_variable("batch_stats", name, (1 - share) * mean + share * own)
        return output

    with nn.intercept_methods(intercept):
        yield


def scaled(channels: int, multiplier: float) -> int:
    """Returns a published number of channels times a width multiplier, at least 1.

    >>> scaled(64, 0.25), scaled(64, 0.001)
    (16, 1)
    """
    return max(1, round(channels * multiplier))


class Classifier(nn.Module):
    """A linear layer on the features of a backbone.

    Attributes:
      backbone: module from images to features, called as `backbone(images, train=train)`.
      num_classes: number of logits.
    """

    backbone: nn.Module
    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """Maps float images [batch, h, w, channels] to float32 logits [batch, num_classes]."""
        features = self.backbone(images, train=train)
        return nn.Dense(self.num_classes, name="head")(features.astype(jnp.float32))
