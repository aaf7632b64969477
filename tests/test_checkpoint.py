"""What is saved is what is restored, and what is damaged is found out."""

import json
import shutil

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


def record_up_to(number):
    history = [{"step": index, "test_accuracy": 0.1 * index} for index in range(1, number + 1)]
    return {"history": history, "metrics": [0.1, 3], "seconds": 0.5, "rollbacks": []}


def raw(state):
    return jax.tree.map(
        lambda leaf: (
            jax.random.key_data(leaf)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        ),
        state,
    )


def write(workdir, *numbers):
    with checkpoint.open_manager(epath.Path(workdir), max_to_keep=2) as manager:
        for number in numbers:
            checkpoint.save(manager, number, state_at(number, seed=number), record_up_to(number))


def restore(workdir):
    with checkpoint.open_manager(epath.Path(workdir), max_to_keep=2) as manager:
        return checkpoint.restore_latest(manager, shapes())


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def assert_equal(state, expected):
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for actual, wanted in zip(
        jax.tree.leaves(raw(state)), jax.tree.leaves(raw(expected)), strict=True
    ):
        assert actual.dtype == wanted.dtype
        np.testing.assert_array_equal(actual, wanted)


def test_the_newest_state_and_its_record_come_back_to_the_bit(tmp_path):
    write(tmp_path, 1, 2, 3)
    state, record = restore(tmp_path)
    assert record == record_up_to(3)
    assert_equal(state, state_at(3, seed=3))
    assert jax.random.bits(state.key) == jax.random.bits(jax.random.key(7))
    assert names(tmp_path / "checkpoints") == ["2", "3"]


def test_without_a_checkpoint_there_is_nothing_to_restore(tmp_path):
    assert restore(tmp_path) is None


def files(checkpoint_directory):
    return sorted(path for path in checkpoint_directory.rglob("*") if path.is_file())


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x07
    file.write_bytes(content)


DAMAGE = {
    "deleted": lambda file: file.unlink(),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "flipped": flip,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_to_any_file_is_seen_and_the_checkpoint_before_it_taken(tmp_path, how, capsys):
    """Every file of the newest checkpoint in turn, its seal included."""
    write(tmp_path / "whole", 1, 2)
    damaged = [str(f.relative_to(tmp_path / "whole")) for f in files(tmp_path / "whole")]
    damaged = [name for name in damaged if name.startswith("checkpoints/2/")]
    assert len(damaged) > 10
    for index, name in enumerate(damaged):
        workdir = tmp_path / str(index)
        shutil.copytree(tmp_path / "whole", workdir)
        assert (workdir / name).stat().st_size > 0
        DAMAGE[how](workdir / name)
        state, record = restore(workdir)
        assert record == record_up_to(1)
        assert_equal(state, state_at(1, seed=1))
        (warning,) = capsys.readouterr().err.splitlines()
        assert warning.startswith(f"warning: the checkpoint {workdir}/checkpoints/2 is damaged (")
        assert name.removeprefix("checkpoints/2/") in warning
        assert warning.endswith(f"was set aside as {workdir}/damaged_checkpoints/2")
        assert names(workdir / "checkpoints") == ["1"]
        assert names(workdir / "damaged_checkpoints") == ["2"]


def test_where_nothing_can_be_renamed_a_checkpoint_is_sealed_too(tmp_path, monkeypatch):
    """As on a bucket, with the files of a disk: all but the two that commit it."""
    monkeypatch.setattr(checkpoint, "on_bucket", lambda workdir: True)
    write(tmp_path / "whole", 1, 2)
    newest = tmp_path / "whole" / "checkpoints" / "2"
    sealed = [*json.loads((newest / checkpoint.SEAL).read_text()), checkpoint.SEAL]
    everything = {str(file.relative_to(newest)) for file in files(newest)}
    assert everything - set(sealed) == {"commit_success.txt", checkpoint.METADATA}
    for index, name in enumerate(sealed):
        workdir = tmp_path / str(index)
        shutil.copytree(tmp_path / "whole", workdir)
        flip(workdir / "checkpoints" / "2" / name)
        _, record = restore(workdir)
        assert record == record_up_to(1)
        assert names(workdir / "damaged_checkpoints") == ["2"]


def test_after_a_damaged_checkpoint_its_step_is_saved_again(tmp_path):
    for again in ("", "-1", "-2"):
        write(tmp_path, 1, 2)
        flip(tmp_path / "checkpoints" / "2" / "state" / "_METADATA")
        restore(tmp_path)
        assert f"2{again}" in names(tmp_path / "damaged_checkpoints")
    write(tmp_path, 2)
    state, _ = restore(tmp_path)
    assert_equal(state, state_at(2, seed=2))


def test_with_no_whole_checkpoint_nothing_is_moved(tmp_path):
    write(tmp_path, 5, 6)
    for number in ("5", "6"):
        flip(tmp_path / "checkpoints" / number / "extra" / "metadata")
    before = {file: file.read_bytes() for file in files(tmp_path)}
    with pytest.raises(UserError, match=r"none of the checkpoints in .* is whole \(6: extra/meta"):
        restore(tmp_path)
    assert {file: file.read_bytes() for file in files(tmp_path)} == before


def reseal(directory):
    """Gives a checkpoint a seal that fits its files, whatever they are."""
    (directory / checkpoint.SEAL).unlink()
    checkpoint._seal(epath.Path(directory))


def test_arrays_have_their_own_hashes(tmp_path):
    """Behind a seal that fits, an array that is not the one saved is still found out."""
    write(tmp_path / "ours", 1, 2)
    write(tmp_path / "other", 2)
    with checkpoint.open_manager(epath.Path(tmp_path / "other"), max_to_keep=2) as manager:
        checkpoint.save(manager, 3, state_at(2, seed=9), record_up_to(2))
    ours = tmp_path / "ours" / "checkpoints" / "2"
    shutil.rmtree(ours / "state")
    shutil.copytree(tmp_path / "other" / "checkpoints" / "3" / "state", ours / "state")
    reseal(ours)
    _, record = restore(tmp_path / "ours")
    assert record == record_up_to(1)


def test_a_checkpoint_that_cannot_be_sealed_is_none(tmp_path, monkeypatch):
    """As where the disk is full just then; the next one finds its place."""

    def full(*_):
        raise OSError(28, "No space left on device")

    write(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_whole", full)
        with pytest.raises(UserError, match="No space left"):
            write(tmp_path, 2)
    assert len(names(tmp_path / "checkpoints")) == 2
    _, record = restore(tmp_path)
    assert record == record_up_to(1)
    assert names(tmp_path / "checkpoints") == ["1"]
    write(tmp_path, 2)
    _, record = restore(tmp_path)
    assert record == record_up_to(2)


def test_a_state_of_another_shape_is_not_taken_for_it(tmp_path):
    write(tmp_path, 1)
    other = jax.eval_shape(
        lambda: state_at(0).replace(params={"w": jnp.zeros((3, 3)), "b": jnp.zeros(2)})
    )
    with (
        checkpoint.open_manager(epath.Path(tmp_path), max_to_keep=2) as manager,
        pytest.raises(UserError, match="its arrays have other names, types or shapes than this"),
    ):
        checkpoint.restore_latest(manager, other)


def test_a_save_that_fails_is_told_and_leaves_the_one_before(tmp_path):
    """A file stands where the directory of checkpoints was."""
    write(tmp_path, 1)

    def save_into_a_file():
        with checkpoint.open_manager(epath.Path(tmp_path), max_to_keep=2) as manager:
            (tmp_path / "checkpoints").rename(tmp_path / "moved")
            (tmp_path / "checkpoints").touch()
            checkpoint.save(manager, 2, state_at(2), record_up_to(2))

    with pytest.raises(UserError, match=r"could not be saved in .*/checkpoints \(.*[Nn]ot a dir"):
        save_into_a_file()
    (tmp_path / "checkpoints").unlink()
    (tmp_path / "moved").rename(tmp_path / "checkpoints")
    state, _ = restore(tmp_path)
    assert_equal(state, state_at(1, seed=1))


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
