"""Checks the files of a finished run or sweep against the hashes in its summary."""

import hashlib
from pathlib import Path

from experiments import sealed
from experiments.errors import UserError

ARRAYS = ".safetensors"  # a report reads no arrays, and a copy of a directory may lack them


def check(directory: Path) -> None:
    """Refuses a directory with a file that is not what its command wrote.

    Args:
      directory: the directory of a run or a sweep, with a `summary.json`. A summary without hashes,
        which earlier versions wrote, is not checked.

    Raises:
      UserError: a file is damaged or missing.
    """
    summary = directory / "summary.json"
    again = "run its command again, which writes it anew"
    try:
        text = summary.read_text(errors="replace")
        if f'"{sealed.SEAL}"' not in text:
            return
        hashes = sealed.loads(text).get("files", {})
    except OSError as error:
        raise UserError(f"{summary} cannot be read ({error.strerror}); repair it") from error
    except ValueError as error:
        raise UserError(f"{summary} is damaged ({error}); {again}") from error
    for name, sha256 in hashes.items():
        if name.endswith(ARRAYS):
            continue
        file = directory / name
        try:
            content = file.read_bytes()
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}); {again}") from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise UserError(f"{file} does not match summary.json beside it; {again}")
