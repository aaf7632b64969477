"""Prints constraints.txt: the newest release of every dependency, on each supported Python.

    make constraints

Installs the project without constraints into a temporary environment of each version, and merges
what pip installed. A package whose version depends on Python gets one line per range of versions.
"""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13")
HEADER = "# The versions of the tests and of the published figures; `make constraints` renews them."


def frozen(version: str) -> dict[str, str]:
    """Returns the versions that pip installs on a Python version, by name of the package."""
    find = ["scripts/python.sh", f"python{version}"]
    python = subprocess.run(find, check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([python, "-m", "venv", scratch], check=True)
        pip = Path(scratch) / "bin" / "pip"
        install = [pip, "install", "--quiet", "--editable", ".[experiments,dev]"]
        subprocess.run(install, check=True, stdout=sys.stderr)
        freeze = [pip, "freeze", "--exclude-editable"]
        lines = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
    return dict(line.split("==") for line in lines.splitlines())


def lines(name: str, by_python: dict[str, str | None]) -> list[str]:
    """Returns the lines of one package.

    Args:
      name: the package.
      by_python: Python version -> version of the package, or None where it is not installed.

    Returns:
      One line per range of Python versions with the same version of the package.

    >>> lines("jax", {"3.11": "0.10.2", "3.12": "0.12.0", "3.13": "0.12.0"})
    ["jax==0.10.2; python_version < '3.12'", "jax==0.12.0; python_version >= '3.12'"]
    """
    made = []
    for version, group in itertools.groupby(VERSIONS, by_python.get):
        if version is None:
            continue
        pythons = list(group)
        after = VERSIONS.index(pythons[-1]) + 1
        limits = []
        if pythons[0] != VERSIONS[0]:
            limits.append(f"python_version >= '{pythons[0]}'")
        if after < len(VERSIONS):
            limits.append(f"python_version < '{VERSIONS[after]}'")
        made.append(f"{name}=={version}" + (f"; {' and '.join(limits)}" if limits else ""))
    return made


def main() -> None:
    """Prints the file."""
    found = {version: frozen(version) for version in VERSIONS}
    names = sorted({name for packages in found.values() for name in packages}, key=str.lower)
    print(HEADER)
    for name in names:
        by_python = {version: packages.get(name) for version, packages in found.items()}
        print("\n".join(lines(name, by_python)))


if __name__ == "__main__":
    main()
