"""JSON files that end with a hash of their content, so that damage to them is noticed."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

SEAL = "sha256"


def dumps(content: Mapping[str, Any], *, indent: int | None = None) -> str:
    """Returns the text of a sealed file.

    Args:
      content: JSON values by name, none of them NaN or infinite.
      indent: spaces per level, or None for one line.

    Returns:
      A JSON object with the content and its hash, as a line or lines.

    Raises:
      ValueError: a value is NaN or infinite.

    >>> loads(dumps({"steps": 3}))
    {'steps': 3}
    """
    sealed = {**content, SEAL: digest(content)}
    return json.dumps(sealed, indent=indent, allow_nan=False) + "\n"


def loads(text: str) -> dict[str, Any]:
    """Returns the content of a sealed file.

    Args:
      text: the text of the file.

    Returns:
      The content without its hash.

    Raises:
      ValueError: the text is not what `dumps` returned.

    >>> loads(dumps({"steps": 3}).replace("3", "4", 1))
    Traceback (most recent call last):
    ValueError: its content does not match its sha256
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("it is not complete JSON") from error
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    if content.pop(SEAL, None) != digest(content):
        raise ValueError("its content does not match its sha256")
    return content


def digest(value: Any) -> str:
    """Returns the hash of a JSON value, which does not depend on the order of names.

    >>> digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def digest_of_array(array: np.ndarray) -> str:
    """Returns the hash of the dtype, the shape, and the bytes of an array.

    >>> digest_of_array(np.zeros(2)) == digest_of_array(np.zeros(2, np.float32))
    False
    """
    whole = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
    whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()
