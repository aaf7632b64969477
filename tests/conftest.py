"""Runs every test on eight virtual CPU devices, where silent rank promotion is an error."""

import gc
import itertools
import os
import re
import tempfile
from pathlib import Path

import chex
import jax
import pytest

from tests.commands import FAST

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FAST}"
chex.set_n_cpu_devices(8)

# Where libtpu is installed without a TPU, it complains on stderr about what these variables hold,
# in one process at a time. Tests compare what commands print there.
os.environ |= {"TPU_ACCELERATOR_TYPE": "v5e-1", "TPU_WORKER_HOSTNAMES": "localhost"}

jax.config.update("jax_numpy_rank_promotion", "raise")

# A worker holds millions of objects, most of them in JAX's caches, and by default Python searches
# them for garbage so often that this takes a tenth of the time.
gc.set_threshold(100_000, 20, 20)

# Tests that train the same small network compile it once per worker. Storing a smaller program
# would take about as long as compiling it again.
PROGRAMS = tempfile.TemporaryDirectory(prefix="programs-")
jax.config.update("jax_compilation_cache_dir", PROGRAMS.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

MODULES = itertools.count(1)  # that this worker has begun
MODULES_PER_CACHE = 15

# Some tests compare with Keras, which TensorFlow imports too. So choose its backend before any
# test, and keep Keras from storing that choice in the user's own config.
KERAS_HOME = tempfile.TemporaryDirectory()
os.environ["KERAS_BACKEND"] = "jax"
os.environ["KERAS_HOME"] = KERAS_HOME.name


# In these folders, silent promotion of dtypes is an error too. Elsewhere, tests call libraries that
# promote.
STRICT = ("program", "runtime", "sweeping", "tasks")


@pytest.fixture(autouse=True, scope="module")
def dtype_promotion(request):
    """Chooses how dtypes are promoted in the tests of a module and in its fixtures."""
    parts = request.path.relative_to(Path(__file__).parent).parts
    strict = parts[0] == "experiments" and parts[1] in STRICT
    jax.config.update("jax_numpy_dtype_promotion", "strict" if strict else "standard")


@pytest.fixture(autouse=True, scope="module")
def _small_heap():
    """Leaves what earlier modules keep, mostly JAX's caches, out of every search for garbage.

    statsmodels searches for each table, which takes a second where a worker has run many tests.
    Some modules begin with empty caches, so that a worker does not grow from the first test to the
    last one.
    """
    if next(MODULES) % MODULES_PER_CACHE == 0:
        jax.clear_caches()
        gc.unfreeze()
        gc.collect()
    gc.freeze()


def pytest_collection_finish():
    """Leaves what the imports and the collection created out of every search for garbage."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser):
    parser.addoption(
        "--only-skip",
        metavar="REGEX",
        help="fail if a test is skipped for a reason that does not match REGEX",
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Fails the run for an unexpected skip; -rs lists all skipped tests with their reasons."""
    allowed = session.config.getoption("--only-skip")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if allowed is None or reporter is None or hasattr(session.config, "workerinput"):
        return
    reasons = {report.longrepr[2] for report in reporter.stats.get("skipped", [])}
    unexpected = sorted(reason for reason in reasons if not re.search(allowed, reason))
    if unexpected:
        reporter.write_line(f"unexpected skips: {'; '.join(unexpected)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
