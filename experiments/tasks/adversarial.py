"""Losses of a generator and a discriminator, from the logits of the discriminator."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

# Added to the squared norm of a gradient, whose root has no derivative at 0.
SMALLEST_SQUARE = 1e-12


class AdversarialLoss(NamedTuple):
    """A pair of losses of the discriminator's logits.

    Attributes:
      real: logits of real images -> the discriminator's loss of each.
      fake: logits of generated images -> the discriminator's loss of each.
      generator: logits of generated images -> the generator's loss of each.
      summary: one line about the loss, for the catalog.
      gradient_penalty: whether the discriminator's gradient is penalized.
    """

    real: Callable[[jax.Array], jax.Array]
    fake: Callable[[jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]
    summary: str
    gradient_penalty: bool = False


def penalties(discriminator: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    """Returns (|gradient of the logit with respect to the image| - 1)^2 of each image.

    Args:
      discriminator: from images to logits; each logit depends only on its own image.
      images: float32 [batch, height, width, channels], between real and generated ones.

    Returns:
      float32 [batch].

    Source: Gulrajani et al. 2017 (arXiv:1704.00028, section 4).
    """
    gradients = jax.grad(lambda images: discriminator(images).sum())(images)
    squares = jnp.square(gradients).sum((1, 2, 3))
    return jnp.square(jnp.sqrt(squares + SMALLEST_SQUARE) - 1.0)


# Each loss is a function of a logit, positive for images that look real.
LOSSES: dict[str, AdversarialLoss] = {
    # -log(1 - sigmoid(logit)) of the generator has no gradient at the start, so it takes
    # -log sigmoid(logit) (Goodfellow et al. 2014, arXiv:1406.2661, section 3).
    "non_saturating": AdversarialLoss(
        real=lambda logits: jax.nn.softplus(-logits),
        fake=jax.nn.softplus,
        generator=lambda logits: jax.nn.softplus(-logits),
        summary="Binary cross-entropy, with -log sigmoid(logit) for the generator.",
    ),
    # Lim and Ye 2017 (arXiv:1705.02894); Miyato et al. 2018 (arXiv:1802.05957, equations 16, 17).
    "hinge": AdversarialLoss(
        real=lambda logits: jax.nn.relu(1.0 - logits),
        fake=lambda logits: jax.nn.relu(1.0 + logits),
        generator=lambda logits: -logits,
        summary="Hinge loss of the discriminator (Lim and Ye 2017).",
    ),
    # Gulrajani et al. 2017 (arXiv:1704.00028, algorithm 1).
    "wasserstein": AdversarialLoss(
        real=lambda logits: -logits,
        fake=lambda logits: logits,
        generator=lambda logits: -logits,
        summary="Wasserstein loss with a gradient penalty (Gulrajani et al. 2017).",
        gradient_penalty=True,
    ),
}
