"""Where the configs of this project are, in a clone and in an installed package.

A clone has them in `configs/`. The wheel has them in `experiments/configs/`, because a top-level
folder `configs` in site-packages would collide with other people's. In both, a config file imports
others with `from configs import base`.
"""

import importlib.machinery
import importlib.util
import re
import sys
from pathlib import Path

from experiments.errors import UserError

PLACES = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")
DIRECTORY = next(place for place in PLACES if (place / "base.py").is_file())
FOLDERS = (DIRECTORY, DIRECTORY / "sweeps")


def _name_configs() -> None:
    """Makes `configs` the name of DIRECTORY, before any other folder of that name on the path."""
    found = importlib.util.find_spec("configs")
    others = list(found.submodule_search_locations or ()) if found else []
    if others[:1] == [str(DIRECTORY)]:
        return
    spec = importlib.machinery.ModuleSpec("configs", None, is_package=True)
    spec.submodule_search_locations = [str(DIRECTORY), *others]
    sys.modules["configs"] = importlib.util.module_from_spec(spec)


_name_configs()

from configs import base  # noqa: E402
from configs.sweeps import base as sweeps_base  # noqa: E402

__all__ = ["DIRECTORY", "base", "find", "sweeps_base"]


def find(name: str) -> Path:
    """Finds the file of a config.

    Args:
      name: a path; or the name of a config of this project, without a slash and `.py`.

    Returns:
      The path of the file. A path in `configs/` that is not there means the config of this project.

    Raises:
      UserError: no config of this project has the name.
    """
    path = Path(name)
    if re.search(r"[/\\]|\.py$", name):
        inside = DIRECTORY.joinpath(*path.parts[1:])
        return inside if path.parts[0] == "configs" and not path.exists() else path
    for directory in FOLDERS:
        file = directory / f"{name}.py"
        if file.is_file():
            return file
    raise UserError(
        f"--config={name} is unknown; choose from {', '.join(names())}, or pass the path of a "
        "Python file"
    )


def names() -> list[str]:
    """Returns the names of this project's configs, those of runs before those of sweeps."""
    files = [file for directory in FOLDERS for file in sorted(directory.glob("*.py"))]
    return [file.stem for file in files if "def get_config(" in file.read_text()]
