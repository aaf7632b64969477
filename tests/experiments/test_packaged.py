"""The configs of this project, by name or by path, from any directory."""

from pathlib import Path

import pytest

from experiments import packaged
from experiments.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("quickstart", CONFIGS / "quickstart.py"),
        ("base", CONFIGS / "base.py"),
        ("digits", CONFIGS / "sweeps" / "digits.py"),
        ("configs/quickstart.py", CONFIGS / "quickstart.py"),
        ("configs/sweeps/digits.py", CONFIGS / "sweeps" / "digits.py"),
        ("quickstart.py", Path("quickstart.py")),
        ("mine/quickstart.py", Path("mine/quickstart.py")),
        ("/configs/quickstart.py", Path("/configs/quickstart.py")),
    ],
)
def test_name_or_path_of_a_config_is_found_outside_a_clone(name, file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert packaged.find(name) == file


def test_file_that_is_there_comes_before_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path("configs/quickstart.py")
    own.parent.mkdir()
    own.touch()
    assert packaged.find("configs/quickstart.py") == own


def test_unknown_name_lists_every_config_that_can_be_loaded():
    names = packaged.names()
    assert {"base", "quickstart", "naveen2024", "digits", "mnist"} <= set(names)
    assert not {"cells", "methods"} & set(names)
    assert len(set(names)) == len(names)
    with pytest.raises(UserError, match=f"^--config=nn is unknown; choose from {', '.join(names)}"):
        packaged.find("nn")
