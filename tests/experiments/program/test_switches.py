"""The pinned switches of jax change neither random numbers nor dtypes, whatever a user sets."""

import jax
import numpy as np
import pytest
from etils import epath

from experiments.program import parallel, switches
from experiments.program.state import key_data, make_key
from experiments.runtime import loop
from tests.experiments.runtime.small import small_experiment

OTHER_VALUES = {
    "jax_threefry_partitionable": False,
    "jax_default_prng_impl": "rbg",
    "jax_random_seed_offset": 7,
    "jax_high_dynamic_range_gumbel": True,
    "jax_debug_key_reuse": True,
    "jax_enable_x64": True,
    "jax_numpy_dtype_promotion": "strict",
}


@pytest.fixture
def restored_switches():
    """Restores the switches of the test process."""
    before = {name: jax.config.values[name] for name in OTHER_VALUES}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_pinning_sets_every_switch(restored_switches):
    assert OTHER_VALUES.keys() == switches.PINNED.keys()
    for name, value in OTHER_VALUES.items():
        jax.config.update(name, value)
        assert jax.config.values[name] != switches.PINNED[name]
    switches.pin()
    assert {name: jax.config.values[name] for name in OTHER_VALUES} == switches.PINNED


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_key_of_a_seed_is_that_of_jax(seed):
    expected = jax.random.key(seed, impl="threefry2x32")
    assert make_key(key_data(seed)) == expected
    np.testing.assert_array_equal(key_data(seed), jax.random.key_data(expected))
    assert key_data(seed).dtype == np.uint32


@pytest.mark.parametrize(
    "name", ["jax_default_prng_impl", "jax_random_seed_offset", "jax_enable_x64"]
)
def test_key_of_a_run_depends_on_no_switch(restored_switches, name):
    before = np.asarray(jax.random.key_data(make_key(key_data(3))))
    jax.config.update(name, OTHER_VALUES[name])
    key = make_key(key_data(3))
    assert str(jax.random.key_impl(key)) == "threefry2x32"
    np.testing.assert_array_equal(jax.random.key_data(key), before)


@pytest.fixture(scope="module")
def plain_hash(tmp_path_factory):
    summary, _ = loop.run(small_experiment(), epath.Path(tmp_path_factory.mktemp("plain")))
    return summary["params_sha256"]


def test_run_with_every_pinned_switch_set_otherwise_computes_the_same(
    tmp_path, restored_switches, plain_hash
):
    for name, value in OTHER_VALUES.items():
        jax.config.update(name, value)
    switches.pin()
    summary, _ = loop.run(small_experiment(), epath.Path(tmp_path))
    assert summary["params_sha256"] == plain_hash


@pytest.mark.parametrize("strategy", parallel.STRATEGIES)
def test_run_makes_no_implicit_transfer(tmp_path, plain_hash, strategy):
    """From loading the data to the summary, in which the loop's steps are contained."""
    experiment = small_experiment(**{"parallel.strategy": strategy})
    with jax.transfer_guard("disallow"):
        summary, _ = loop.run(experiment, epath.Path(tmp_path))
    assert summary["steps"] == 5
    if strategy == "jit":
        assert summary["params_sha256"] == plain_hash
