"""Files of named arrays with a description, in the format of safetensors, sealed by hashes."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from experiments import sealed

HASHES = "arrays"  # name in the description of the arrays' hashes
DESCRIPTION = "description"


def dumps(arrays: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> bytes:
    """Returns the content of a file.

    Args:
      arrays: arrays by name.
      description: JSON values by name.

    >>> arrays, description = loads(dumps({"a": np.arange(3)}, {"step": 3}))
    >>> arrays["a"], description
    (array([0, 1, 2]), {'step': 3})
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    hashes = {name: sealed.digest_of_array(array) for name, array in arrays.items()}
    text = sealed.dumps({**description, HASHES: hashes})
    return safetensors.numpy.save(arrays, {DESCRIPTION: text})


def loads(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the arrays and the description of a file.

    Args:
      content: the content of the file.

    Raises:
      ValueError: the content is not what `dumps` returned.
    """
    try:
        arrays = safetensors.numpy.load(content)
        # safetensors reads the metadata of files on disk only.
        length = int.from_bytes(content[:8], "little")
        text = json.loads(content[8 : 8 + length])["__metadata__"][DESCRIPTION]
        description = sealed.loads(text)
    except (safetensors.SafetensorError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError("it is not complete") from error
    hashes = {name: sealed.digest_of_array(array) for name, array in arrays.items()}
    if description.pop(HASHES, None) != hashes:
        raise ValueError("its arrays do not match their sha256")
    return arrays, description
