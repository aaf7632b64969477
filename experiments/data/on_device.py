"""Applies preprocessing to images on the device, as a function that jax can trace.

Training preprocesses a data set once, on the host. These functions compute the same in float32.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.data import preprocess
from experiments.data.preprocess import Fitted, Step
from experiments.errors import UserError

LEVELS = 255.0  # the brightest pixel value


def chain(steps: Mapping[str, Step], fitted: Sequence[Fitted]) -> Callable[[jax.Array], jax.Array]:
    """Returns the function that applies steps in order.

    Args:
      steps: the steps by name. One that is not in `TRACEABLE` is called as it is, so under `jit`
        it must be written with operations that jax traces.
      fitted: what each step was fitted to.

    Returns:
      A function from images [batch, height, width, channels] to float32 images of that shape.
    """

    def apply(images: jax.Array) -> jax.Array:
        for (name, step), arguments in zip(steps.items(), fitted, strict=True):
            if name in TRACEABLE:
                images = TRACEABLE[name](images, *arguments)
            else:
                images = _own(name, step, images, arguments)
        return preprocess.as_float32(images)

    return apply


def _own(name: str, step: Step, images: jax.Array, arguments: Fitted) -> jax.Array:
    if not isinstance(images, jax.core.Tracer):
        return jnp.asarray(step.apply(np.asarray(images), *arguments))
    try:
        return jnp.asarray(step.apply(images, *arguments))
    except jax.errors.TracerArrayConversionError as error:
        raise UserError(
            f"the preprocessing step {name!r} uses NumPy, so jax cannot compile it; call the "
            "network outside of jit, or write the step with operations of jax.numpy"
        ) from error


def _subtract(images: jax.Array, mean: np.ndarray) -> jax.Array:
    return images.astype(jnp.float32) - mean


def _global_contrast(images: jax.Array) -> jax.Array:
    axes = (1, 2, 3)
    images = images.astype(jnp.float32)
    centered = images - images.mean(axes, keepdims=True)
    std = jnp.sqrt(jnp.square(centered).mean(axes, keepdims=True))
    return centered / jnp.maximum(std, preprocess.SMALLEST_DEVIATION)


def _stretched(images: jax.Array) -> jax.Array:
    images = images.astype(jnp.float32)
    low, high = jnp.percentile(
        images, jnp.array(preprocess.PERCENTILES, jnp.float32), axis=(1, 2, 3), keepdims=True
    )
    width = jnp.where(low < high, high - low, 1.0)
    return jnp.where(low < high, (jnp.clip(images, low, high) - low) / width * LEVELS, images)


def _whiten(images: jax.Array, mean: np.ndarray, matrix: np.ndarray) -> jax.Array:
    flat = images.reshape(len(images), -1).astype(jnp.float32) - mean[np.newaxis]
    return jnp.matmul(flat, matrix, precision="highest").reshape(images.shape)


# By the names of `preprocess.STEPS`: (images, what the step was fitted to) -> float32 images.
TRACEABLE: dict[str, Callable[..., jax.Array]] = {
    "contrast_stretching": _stretched,
    "global_contrast_normalization": _global_contrast,
    "pixel_mean": _subtract,
    "standardize": preprocess.standardize,
    "zca": _whiten,
}
