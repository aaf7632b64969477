"""Runs the commands in processes of their own that start in a fraction of a second.

Importing jax and the libraries around it takes seconds. So a server imports them once, without
starting a backend, and is forked for each process. Its output, files, signals, and exit code are
those of `python -m`. Use `subprocess` where a test is about the start of the interpreter: what is
imported, or variables such as PYTHONWARNINGS and JAX_PLATFORMS.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import jax

ROOT = Path(__file__).parents[1]
TIMEOUT_SECONDS = 240
IMPORTED = (
    "experiments.cli",
    "experiments.build.extension",
    "experiments.runtime.compile_cache",
    "experiments.runtime.loop",
    "experiments.results.figures",
    "experiments.results.report",
    "experiments.sweeping.run",
)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.commands", *IMPORTED])
# Compiling takes most of the time, and code that runs for milliseconds need not be optimized.
# Small programs compile fastest in one piece. With jax 0.10, the older emitter takes half of the
# time for them; jax 0.12 does not have it.
FAST = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if jax.__version_info__[:2] == (0, 10):
    FAST += " --xla_cpu_use_fusion_emitters=false"
# A commit or an edit while the tests run must not count as a change of the environment.
VARIABLES = {"XLA_FLAGS": FAST, "GIT_DIR": os.devnull}


def start(module, *arguments, out, err, cwd=ROOT, cores=None, **variables):
    """Starts `python -m` in a process that is forked from the server.

    Args:
      module: name of the command's module.
      *arguments: its arguments.
      out: path to append the standard output to.
      err: path to append the standard error to.
      cwd: working directory.
      cores: the cores to which the process is pinned, or None.
      **variables: environment variables that differ from those of this process.

    Returns:
      The process, as `multiprocessing.Process`.
    """
    # Python and jax read these when they start, which the server did already.
    early = [name for name in variables if name.startswith(("JAX_", "PYTHON"))]
    assert set(early) <= {"PYTHONPATH"}, early
    environment = {**os.environ, **VARIABLES, **variables}
    process = CONTEXT.Process(
        target=_run,
        args=(module, [*map(str, arguments)], str(out), str(err), str(cwd), cores, environment),
    )
    process.start()
    return process


def run(module, *arguments, cwd=ROOT, **variables):
    """Runs `python -m` to its end, as `subprocess.run` with captured text; see `start`."""
    with tempfile.TemporaryDirectory(prefix="command-") as logs:
        out, err = (Path(logs) / name for name in ("out", "err"))
        process = start(module, *arguments, out=out, err=err, cwd=cwd, **variables)
        process.join(TIMEOUT_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
            raise TimeoutError(f"still running after {TIMEOUT_SECONDS} s: {err.read_text()}")
        return subprocess.CompletedProcess(
            [module, *arguments], process.exitcode, out.read_text(), err.read_text()
        )


def _run(module, arguments, out, err, cwd, cores, environment):
    """Runs the command in this process, as `python -m` would."""
    if cores is not None:
        os.sched_setaffinity(0, cores)
    for stream, path in ((sys.stdout, out), (sys.stderr, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = [cwd, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [f"{module.replace('.', '/')}.py", *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
