"""Random crops and flips, on the device, inside the compiled step.

The pipeline of Zagoruyko and Komodakis 2016 (arXiv:1605.07146, section 3): horizontal flips, and
crops from images padded with reflections on each side.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def random_crop(
    key: jax.Array, images: jax.Array, padding: int, axis_name: str | None = None
) -> jax.Array:
    """Shifts each image by at most `padding` pixels in each direction, padding with reflections.

    Args:
      key: typed PRNG key.
      images: [batch, height, width, channels], any dtype.
      padding: pixels of padding on each side; less than the height and the width.
      axis_name: mapped axis whose devices share the batch, or None.

    Returns:
      Images of the same shape and dtype.
    """
    sides = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(images, sides, mode="reflect")
    num_images = _global_batch_size(images, axis_name)
    offsets = jax.random.randint(key, (num_images, 2), 0, 2 * padding + 1)
    offsets = _local(offsets, images, axis_name)

    def crop(image: jax.Array, offset: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (offset[0], offset[1], 0), images.shape[1:])

    return jax.vmap(crop)(padded, offsets)


def random_flip(key: jax.Array, images: jax.Array, axis_name: str | None = None) -> jax.Array:
    """Flips each image horizontally with probability one half.

    Args:
      key: typed PRNG key.
      images: [batch, height, width, channels], any dtype.
      axis_name: mapped axis whose devices share the batch, or None.

    Returns:
      Images of the same shape and dtype.
    """
    num_images = _global_batch_size(images, axis_name)
    flipped = jax.random.bernoulli(key, shape=(num_images, 1, 1, 1))
    return jnp.where(_local(flipped, images, axis_name), images[:, :, ::-1], images)


def _global_batch_size(images: jax.Array, axis_name: str | None) -> int:
    """Returns the number of images on all devices.

    Every device draws random numbers for all of them and uses its own part, so that augmentation
    does not depend on the number of devices.
    """
    return len(images) * (jax.lax.axis_size(axis_name) if axis_name else 1)


def _local(drawn: jax.Array, images: jax.Array, axis_name: str | None) -> jax.Array:
    """Returns this device's part of the random numbers drawn for the global batch."""
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
    """Crops and flips each image at random.

    Args:
      key: typed PRNG key; the same key gives the same images.
      images: [batch, height, width, channels], any dtype.
      padding: pixels of padding on each side; 0 disables cropping.
      flip: whether to flip; set it only if a mirrored image keeps its class.
      axis_name: mapped axis whose devices share the batch, or None. The images do not depend on the
        number of devices.

    Returns:
      Images of the same shape and dtype.
    """
    crop_key, flip_key = jax.random.split(key)
    if padding:
        images = random_crop(crop_key, images, padding, axis_name)
    if flip:
        images = random_flip(flip_key, images, axis_name)
    return images


# The augmentations of `crop_and_flip`, and the config fields of each besides `data.augment`.
AUGMENTATIONS: dict[str, tuple[Callable[..., jax.Array], tuple[str, ...]]] = {
    "random_crop": (random_crop, ("data.crop_padding",)),
    "random_flip": (random_flip, ()),
}
