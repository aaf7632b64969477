"""Arrays that are computed once and read from the user's cache directory afterwards."""

import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import platformdirs

from experiments.errors import UserError


def stored(
    file_name: str, compute: Callable[[], Mapping[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Arrays out of a file of the cache; computed and written there if it cannot be read.

    Args:
      file_name: path in the cache directory, ending in .npz; it has to name everything that the
        arrays depend on.
      compute: gives the arrays by name.

    Returns:
      The arrays by name.

    Raises:
      UserError: the cache directory cannot be written.
    """
    file = platformdirs.user_cache_path("loganneal_jax") / file_name
    try:
        with file.open("rb") as opened, np.load(opened) as arrays:
            return dict(arrays)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        pass  # it is not there, or it was cut off: either way it is written anew
    arrays = dict(compute())
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A reader never sees a half-written file: it is moved into place when whole.
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            whole = Path(scratch) / file.name
            np.savez(whole, **arrays)
            os.replace(whole, file)
    except OSError as error:
        raise UserError(
            f"the cache directory {file.parent} cannot be written ({error.strerror}); set "
            "XDG_CACHE_HOME to one that can"
        ) from error
    return arrays
