"""The wheel and the source distribution, built from the tracked files, and used outside a clone."""

import ast
import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("loganneal_jax", "experiments", "configs")
# A folder of the user's own, beside a console script, must neither hide the configs nor be hidden.
OWN_CONFIG = "from configs import quickstart\nfrom configs.helper import EPOCHS\n\n\n" + (
    "def get_config():\n    config = quickstart.get_config()\n    config.epochs = EPOCHS\n"
    "    return config\n"
)


def tracked():
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in process.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Builds both from a copy, because setuptools also packs what an earlier build left behind."""
    copy = tmp_path_factory.mktemp("copy")
    for name in tracked():
        if Path(name).parts[0] in SHIPPED or "/" not in name or name.startswith("tests/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("dist")
    # `build` makes the wheel from the source distribution.
    command = [sys.executable, "-m", "build", "--no-isolation", f"--outdir={out}", copy]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout[-2000:] + process.stderr
    (wheel,), (source,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """Returns a folder with the files of the wheel."""
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(distributions[0]) as wheel:
        wheel.extractall(site)
    return site


def command(installed, cwd, name, *arguments, switches=()):
    """Runs a command as its console script does, with the wheel before the clone on the path."""
    script = cwd / "bin" / f"loganneal-{name}"
    script.parent.mkdir(exist_ok=True)
    script.write_text("import sys\nfrom experiments.console import main\nsys.exit(main())\n")
    return python(installed, cwd, *switches, script, *arguments)


def python(installed, cwd, *arguments):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_wheel_contains_every_tracked_file_of_the_code_and_no_other(distributions):
    with zipfile.ZipFile(distributions[0]) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    ours = [name for name in tracked() if Path(name).parts[0] in SHIPPED]
    expected = {f"experiments/{name}" if name.startswith("configs/") else name for name in ours}
    assert found == expected


def test_source_distribution_contains_no_tests(distributions):
    with tarfile.open(distributions[1]) as source:
        names = [name.partition("/")[2] for name in source.getnames()]
    assert "experiments/build/features_mnist.npz" in names
    assert [name for name in names if name.startswith("tests")] == []


def test_twine_finds_nothing(distributions):
    checked = [sys.executable, "-m", "twine", "check", "--strict", *distributions]
    process = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stdout


def test_every_command_has_a_console_script(installed):
    commands = {
        file.stem
        for file in (ROOT / "experiments").glob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"
    }
    (points,) = installed.glob("*.dist-info/entry_points.txt")
    parser = configparser.ConfigParser()
    parser.read(points)
    assert dict(parser["console_scripts"]) == {
        f"loganneal-{name}": "experiments.console:main" for name in commands
    }


def test_command_finds_packaged_configs_outside_a_clone(installed, tmp_path):
    process = command(installed, tmp_path, "train", "--config=quickstrt")
    assert process.returncode == 2
    assert process.stderr.startswith("error: --config=quickstrt is unknown; choose from base, ")
    assert "quickstart, ablation, averaging, ceiling, comparison, digits, " in process.stderr
    assert process.stderr.count("\n") == 1
    for config in ("quickstart", "configs/quickstart.py", "nakamura2021:mnist,nn2,trap"):
        process = command(installed, tmp_path, "train", f"--config={config}", "--config.epochs=-1")
        assert process.stderr.startswith("error: epochs=-1.0 is out of range"), process.stderr


def test_only_packaged_imports_configs_by_the_name_that_it_sets():
    files = sorted((ROOT / "experiments").rglob("*.py"))
    found = [file.name for file in files if "\nfrom configs" in file.read_text()]
    assert found == ["packaged.py"]


def test_config_of_the_users_own_imports_ours_and_its_neighbors(installed, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "own.py").write_text(OWN_CONFIG)
    (tmp_path / "configs" / "helper.py").write_text("EPOCHS = -3.0\n")
    (tmp_path / "configs" / "base.py").write_text("raise RuntimeError('the wrong base')\n")
    own = "--config=configs/own.py"
    # `python -m` puts the current directory before ours on the path, and a console script after.
    for process in (
        command(installed, tmp_path, "train", own),
        python(installed, tmp_path, "-m", "experiments.train", own),
    ):
        assert process.stderr.startswith("error: epochs=-3.0 is out of range"), process.stderr


def test_help_of_a_command_is_that_of_its_module(installed, tmp_path):
    process = command(installed, tmp_path, "train", "--help")
    assert process.returncode == 0
    assert process.stdout.startswith("Trains one model: ")
    assert str(installed / "experiments" / "train.py") in process.stdout


def test_command_without_the_extra_is_one_sentence(installed, tmp_path):
    # -S leaves site-packages out, so that only the wheel is installed.
    process = command(installed, tmp_path, "train", "--config=quickstart", switches=["-S"])
    assert process.returncode == 2
    assert process.stderr == (
        "error: loganneal-train needs more packages than the library; run pip install "
        "'loganneal-jax[experiments]'\n"
    )


def test_module_in_the_current_directory_can_be_imported(installed, tmp_path):
    (tmp_path / "own_module.py").write_text("from configs.quickstart import get_config\n")
    (tmp_path / "own.py").write_text("from own_module import get_config\n")
    process = command(installed, tmp_path, "train", "--config=own.py", "--config.epochs=-1")
    assert process.stderr.startswith("error: epochs=-1.0 is out of range"), process.stderr
