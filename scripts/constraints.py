"""Prints constraints.txt: the newest release of every dependency, on each supported Python.

    make constraints

For each Python version, pip lists what it would install without constraints, with every extra
except `cuda`. The script merges these lists. A package whose version depends on Python gets one
line per range of versions.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13")
EXTRAS = ".[experiments,tensorflow,dev,docs,tpu,mlflow,wandb]"
LEFT_OUT = ("loganneal-jax", "setuptools", "wheel")  # the project, and what installs it
HEADER = "# The versions of the tests and of the published figures; `make constraints` renews them."


def resolved(version: str) -> dict[str, str]:
    """Returns the versions that pip would install on a Python version, by name of the package."""
    find = ["scripts/python.sh", f"python{version}"]
    python = subprocess.run(find, check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([python, "-m", "venv", scratch], check=True)
        pip, report = Path(scratch) / "bin" / "pip", Path(scratch) / "report.json"
        command = [pip, "install", "--quiet", "--dry-run", f"--report={report}", EXTRAS]
        subprocess.run(command, check=True, stdout=sys.stderr)
        packages = [each["metadata"] for each in json.loads(report.read_text())["install"]]
    return {each["name"]: each["version"] for each in packages if each["name"] not in LEFT_OUT}


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
    found = {version: resolved(version) for version in VERSIONS}
    names = sorted({name for packages in found.values() for name in packages}, key=str.lower)
    print(HEADER)
    for name in names:
        by_python = {version: packages.get(name) for version, packages in found.items()}
        print("\n".join(lines(name, by_python)))


if __name__ == "__main__":
    main()
