"""The layout: what each folder may import, beyond the contracts of import-linter in pyproject.toml.

import-linter sees packages as a whole. These tests look at single modules of other libraries, at
single names, and at what a command imports when it starts.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "loganneal_jax").rglob("*.py"))
LABORATORY = sorted((ROOT / "experiments").rglob("*.py"))
CONFIGS = sorted((ROOT / "configs").rglob("*.py"))
SOURCES = [*LIBRARY, *LABORATORY, *CONFIGS, *sorted((ROOT / "benchmarks").rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


def imported(file: Path) -> set[str]:
    """Returns the dotted names of all modules that a file imports, at any place in it."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(file)} - set(sys.stdlib_module_names)


@pytest.mark.parametrize("file", LIBRARY, ids=relative)
def test_library_imports_only_jax_optax_and_numpy(file):
    # Only to_keras imports this module, when it is called.
    peers = {"keras", "tensorflow"} if file.name == "keras_schedule.py" else set()
    assert packages(file) <= {"jax", "optax", "numpy", "loganneal_jax"} | peers


@pytest.mark.parametrize("file", CONFIGS, ids=relative)
def test_configs_import_only_ml_collections(file):
    assert packages(file) <= {"ml_collections", "configs"}


@pytest.mark.parametrize("file", LABORATORY, ids=relative)
def test_orbax_and_linen_are_imported_in_one_place_each(file):
    names = imported(file)
    place = file.relative_to(ROOT / "experiments")
    if any(name.startswith("orbax") for name in names):
        assert str(place) == "runtime/checkpoint.py"
    if any(name.startswith("flax.linen") for name in names):
        factories = ("build/models.py", "build/language_model.py")
        assert place.parts[0] in ("models", "tasks") or str(place) in factories


@pytest.mark.parametrize("file", LABORATORY, ids=relative)
def test_only_build_cli_and_the_workdir_know_config_dicts(file):
    place = file.relative_to(ROOT / "experiments")
    # Two commands change a config before they build it, and one writes a config file.
    commands = ("train.py", "suggest.py", "sweeping/suggestion.py")
    if "ConfigDict" in file.read_text():
        places = ("cli.py", "runtime/workdir.py", *commands)
        assert place.parts[0] == "build" or str(place) in places


KNOW_IMAGES = (
    "features.py",  # trains one classifier of images
    *(f"runtime/{name}.py" for name in ("events", "telemetry", "trackers")),  # show pictures
    # They use a trained classifier.
    *("__init__.py", "predict.py"),
    *(f"runtime/{name}.py" for name in ("trained", "prediction", "export", "initial")),
)


@pytest.mark.parametrize("file", LABORATORY, ids=relative)
def test_only_tasks_models_and_data_know_what_is_learned(file):
    """The words of image classification; in build/, they are names of config fields."""
    place = file.relative_to(ROOT / "experiments")
    if place.parts[0] in ("tasks", "models", "data", "build"):
        return
    if str(place) in KNOW_IMAGES:
        return
    text = file.read_text().lower()
    assert not [word for word in ("logits", "accuracy", "image") if word in text]


@pytest.mark.parametrize("file", [*SOURCES, *TESTS], ids=relative)
def test_no_file_exceeds_400_lines(file):
    assert len(file.read_text().splitlines()) <= 400


def test_init_files_are_empty_except_those_that_users_import():
    files = [file for file in [*SOURCES, *TESTS] if file.name == "__init__.py"]
    used = ["loganneal_jax/__init__.py", "experiments/__init__.py"]
    assert [relative(file) for file in files if file.read_text()] == used


@pytest.mark.parametrize("name", ["train", "compile"])
def test_command_starts_without_libraries_that_take_seconds(name):
    script = (
        f"import sys, experiments.{name}\n"
        "slow = {'jax', 'flax', 'optax', 'orbax', 'clu', 'tensorflow', 'tensorflow_datasets'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=60)


def test_run_imports_no_library_that_takes_long_and_that_other_commands_need():
    script = (
        "import sys, experiments.runtime.loop\n"
        "slow = {'scipy', 'pandas', 'matplotlib', 'sklearn', 'skimage', 'grain', 'tensorflow'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=60)


WRITES_TO_A_WORKDIR = [
    *("train.py", "sweep.py"),
    *(f"sweeping/{name}.py" for name in ("blocks", "run", "store", "worker")),
    *(f"runtime/{name}.py" for name in ("checkpoint", "events", "guard", "loop")),
    *(f"runtime/{name}.py" for name in ("profiler", "progress", "telemetry", "workdir")),
]


@pytest.mark.parametrize("name", WRITES_TO_A_WORKDIR)
def test_run_writes_through_epath_so_that_its_workdir_may_be_on_a_bucket(name):
    """Only the lock, which buckets do not have, is a local file."""
    file = ROOT / "experiments" / name
    assert not {"pathlib", "shutil", "tempfile"} & {n.split(".")[0] for n in imported(file)}
    calls = [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
    ]
    local = {"open", "os.open", "os.makedirs", "os.rename", "os.replace", "os.remove", "os.listdir"}
    expected = ["os.open"] if name == "runtime/workdir.py" else []
    assert sorted(local & set(calls)) == expected
