"""The arrows of the house: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "loganneal_jax").rglob("*.py"))
LABORATORY = sorted((ROOT / "experiments").rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Dotted names of all modules that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(file)} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("file", LIBRARY, ids=lambda file: file.name)
def test_library_imports_jax_and_optax_alone(file: Path) -> None:
    assert packages(file) <= {"jax", "optax", "numpy", "loganneal_jax"}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_configs_import_nothing_of_the_laboratory(file: Path) -> None:
    assert packages(file) <= {"ml_collections", "configs"}


@pytest.mark.parametrize("file", LABORATORY, ids=lambda file: str(file.relative_to(ROOT)))
def test_rooms_of_the_laboratory(file: Path) -> None:
    names = imported(file)
    room = file.relative_to(ROOT / "experiments")
    if any(name.startswith("orbax") for name in names):
        assert str(room) == "checkpoint.py"
    if any(name.startswith("flax.linen") for name in names):
        assert room.parts[0] == "models"
    entries = {f"experiments.{name}" for name in ("train", "sweep", "report", "plot", "compile")}
    assert not names & entries, "nothing imports a command"
    inner = {"models", "data"} & {room.parts[0]} or str(room) == "step.py"
    if inner:
        outer = {
            "aot",
            "build",
            "parallel",
            "processes",
            "trials",
            "checkpoint",
            "guard",
            "telemetry",
            "cli",
        }
        assert not names & {f"experiments.{name}" for name in outer}


def test_a_command_is_there_before_the_libraries_that_take_seconds() -> None:
    script = (
        "import sys, experiments.train\n"
        "slow = {'jax', 'flax', 'optax', 'orbax', 'clu', 'tensorflow', 'tensorflow_datasets'}\n"
        "assert not slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=60)


@pytest.mark.parametrize(
    "name", ["train", "run", "sweep", "checkpoint", "telemetry", "guard", "profile"]
)
def test_a_run_writes_through_epath_so_that_its_workdir_may_be_on_a_bucket(name: str) -> None:
    """Only the lock, which a bucket has not, is the system's own file."""
    file = ROOT / "experiments" / f"{name}.py"
    assert not {"pathlib", "shutil", "tempfile"} & {n.split(".")[0] for n in imported(file)}
    calls = [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
    ]
    own = {"open", "os.open", "os.makedirs", "os.rename", "os.replace", "os.remove", "os.listdir"}
    assert sorted(own & set(calls)) == (["os.open"] if name == "telemetry" else [])
