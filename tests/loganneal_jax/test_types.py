"""Type-checks the code of the README and of all docstrings, as a user's type checker does."""

import ast
import doctest
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys

import pytest

import loganneal_jax

LIBRARY = pathlib.Path(loganneal_jax.__file__).parent
ROOT = LIBRARY.parent
PREAMBLE = """
import jax
import jax.numpy as jnp
import numpy as np
import optax
import loganneal_jax
import loganneal_jax as la
from loganneal_jax import *
from loganneal_jax import shapes
"""
# Mistakes that a type checker must report: the code, and part of what is wrong with it.
MISTAKES = {
    "variant": 'la.log_annealing_schedule(0.1, 0.0, 9, variant="papr")',
    "cooldown": "la.trapezoid_schedule(1, 0, 9, warmup_steps=1, cooldown_steps=1, cooldown='x')",
    "mode": 'la.triangular_schedule(0.0, 0.1, 9, mode="exp")',
    "warmup": 'la.with_warmup(la.linear_decay_schedule(0.1, 0.0, 9), 5, warmup="cos")',
    "keyword": "la.linear_decay_schedule(0.1, 0.0, steps=9)",
    "steps": "la.linear_decay_schedule(0.1, 0.0, 9.5)",
    "factory": "la.linear_decay_schedule(0.1, 0.0, 9).peak",
}
# Code of users that must pass.
VALID = """
import jax
import optax
import loganneal_jax as la

schedule = la.staircase_schedule(0.1, boundaries=(5, 8))
rate: float = float(schedule(5))
values: jax.Array = la.from_values([0.1, 0.05])(jax.numpy.arange(3))
table: jax.Array = la.tabulate(optax.constant_schedule(0.1), 3)
shape = la.shapes.linear
annealing: la.Schedule = la.anneal(shape, 0.1, 0.0, 10)
chain = la.chain_schedules([annealing, optax.constant_schedule(0.1), lambda count: 0.5], [5, 9])
warm = la.with_warmup(schedule, warmup_steps=3, init_value=jax.numpy.float32(0.01), warmup="1-sqrt")
optimizer = optax.adamw(warm)
named: dict[la.Schedule, str] = {warm: repr(warm)}
"""


def code_blocks():
    """Yields the code in the README and in every docstring of the library, with its origin."""
    parser = doctest.DocTestParser()
    yield "", "README", parser.get_examples((ROOT / "README.md").read_text())
    for path in sorted(LIBRARY.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                name = getattr(node, "name", "module")
                yield path.stem, name, parser.get_examples(ast.get_docstring(node) or "")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("types")
    for i, (module, name, examples) in enumerate(code_blocks()):
        if examples:
            own = f"from loganneal_jax.{module} import *\n" if module.isidentifier() else ""
            code = "".join(example.source for example in examples)
            (directory / f"block_{i}_{module}_{name}.py").write_text(PREAMBLE + own + code)
    (directory / "valid.py").write_text(VALID)
    for name, code in MISTAKES.items():
        (directory / f"mistake_{name}.py").write_text(f"import loganneal_jax as la\n{code}\n")
    assert len(list(directory.iterdir())) > 40
    return directory


def assert_only_mistakes(errors):
    """Asserts that there is an error in each mistake and none elsewhere."""
    unexpected = [error for error in errors if "mistake_" not in error]
    assert unexpected == []
    for name in MISTAKES:
        assert any(f"mistake_{name}.py" in error for error in errors), name


def test_mypy_strict_reports_only_mistakes(directory):
    pytest.importorskip("mypy")
    config = directory / "mypy.ini"
    # optax has no py.typed marker.
    config.write_text("[mypy]\nstrict = True\n[mypy-optax.*]\nignore_missing_imports = True\n")
    command = [sys.executable, "-m", "mypy", f"--config-file={config}", "--no-error-summary"]
    command += [
        f"--cache-dir={ROOT / '.mypy_cache' / 'blocks'}",
        "--no-pretty",
        "--hide-error-context",
    ]
    files = sorted(map(str, directory.glob("*.py")))
    result = subprocess.run(command + files, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert_only_mistakes([line for line in result.stdout.splitlines() if ": error:" in line])


def test_pyright_reports_only_mistakes(directory):
    if shutil.which("pyright") is not None:
        command = ["pyright"]
    elif importlib.util.find_spec("pyright") is not None:
        command = [sys.executable, "-m", "pyright"]
    else:
        pytest.skip("pyright is not installed")
    settings = {"include": ["*.py"], "extraPaths": [str(ROOT)], "typeCheckingMode": "standard"}
    (directory / "pyrightconfig.json").write_text(json.dumps(settings))
    command += ["--outputjson", f"--pythonpath={sys.executable}", f"--project={directory}"]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    report = json.loads(result.stdout)
    assert report["summary"]["filesAnalyzed"] == len(list(directory.glob("*.py")))
    assert_only_mistakes(
        [
            f"{entry['file']}: {entry['message']}"
            for entry in report["generalDiagnostics"]
            if entry["severity"] == "error"
        ]
    )
