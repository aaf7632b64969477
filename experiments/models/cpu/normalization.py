"""Batch norm of bfloat16 images, with a gradient that is fast on a CPU."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

Statistics = tuple[jax.Array, jax.Array]


class BatchNorm(nn.BatchNorm):
    """Linen's batch norm, with its own gradient for training in bfloat16 on a CPU.

    Linen's gradient makes several passes over float32 copies of the images. This one makes two over
    the bfloat16 images, as the result does. Sums and statistics are float32. Parameters and
    statistics have Linen's names. Under `pmap`, which names an axis, Linen's own is used.
    """

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Normalizes images [batch, height, width, channels] over all but the last axis."""
        evaluates = nn.merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        own = x.dtype == self.dtype == jnp.bfloat16 and x.ndim == 4
        plain = self.axis_name is None and mask is None
        if evaluates or self.is_initializing() or not (own and plain):
            return super().__call__(x, use_running_average, mask=mask)
        features = x.shape[-1:]
        scale = self.param("scale", self.scale_init, features, self.param_dtype)
        bias = self.param("bias", self.bias_init, features, self.param_dtype)
        result, (mean, variance) = _normalize(x, scale, bias, self.epsilon)
        for name, value in (("mean", mean), ("var", variance)):
            average = self.variable("batch_stats", name, jnp.zeros, features)
            average.value = self.momentum * average.value + (1 - self.momentum) * value
        return result


def _by_definition(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, Statistics]:
    """Computes what Linen computes."""
    images = x.astype(jnp.float32)
    mean = images.mean((0, 1, 2))
    variance = jnp.maximum(0.0, (images * images).mean((0, 1, 2)) - mean * mean)
    factor = lax.rsqrt(variance + epsilon) * scale
    result = (images - _channels(mean)) * _channels(factor) + _channels(bias)
    return result.astype(x.dtype), (mean, variance)


_normalize = jax.custom_vjp(_by_definition, nondiff_argnums=(3,))


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> tuple[Any, Any]:
    result, (mean, variance) = _by_definition(x, scale, bias, epsilon)
    return (result, (mean, variance)), (x, scale, bias, mean, variance)


def _backward(epsilon: float, saved: Any, gradients: Any) -> tuple[jax.Array, ...]:
    def by_definition(x: jax.Array, scale: jax.Array, bias: jax.Array, *saved: Any) -> Any:
        *_, gradients = saved
        _, pull_back = jax.vjp(
            lambda x, scale, bias: _by_definition(x, scale, bias, epsilon), x, scale, bias
        )
        return pull_back(gradients)

    def on_cpu(
        x: jax.Array,
        scale: jax.Array,
        bias: jax.Array,
        mean: jax.Array,
        variance: jax.Array,
        gradients: Any,
    ) -> Any:
        g, (of_mean, of_variance) = gradients
        count = x.size // x.shape[-1]
        reciprocal = lax.rsqrt(variance + epsilon)
        pixels = g.astype(jnp.float32)
        of_bias = pixels.sum((0, 1, 2))
        products = (pixels * x.astype(jnp.float32)).sum((0, 1, 2))
        of_scale = (products - mean * of_bias) * reciprocal
        # The gradient is linear in the images and in the gradient of the result, pixel by pixel.
        factor = scale * reciprocal
        slope = (2 * of_variance - factor * of_scale * reciprocal) / count
        # `mean` also enters the gradient of the variance, through its square.
        offset = (of_mean - factor * of_bias) / count - slope * mean
        of_x = pixels * _channels(factor) + x.astype(jnp.float32) * _channels(slope)
        return (of_x + _channels(offset)).astype(x.dtype), of_scale, of_bias

    return lax.platform_dependent(*saved, gradients, cpu=on_cpu, default=by_definition)


_normalize.defvjp(_forward, _backward)


def _channels(values: jax.Array) -> jax.Array:
    """Reshapes a value per channel so that it combines with images."""
    return values.reshape(1, 1, 1, -1)
