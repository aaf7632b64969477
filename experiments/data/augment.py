"""Random crops and flips, on the device, inside the compiled step.

The pipeline of Zagoruyko and Komodakis 2016 (arXiv:1605.07146, section 3): horizontal flips, and
crops from images padded on each side with their own reflection.
"""

import jax
import jax.numpy as jnp


def random_crop(
    key: jax.Array, images: jax.Array, padding: int, axis_name: str | None = None
) -> jax.Array:
    """Shifts each image by up to `padding` pixels each way, filling in reflections.

    Args:
      key: typed PRNG key.
      images: [batch, height, width, channels], any dtype.
      padding: pixels of padding on each side, less than the height and the width.
      axis_name: the mapped axis whose devices share the batch.

    Returns:
      Images of the same shape and dtype.
    """
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, sides, mode="reflect")
    num_images = _whole_batch(images, axis_name)
    offsets = jax.random.randint(key, (num_images, 2), 0, 2 * padding + 1)
    offsets = _own(offsets, images, axis_name)

    def crop(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), images.shape[1:])

    return jax.vmap(crop)(padded, offsets)


def random_flip(key: jax.Array, images: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Mirrors each image left to right with probability one half.

    Args:
      key: typed PRNG key.
      images: [batch, height, width, channels], any dtype.
      axis_name: the mapped axis whose devices share the batch.

    Returns:
      Images of the same shape and dtype.
    """
    num_images = _whole_batch(images, axis_name)
    mirrored = jax.random.bernoulli(key, shape=(num_images, 1, 1, 1))
    return jnp.where(_own(mirrored, images, axis_name), images[:, :, ::-1], images)


def _whole_batch(images: jax.Array, axis_name: str | None) -> int:
    """The images of all devices, for which random numbers are drawn wherever they are used."""
    return len(images) * (jax.lax.axis_size(axis_name) if axis_name else 1)


def _own(drawn: jax.Array, images: jax.Array, axis_name: str | None) -> jax.Array:
    """What was drawn for these images, among the draws for the whole batch."""
    if axis_name is None:
        return drawn
    first = jax.lax.axis_index(axis_name) * len(images)
    return jax.lax.dynamic_slice_in_dim(drawn, first, len(images))


def crop_and_flip(
    key: jax.Array,
    images: jax.Array,
    *,
    padding: int,
    flip: bool,
    axis_name: str | None = None,
) -> jax.Array:
    """A random crop and, where a mirrored image keeps its class, a random flip.

    Args:
      key: typed PRNG key; the same key gives the same images.
      images: [batch, height, width, channels], any dtype.
      padding: pixels of padding on each side; 0 for no crop.
      flip: whether to flip.
      axis_name: the mapped axis whose devices share the batch, each with its own images of it; the
        same key gives the same images as without.

    Returns:
      Images of the same shape and dtype.
    """
    crop_key, flip_key = jax.random.split(key)
    if padding:
        images = random_crop(crop_key, images, padding, axis_name)
    if flip:
        images = random_flip(flip_key, images, axis_name)
    return images
