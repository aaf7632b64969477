"""A summary stores where its result came from, and a resumed run reports what has changed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from etils import epath

from experiments.errors import Stopped, UserError
from experiments.runtime import environment as module
from experiments.runtime import loop
from experiments.runtime.environment import changed, check_platform, environment, record_change
from experiments.runtime.workdir import read_summary
from tests.experiments.runtime.small import small_experiment
from tests.experiments.runtime.test_loop import stop_after

ROOT = Path(__file__).parents[3]
OTHER = {
    "platform": "gpu",
    "platform_version": "another",
    "device_count": 3,
    "process_count": 2,
    "versions": {"jax": "0.1"},
    "cpu_model": "another",
    "cpu_features": ["avx"],
    "threads": 99,
    "jax_config": {"jax_disable_jit": True},
    "xla_flags": "--xla_cpu_enable_fast_math=true",
    "commit": "0123456789",
}
IGNORED = {
    "device": "another",
    "affinity": [77],
    "python_optimized": True,
    "command": "python -m another",
}


def test_environment_names_devices_and_versions():
    stored = environment()
    assert json.loads(json.dumps(stored)) == stored
    assert stored["platform"] == "cpu"
    assert stored["device"].endswith("cores")
    assert stored["device_count"] == jax.device_count()
    assert stored["process_count"] == 1
    python = ".".join(str(number) for number in sys.version_info[:3])
    assert stored["versions"]["python"] == python
    assert stored["versions"]["jax"] == jax.__version__
    assert {"jaxlib", "flax", "optax", "orbax-checkpoint", "clu", "numpy"} <= {*stored["versions"]}
    assert stored["python_optimized"] is False
    assert stored["command"].endswith(shlex.join(sys.argv[1:]))


def test_every_value_is_either_compared_or_known_not_to_matter():
    assert OTHER.keys() == {*module.COMPARED}
    assert OTHER.keys() | IGNORED.keys() == environment().keys()


@pytest.mark.parametrize("name", OTHER)
def test_difference_that_can_change_bits_is_named(name):
    here = environment()
    names = changed(here, {**here, name: OTHER[name]})
    assert names
    assert all(each == "device" or each.split(".")[0] == name for each in names)


@pytest.mark.parametrize("name", IGNORED)
def test_difference_that_cannot_change_bits_is_ignored(name):
    here = environment()
    assert here[name] != IGNORED[name]
    assert changed(here, {**here, name: IGNORED[name]}) == {}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux lists its threads")
@pytest.mark.parametrize("nproc", [None, 3])
def test_threads_are_those_of_xla(nproc):
    script = """
from pathlib import Path
from experiments.runtime.environment import environment
threads = environment()["threads"]
names = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
print(threads, names.count("tf_XLAEigen"))
"""
    variables = {} if nproc is None else {"NPROC": str(nproc)}
    process = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "", **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    stored, counted = process.stdout.split()
    assert stored == counted
    if nproc:
        assert int(stored) == nproc


def test_processor_has_a_model_and_its_floating_point_instructions():
    text = Path("/proc/cpuinfo").read_text()
    if "flags" not in text:
        pytest.skip("not x86")
    stored = environment()
    assert stored["cpu_model"] in text
    words = set(re.search(r"^flags\s*: (.*)$", text, re.MULTILINE)[1].split())
    assert {"avx2", "avx512f", "fma", "amx_bf16"} & words == (
        {"avx2", "avx512f", "fma", "amx_bf16"} & {*stored["cpu_features"]}
    )
    assert not {"smep", "smap", "fpu"} & {*stored["cpu_features"]}


def test_switches_that_can_change_bits_are_recorded(monkeypatch):
    before = environment()["jax_config"]
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "highest")
    monkeypatch.setenv("JAX_DEBUG_NANS", "1")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    with jax.disable_jit():
        recorded = environment()["jax_config"]
    assert recorded == {
        **before,
        "jax_default_matmul_precision": jax.config.jax_default_matmul_precision,
        "jax_disable_jit": True,
    }


def test_flags_of_xla_that_only_report_are_not_recorded(monkeypatch):
    flags = "--xla_dump_to=/somewhere --xla_b=2 --xla_a=1 --xla_force_host_platform_device_count=8"
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert environment()["xla_flags"] == "--xla_a=1 --xla_b=2"


def test_commit_is_that_of_the_clone(monkeypatch, tmp_path):
    git = shutil.which("git") or "false"
    command = [git, "rev-parse", "HEAD"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if process.returncode or not (ROOT / ".git").exists():
        pytest.skip("not a clone that git can read")
    head = process.stdout.strip()
    module._commit.cache_clear()
    assert environment()["commit"] in (head, f"{head}-dirty")
    monkeypatch.setenv("PATH", str(tmp_path))
    module._commit.cache_clear()
    assert environment()["commit"] is None
    module._commit.cache_clear()
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert environment()["commit"] is None
    module._commit.cache_clear()


def test_missing_platform_is_refused(monkeypatch):
    monkeypatch.setattr(jax, "devices", no_backend)
    before = jax.config.jax_platforms
    jax.config.update("jax_platforms", "nonsense")
    try:
        with pytest.raises(UserError, match=r"^JAX_PLATFORMS=nonsense cannot be used \(Unable to "):
            check_platform()
    finally:
        jax.config.update("jax_platforms", before)


def no_backend():
    raise RuntimeError("Unable to initialize backend 'nonsense': ... (set JAX_PLATFORMS='' to ...)")


def test_change_is_reported_in_one_line_or_refused(capsys):
    earlier = [{"step": 3, "changed": {"threads": [4, 2]}}]
    options = {"step": 8, "what": "step 8", "require_same": False}
    assert record_change(earlier, {}, **options) == earlier
    assert capsys.readouterr().err == ""
    changes = record_change(earlier, {"threads": [2, 1]}, **options)
    assert changes == [*earlier, {"step": 8, "changed": {"threads": [2, 1]}}]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the environment differs from the one that computed step 8 (")
    assert "threads: 2, now 1" in line
    with pytest.raises(UserError, match=r"threads: 2, now 1"):
        record_change(earlier, {"threads": [2, 1]}, **{**options, "require_same": True})


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """Returns the directory of a run that was stopped at step 8 of 10."""
    workdir = epath.Path(tmp_path_factory.mktemp("stopped"))
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            loop.run(small_experiment(epochs=2.0), workdir)
    return workdir


def test_run_records_a_change_when_it_resumes(stopped, monkeypatch, capsys):
    monkeypatch.setattr(module, "_threads", lambda: 99)
    before = sorted(path.name for path in stopped.iterdir())
    with pytest.raises(UserError, match=r"^--require_same_environment: .* step 8 \(threads: "):
        loop.run(small_experiment(epochs=2.0), stopped, require_same_environment=True)
    assert {*before} == {path.name for path in stopped.iterdir()}
    summary, _ = loop.run(small_experiment(epochs=2.0), stopped)
    (change,) = summary["environment_changes"]
    assert change["changed"] == {"threads": [jax.device_count(), 99]}
    assert change["step"] == 8
    assert summary["threads"] == 99
    assert read_summary(stopped) == summary
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    assert len(lines) == 1
