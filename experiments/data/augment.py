"""Random crops and flips, on the device, inside the compiled step.

The pipeline of Zagoruyko and Komodakis 2016 (arXiv:1605.07146, section 3): horizontal flips, and
crops from images padded on each side with their own reflection.
"""

import jax
import jax.numpy as jnp


def random_crop(key: jax.Array, images: jax.Array, padding: int) -> jax.Array:
    """Shifts each image by up to `padding` pixels each way, filling in reflections.

    Args:
      key: typed PRNG key.
      images: [batch, height, width, channels], any dtype.
      padding: pixels of padding on each side, less than the height and the width.

    Returns:
      Images of the same shape and dtype.
    """
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, sides, mode="reflect")
    offsets = jax.random.randint(key, (images.shape[0], 2), 0, 2 * padding + 1)

    def crop(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), images.shape[1:])

    return jax.vmap(crop)(padded, offsets)


def random_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability one half.

    Args:
      key: typed PRNG key.
      images: [batch, height, width, channels], any dtype.

    Returns:
      Images of the same shape and dtype.
    """
    mirrored = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def crop_and_flip(key: jax.Array, images: jax.Array, *, padding: int, flip: bool) -> jax.Array:
    """A random crop and, where a mirrored image keeps its class, a random flip.

    Args:
      key: typed PRNG key; the same key gives the same images.
      images: [batch, height, width, channels], any dtype.
      padding: pixels of padding on each side; 0 for no crop.
      flip: whether to flip.

    Returns:
      Images of the same shape and dtype.
    """
    crop_key, flip_key = jax.random.split(key)
    if padding:
        images = random_crop(crop_key, images, padding)
    if flip:
        images = random_flip(flip_key, images)
    return images
