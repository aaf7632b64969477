"""Stores computed arrays in the user's cache directory."""

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
    """Returns arrays from the cache, or computes and stores them if they cannot be read.

    Args:
      file_name: path in the cache directory, ending in .npz. It must identify everything that the
        arrays depend on.
      compute: returns the arrays by name.

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
        pass  # the file is missing or damaged; write it again
    arrays = dict(compute())
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Move the complete file into place, so that a reader never sees a partial one.
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            complete = Path(scratch) / file.name
            np.savez(complete, **arrays)
            os.replace(complete, file)
    except OSError as error:
        raise UserError(
            f"the cache directory {file.parent} cannot be written ({error.strerror}); set "
            "XDG_CACHE_HOME to a writable directory"
        ) from error
    return arrays
