"""The compilation cache: where it is, how large it grows, and that it changes no bits."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.experimental.compilation_cache import compilation_cache

from configs import quickstart
from experiments.build.experiment import build
from experiments.program import assemble, parallel
from experiments.runtime import compile_cache
from tests.experiments.models.networks import use_few_blocks

ROOT = Path(__file__).parents[3]
OPTIONS = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Returns an empty cache directory of the user, and restores the options of jax afterwards."""
    options = (*OPTIONS, "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in options}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    yield tmp_path / "cache"
    for name, value in before.items():
        jax.config.update(name, value)


def cache_options():
    return tuple(getattr(jax.config, name) for name in OPTIONS)


def test_cache_is_in_the_users_cache_directory(home):
    compile_cache.use(True)
    directory = home / "loganneal_jax" / "compiled"
    assert cache_options() == (str(directory), True)
    assert list(directory.iterdir()) == []


def test_directory_that_the_user_set_takes_precedence(home, monkeypatch):
    before = cache_options()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "gs://bucket/cache")
    compile_cache.use(True)
    assert cache_options() == before  # jax read the variable when it was imported
    assert not home.exists()


def test_several_processes_do_not_use_the_default_directory(home, monkeypatch):
    before = cache_options()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    compile_cache.use(True)
    assert cache_options() == before
    assert not home.exists()


def test_cache_can_be_switched_off(home):
    compile_cache.use(False)
    assert cache_options()[1] is False
    assert not home.exists()


def test_directory_that_cannot_be_written_is_reported_and_not_used(home, caplog):
    before = cache_options()
    home.write_text("in the way")
    compile_cache.use(True)
    assert cache_options() == before
    assert f"the directory {home}/loganneal_jax/compiled cannot be written" in caplog.text
    assert "--nocompile_cache" in caplog.text


def test_oldest_programs_are_deleted(home, monkeypatch):
    directory = home / "loganneal_jax" / "compiled"
    directory.mkdir(parents=True)
    for age, name in enumerate(["newest", "newer", "older", "oldest"]):
        (directory / name).write_bytes(bytes(40))
        os.utime(directory / name, (1e9, 1e9 - age))
    (directory / "subdirectory").mkdir()
    monkeypatch.setattr(compile_cache, "MAX_BYTES", 100)
    compile_cache.use(True)
    kept = {file.name for file in directory.iterdir()}
    assert kept == {"newest", "newer", "subdirectory"}


def train(workdir, home, *options):
    """Returns the parameters' hash after a short run, fully optimized, and its standard error."""
    process = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.train", "--config=configs/quickstart.py"),
            *("--config.epochs=1", "--config.data.image_size=8", "--config.model.name=nn2"),
            *("--config.model.width_multiplier=0.02", "--config.model.attention.name=none"),
            *(f"--workdir={workdir}", *options),
        ],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "", "XDG_CACHE_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads((workdir / "summary.json").read_text())["params_sha256"], process.stderr


def modification_times(directory):
    return {file: file.stat().st_mtime_ns for file in directory.iterdir()}


DAMAGE = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "flipped": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_program_is_replaced_with_one_warning(home, capsys, how):
    def twice_and_a_half(x):
        return 2.5 * x

    def start(**options):
        """Compiles two programs of one name, as a new process would."""
        jax.clear_caches()
        compilation_cache.reset_cache()
        compile_cache.use(True, **options)
        for size in (3, 4):
            jax.jit(twice_and_a_half)(np.ones(size)).block_until_ready()
        return capsys.readouterr().err

    with warnings.catch_warnings():
        assert start() == ""
        programs = sorted((home / "loganneal_jax" / "compiled").glob("jit_twice*"))
        intact = [file.read_bytes() for file in programs]
        assert len(intact) == 2
        for file in programs:
            file.write_bytes(DAMAGE[how](file.read_bytes()))
        directory = home / "loganneal_jax" / "compiled"
        warning = f"warning: {directory} has damaged programs, which are compiled again\n"
        assert start() == warning
        assert all(
            file.stat().st_size > 0.9 * len(content)
            for file, content in zip(programs, intact, strict=True)
        )
        assert start() == ""
        # Another worker of a sweep may be writing the program.
        programs[0].write_bytes(DAMAGE[how](programs[0].read_bytes()))
        assert start(is_worker=True) == ""
        assert start() == ""
    compilation_cache.reset_cache()


@pytest.mark.slow
def test_run_computes_the_same_bits_with_cached_programs(home, tmp_path):
    directory = home / "loganneal_jax" / "compiled"
    fresh, _ = train(tmp_path / "fresh", home, "--nocompile_cache")
    assert not directory.exists()
    cold, _ = train(tmp_path / "cold", home)
    programs = modification_times(directory)
    assert any("train_steps" in file.name for file in programs)
    warm, errors = train(tmp_path / "warm", home)
    assert fresh == cold == warm
    assert "compilation cache" not in errors
    assert modification_times(directory) == programs
    # A kill in the middle of a write leaves truncated files.
    for file in programs:
        os.truncate(file, file.stat().st_size // 2)
    damaged, errors = train(tmp_path / "damaged", home)
    assert damaged == fresh
    warning = f"warning: {directory} has damaged programs, which are compiled again"
    assert [line for line in errors.splitlines() if "warning" in line.lower()] == [warning]
    again, errors = train(tmp_path / "again", home)
    assert again == fresh
    assert "warning" not in errors.lower()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet10", "nn2"])
def test_initial_state_has_the_same_bits_with_less_optimization(monkeypatch, name):
    use_few_blocks(monkeypatch)
    config = quickstart.get_config()
    config.model.name = name
    experiment = build(config)
    functions = assemble.pure(experiment.task, experiment.optimizer, experiment.batches)
    key_data = jax.random.key_data(jax.random.key(config.seed))
    # A run compiles with level 1; 3 is the default of XLA.
    less, full = (
        jax.jit(functions.init, compiler_options={"xla_backend_optimization_level": level})(
            key_data
        )
        for level in (1, 3)
    )
    chex.assert_trees_all_equal(less.params, full.params)


def test_a_convolution_of_bfloat16_compiles_without_a_warning(home):
    """A jaxlib with oneDNN cannot store it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compile_cache.use(True)
        compilation_cache.reset_cache()
        images, kernel = (
            jnp.ones(shape, jnp.bfloat16) for shape in ((8, 8, 8, 16), (3, 3, 16, 16))
        )
        options = parallel.compiler_options("cpu", bfloat16=True)
        convolve = jax.jit(nn.Conv(16, (3, 3), dtype=jnp.bfloat16).apply, compiler_options=options)
        assert convolve({"params": {"kernel": kernel, "bias": kernel[0, 0, 0]}}, images).sum() > 0
    compilation_cache.reset_cache()
