"""Checks that steps of preprocessing may follow one another, and fit the images."""

from collections.abc import Iterable

import numpy as np

from experiments.errors import UserError

MAX_ZCA_VALUES = 64 * 64 * 3  # values per image; their covariance matrix takes 1.2 GB


def check(steps: Iterable[str]) -> None:
    """Checks that steps may follow one another.

    Args:
      steps: names of steps, in order of application.

    Raises:
      UserError: a name is repeated, or the order makes no sense.

    >>> check(("contrast_stretching", "standardize", "zca", "global_contrast_normalization"))
    >>> check(("zca", "standardize"))
    Traceback (most recent call last):
    experiments.errors.UserError: ...only global_contrast_normalization may follow zca...
    """
    earlier: list[str] = []
    for name in steps:
        if name in earlier:
            raise UserError(f"data.preprocess contains {name!r} twice; list each step once")
        if name == "contrast_stretching" and earlier:
            raise UserError(
                "data.preprocess must list 'contrast_stretching' first, before "
                f"{earlier[0]!r}, because it takes pixel values from 0 to 255"
            )
        if "zca" in earlier and name != "global_contrast_normalization":
            raise UserError(
                f"data.preprocess lists {name!r} after 'zca', which would undo the whitening; only "
                "global_contrast_normalization may follow zca"
            )
        earlier.append(name)


def check_size(steps: Iterable[str], image_shape: tuple[int, ...]) -> None:
    """Checks that the images are small enough for every step.

    Args:
      steps: names of steps.
      image_shape: height, width, and channels.

    Raises:
      UserError: the steps include `zca`, and an image has more than `MAX_ZCA_VALUES` values.
    """
    if "zca" in steps and np.prod(image_shape) > MAX_ZCA_VALUES:
        raise UserError(
            f"data.preprocess step 'zca' takes images of at most {MAX_ZCA_VALUES} values "
            f"(64x64x3), but they are {'x'.join(map(str, image_shape))}; set a smaller "
            "data.image_size"
        )
