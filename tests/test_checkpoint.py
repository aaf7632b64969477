"""What is saved is what is restored: values, dtypes, keys and history."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from etils import epath

from experiments import checkpoint, step
from experiments.errors import UserError


def state_at(number, seed=0):
    params = {"w": jax.random.normal(jax.random.key(seed), (3, 2)), "b": jnp.zeros(2, jnp.bfloat16)}
    optimizer = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))
    return step.TrainState(
        step=jnp.asarray(number, jnp.int32),
        params=params,
        batch_stats={"mean": jnp.ones(2)},
        opt_state=optimizer.init(params),
        key=jax.random.key(7),
    )


def shapes():
    return jax.eval_shape(state_at, 0)


def history_up_to(number):
    return [{"step": index, "test_accuracy": 0.1 * index} for index in range(1, number + 1)]


def raw(state):
    return jax.tree.map(
        lambda leaf: (
            jax.random.key_data(leaf)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        ),
        state,
    )


def test_the_newest_state_and_its_history_come_back_to_the_bit(tmp_path):
    with checkpoint.open_manager(epath.Path(tmp_path), max_to_keep=2) as manager:
        for number in (1, 2, 3):
            checkpoint.save(manager, number, state_at(number, seed=number), history_up_to(number))
    with checkpoint.open_manager(epath.Path(tmp_path), max_to_keep=2) as manager:
        state, history = checkpoint.restore_latest(manager, shapes())
    assert history == history_up_to(3)
    expected = state_at(3, seed=3)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for actual, wanted in zip(
        jax.tree.leaves(raw(state)), jax.tree.leaves(raw(expected)), strict=True
    ):
        assert actual.dtype == wanted.dtype
        np.testing.assert_array_equal(actual, wanted)
    assert jax.random.bits(state.key) == jax.random.bits(jax.random.key(7))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["2", "3"]


def test_without_a_checkpoint_there_is_nothing_to_restore(tmp_path):
    with checkpoint.open_manager(epath.Path(tmp_path), max_to_keep=1) as manager:
        assert checkpoint.restore_latest(manager, shapes()) is None


def test_a_checkpoint_that_cannot_be_read_is_named_and_left_alone(tmp_path):
    with checkpoint.open_manager(epath.Path(tmp_path), max_to_keep=2) as manager:
        checkpoint.save(manager, 5, state_at(5), history_up_to(1))
    files = [
        file for file in (tmp_path / "checkpoints" / "5" / "state").rglob("*") if file.is_file()
    ]
    for file in files:
        file.write_bytes(b"")
    with (
        checkpoint.open_manager(epath.Path(tmp_path), max_to_keep=2) as manager,
        pytest.raises(UserError, match=r"checkpoints/5 cannot be restored"),
    ):
        checkpoint.restore_latest(manager, shapes())
    assert all(file.exists() for file in files)


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.array([1.0, 3.0]), "b": np.zeros((1, 2))},
        {"a": np.array([1.0, 2.0]), "b": np.zeros((2, 1))},
        {"a": np.array([1.0, 2.0]), "c": np.zeros((1, 2))},
        {"a": np.array([1.0, 2.0], np.float32), "b": np.zeros((1, 2))},
    ],
    ids=["value", "shape", "name", "dtype"],
)
def test_the_hash_tells_trees_apart(other):
    tree = {"a": np.array([1.0, 2.0]), "b": np.zeros((1, 2))}
    assert checkpoint.tree_sha256(tree) == checkpoint.tree_sha256(dict(reversed(tree.items())))
    assert checkpoint.tree_sha256(tree) != checkpoint.tree_sha256(other)
