"""The training program compiles in a thread, once, and the run waits for it."""

import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from etils import epath

from experiments.program import parallel
from experiments.runtime import ahead, loop
from tests.experiments.runtime.small import small_experiment


def test_training_program_compiles_once_in_a_thread(tmp_path, caplog):
    before = jax.config.jax_log_compiles
    jax.config.update("jax_log_compiles", True)
    try:
        loop.run(small_experiment(), epath.Path(tmp_path))
    finally:
        jax.config.update("jax_log_compiles", before)
    threads = {"init": [], "train_steps": []}
    for record in caplog.records:
        for name, found in threads.items():
            if f"Finished XLA compilation of jit({name})" in record.getMessage():
                found.append(record.threadName)
    assert threads == {"init": ["MainThread"], "train_steps": ["compile_0"]}


def test_error_of_the_compiler_reaches_the_run():
    def refuse(*shapes):
        raise RuntimeError("too large")

    def pure(state):
        return state

    programs = SimpleNamespace(init=pure, order=pure, train=SimpleNamespace(lower=refuse))
    strategy = parallel.make_strategy("jit", jax.devices())
    wait = ahead.compile_training(programs, {}, strategy.replicated)
    with pytest.raises(RuntimeError, match="too large"):
        wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory")
def test_freed_memory_returns_to_the_operating_system():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    pieces = [np.ones(8000) for _ in range(4000)]  # 256 MB in pieces of 64 kB
    full = resident()
    pieces = pieces[::50]  # glibc keeps what is freed between these
    assert full - resident() < 50e6
    ahead.release_freed_memory()
    assert full - resident() > 200e6
    assert sum(piece.sum() for piece in pieces) == 8000 * 80
