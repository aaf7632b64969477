"""What is compiled is kept: where, how much of it, and that it computes the same bits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import chex
import jax
import pytest

from configs import quickstart
from experiments import build, compile_cache, step

ROOT = Path(__file__).parents[1]
OPTIONS = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user's cache directory; what the test sets in jax is as before afterwards."""
    options = (*OPTIONS, "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in options}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    yield tmp_path / "cache"
    for name, value in before.items():
        jax.config.update(name, value)


def used():
    return tuple(getattr(jax.config, name) for name in OPTIONS)


def test_it_is_in_the_users_cache_directory(home):
    compile_cache.use(True)
    directory = home / "loganneal_jax" / "compiled"
    assert used() == (str(directory), True)
    assert list(directory.iterdir()) == []


def test_the_users_own_directory_is_taken(home, monkeypatch):
    before = used()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "gs://bucket/cache")
    compile_cache.use(True)
    assert used() == before  # jax has read the variable when it was imported
    assert not home.exists()


def test_several_processes_use_none_of_ours(home, monkeypatch):
    before = used()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    compile_cache.use(True)
    assert used() == before
    assert not home.exists()


def test_without_it_nothing_is_kept(home):
    compile_cache.use(False)
    assert used()[1] is False
    assert not home.exists()


def test_a_directory_that_cannot_be_written_is_told_and_not_used(home, caplog):
    before = used()
    home.write_text("in the way")
    compile_cache.use(True)
    assert used() == before
    assert f"the cache directory {home}/loganneal_jax/compiled cannot be written" in caplog.text
    assert "--nocompile_cache" in caplog.text


def test_the_oldest_programs_are_deleted(home, monkeypatch):
    directory = home / "loganneal_jax" / "compiled"
    directory.mkdir(parents=True)
    for age, name in enumerate(["newest", "newer", "older", "oldest"]):
        (directory / name).write_bytes(bytes(40))
        os.utime(directory / name, (1e9, 1e9 - age))
    (directory / "of_the_compiler").mkdir()
    monkeypatch.setattr(compile_cache, "MAX_BYTES", 100)
    compile_cache.use(True)
    kept = {file.name for file in directory.iterdir()}
    assert kept == {"newest", "newer", "of_the_compiler"}


def train(workdir, home, *options):
    """Hash of the parameters after a short run, optimised as a user's, and what it told."""
    ended = subprocess.run(
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
    assert ended.returncode == 0, ended.stderr
    return json.loads((workdir / "summary.json").read_text())["params_sha256"], ended.stderr


@pytest.mark.slow
def test_a_run_computes_the_same_bits_with_what_another_has_compiled(home, tmp_path):
    fresh, _ = train(tmp_path / "fresh", home, "--nocompile_cache")
    assert not (home / "loganneal_jax").exists()
    cold, _ = train(tmp_path / "cold", home)
    programs = {
        file: file.stat().st_mtime_ns for file in (home / "loganneal_jax" / "compiled").iterdir()
    }
    assert any(file.name.startswith("jit_train_steps") for file in programs)
    warm, told = train(tmp_path / "warm", home)
    assert fresh == cold == warm
    assert "Error reading" not in told
    assert programs == {
        file: file.stat().st_mtime_ns for file in (home / "loganneal_jax" / "compiled").iterdir()
    }
    # As a kill leaves it in the middle of writing.
    for file in programs:
        os.truncate(file, file.stat().st_size // 2)
    damaged, told = train(tmp_path / "damaged", home)
    assert damaged == fresh
    assert "Error reading persistent compilation cache entry for 'jit_train_steps'" in told


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet10", "nn2"])
def test_the_initial_state_has_the_same_bits_with_less_optimisation(name):
    config = quickstart.get_config()
    config.model.name = name
    experiment = build.build(config)

    def init_state(key):
        return step.init_state(
            key,
            model=experiment.model,
            optimizer=experiment.optimizer,
            image_shape=experiment.dataset.image_shape,
        )

    key = jax.random.key(config.seed)
    # The first is what a run tells the compiler, the second what it does when told nothing.
    less, all_of_it = (
        jax.jit(init_state, compiler_options={"xla_backend_optimization_level": level})(key)
        for level in (1, 3)
    )
    chex.assert_trees_all_equal(less.params, all_of_it.params)
