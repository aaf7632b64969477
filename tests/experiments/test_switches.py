"""Switches of jax and Python, set by environment variables as users do.

One process per row; all of them share the compilation cache.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 240
FLAGS = [
    "--config=configs/quickstart.py",
    "--config.epochs=20.5",
    "--config.batch_size=256",
    "--config.log_every_steps=2",
    "--config.data.image_size=8",
    "--config.model.name=nn2",
    "--config.model.width_multiplier=0.02",
    "--config.model.attention.name=none",
]
CANNOT_CHANGE_BITS = {
    "64 bits": {"JAX_ENABLE_X64": "1"},
    "generator": {"JAX_DEFAULT_PRNG_IMPL": "rbg"},
    "threefry": {"JAX_THREEFRY_PARTITIONABLE": "0"},
    "seed offset": {"JAX_RANDOM_SEED_OFFSET": "7"},
    "key reuse": {"JAX_DEBUG_KEY_REUSE": "1"},
    "strict promotion": {"JAX_NUMPY_DTYPE_PROMOTION": "strict"},
    "rank promotion": {"JAX_NUMPY_RANK_PROMOTION": "raise"},
    "transfer guard": {"JAX_TRANSFER_GUARD": "disallow"},
    "debug NaNs": {"JAX_DEBUG_NANS": "1", "JAX_DEBUG_INFS": "1"},
    "warnings": {"PYTHONWARNINGS": "error"},
    "python -O": {"PYTHONOPTIMIZE": "1"},
}


# A commit or an edit while the tests run must not count as a change of the environment.
WITHOUT_GIT = {"GIT_DIR": os.devnull}


def start(workdir, *flags, variables=None, prefix=()):
    command = [sys.executable, "-m", "experiments.train", *FLAGS, f"--workdir={workdir}", *flags]
    # Other tests of this process may have set the number of threads.
    inherited = {name: value for name, value in os.environ.items() if name != "NPROC"}
    return subprocess.Popen(
        [*prefix, *command],
        cwd=ROOT,
        env={**inherited, "XLA_FLAGS": "", **WITHOUT_GIT, **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(workdir, *flags, **options):
    """Returns the exit code and the standard error of a run to its end."""
    with start(workdir, *flags, **options) as process:
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    return process.returncode, errors


def summary_of(workdir):
    return json.loads((workdir / "summary.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Returns the summary of a run without any switch."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    code, errors = train(workdir)
    assert code == 0, errors
    return summary_of(workdir)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """Returns the directory of a run that a signal stopped after its first checkpoint."""
    workdir = tmp_path_factory.mktemp("interrupted") / "run"
    with start(workdir) as process:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not list(workdir.glob("checkpoints/[0-9]*")):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 128 + signal.SIGTERM
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("variables", CANNOT_CHANGE_BITS.values(), ids=CANNOT_CHANGE_BITS.keys())
def test_switch_changes_no_bit(tmp_path, finished, interrupted, variables):
    resumed = tmp_path / "resumed"
    shutil.copytree(interrupted, resumed)
    for workdir in (tmp_path / "whole", resumed):
        code, errors = train(workdir, variables=variables)
        assert code == 0, errors
        assert "Traceback" not in errors
        assert "the environment differs" not in errors
        summary = summary_of(workdir)
        assert summary["params_sha256"] == finished["params_sha256"]
        assert summary["jax_config"] == {}
        assert summary["environment_changes"] == []


@pytest.mark.slow
def test_resume_with_another_number_of_threads_is_recorded(tmp_path, interrupted):
    """The process may use one core; before, it could use all of them."""
    cores = os.sched_getaffinity(0)
    if len(cores) == 1:
        pytest.skip("one core")
    workdir = tmp_path / "run"
    shutil.copytree(interrupted, workdir)
    one_core = {"prefix": ["taskset", "--cpu-list", str(min(cores))]}
    named = f"threads: {len(cores)}, now 1"

    code, errors = train(workdir, "--require_same_environment", **one_core)
    assert code == 2
    last_line = errors.splitlines()[-1]
    assert last_line.startswith("error: --require_same_environment: the environment differs from")
    assert named in last_line
    assert not (workdir / "summary.json").exists()

    code, errors = train(workdir, **one_core)
    assert code == 0, errors
    (warning,) = [line for line in errors.splitlines() if line.startswith("warning: ")]
    assert named in warning
    summary = summary_of(workdir)
    (change,) = summary["environment_changes"]
    assert change["changed"] == {"threads": [len(cores), 1]}
    assert 0 < change["step"] < summary["steps"]
    assert (summary["threads"], summary["affinity"]) == (1, [min(cores)])


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_missing_platform_is_one_sentence(tmp_path, platform):
    code, errors = train(tmp_path / "run", variables={"JAX_PLATFORMS": platform})
    assert code == 2
    (line,) = errors.splitlines()
    assert line.startswith(f"error: JAX_PLATFORMS={platform} cannot be used")
    assert "this installation has cpu" in line
    assert "pip install" in line
    assert not (tmp_path / "run").exists()


def test_warnings_of_other_packages_are_printed_and_not_raised(tmp_path):
    """ml_collections uses a deprecated function when it loads a config."""
    code, errors = train(
        tmp_path / "run", "--config.epochs=-1", variables={"PYTHONWARNINGS": "error"}
    )
    assert code == 2
    assert "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("error: epochs=-1.0 is out of range")
