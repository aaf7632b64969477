"""Stores computed arrays in the user's cache directory, and checks them when it reads them.

A file holds a digest and a manifest on its first line, and then the bytes of its arrays. The
manifest has the key of the arrays and the shape, the dtype, and the SHA-256 of each. The digest is
that of the manifest. So every changed byte is detected, and the arrays are computed again.
"""

import hashlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import platformdirs

FORMAT = 1  # version of the files; increment it when they change
MAX_LINE_BYTES = 2**16
ABANDONED_SECONDS = 3600  # a file that nobody has written to for this long has no writer


class Layout(NamedTuple):
    """Shape and dtype of an array, which are known before it is read."""

    shape: tuple[int, ...]
    dtype: str


def stored(
    file_name: str,
    key: str,
    layouts: Mapping[str, Layout],
    compute: Callable[[], Mapping[str, np.ndarray]],
    *,
    others: bool = False,
) -> dict[str, np.ndarray]:
    """Returns arrays from the cache, or computes and stores them.

    A file with another key is out of date and is replaced. A file that is damaged or cannot be read
    is replaced with a warning. If the arrays cannot be stored, a warning says so, and the next
    start computes them again.

    Args:
      file_name: path in the cache directory, the same for all versions of the arrays.
      key: hash of everything that the arrays depend on.
      layouts: shape and dtype of each array, by name.
      compute: returns the arrays by name.
      others: whether there may be arrays that are not in `layouts`.

    Returns:
      The arrays by name.
    """
    file = platformdirs.user_cache_path("loganneal_jax") / file_name
    try:
        arrays = _read(file, key, layouts, others)
    except (FileNotFoundError, NotADirectoryError):
        arrays = None
    except (OSError, ValueError) as error:
        _warn(f"cached file {file} cannot be used ({_reason(error)}); computing its contents again")
        arrays = None
    if arrays is not None:
        return arrays
    arrays = dict(compute())
    try:
        _write(file, key, arrays)
    except OSError as error:
        _warn(
            f"cached file {file} cannot be written ({_reason(error)}); the next start computes its "
            "contents again, unless XDG_CACHE_HOME is set to a writable directory"
        )
    return arrays


def _read(
    file: Path, key: str, layouts: Mapping[str, Layout], others: bool = False
) -> dict[str, np.ndarray] | None:
    """Returns the arrays of a file, or None if the file has another key.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file is damaged.
    """
    if file.exists() and not file.is_file():
        raise ValueError("it is not a file")
    with file.open("rb") as opened:
        manifest = _read_manifest(opened)
        if manifest["key"] != key:
            return None
        expected = {name: [list(shape), dtype] for name, (shape, dtype) in layouts.items()}
        found = {name: [entry["shape"], entry["dtype"]] for name, entry in manifest["arrays"]}
        known = {name: each for name, each in found.items() if name in expected}
        if (known if others else found) != expected:
            raise ValueError(f"it has arrays {found}, but {expected} are expected")
        arrays = {}
        for name, entry in manifest["arrays"]:
            arrays[name] = np.empty(entry["shape"], entry["dtype"])
            size = opened.readinto(_bytes(arrays[name]))
            if size != arrays[name].nbytes:
                raise ValueError(f"array {name!r} has {size} of {arrays[name].nbytes} bytes")
            if hashlib.sha256(_bytes(arrays[name])).hexdigest() != entry["sha256"]:
                raise ValueError(f"array {name!r} does not match its SHA-256")
        if opened.read(1):
            raise ValueError("it has bytes after its last array")
    return arrays


def _read_manifest(opened: BinaryIO) -> dict[str, Any]:
    digest, _, manifest = opened.readline(MAX_LINE_BYTES).rstrip(b"\n").partition(b" ")
    if hashlib.sha256(manifest).hexdigest().encode() != digest:
        raise ValueError("its first line does not match its SHA-256")
    return json.loads(manifest)


def _write(file: Path, key: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a file that is either complete or absent, even after a power failure."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _delete_abandoned(file.parent)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    entries = [
        (
            name,
            {
                "shape": array.shape,
                "dtype": array.dtype.name,
                "sha256": hashlib.sha256(_bytes(array)).hexdigest(),
            },
        )
        for name, array in arrays.items()
    ]
    manifest = json.dumps({"key": key, "arrays": entries}).encode()
    # Move the complete file into place, so that a reader never sees a partial one.
    partial = file.with_name(f"{file.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as opened:
            opened.write(hashlib.sha256(manifest).hexdigest().encode() + b" " + manifest + b"\n")
            for array in arrays.values():
                opened.write(_bytes(array))
            opened.flush()
            os.fsync(opened.fileno())
        if file.is_dir():
            shutil.rmtree(file)
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def _delete_abandoned(directory: Path) -> None:
    """Deletes the partial files of writers that were killed."""
    for partial in directory.glob("*.partial"):
        try:
            if time.time() - partial.stat().st_mtime > ABANDONED_SECONDS:
                partial.unlink()
        except FileNotFoundError:
            pass  # its writer has moved it into place


def _bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _warn(sentence: str) -> None:
    print(f"warning: {sentence}", file=sys.stderr)
