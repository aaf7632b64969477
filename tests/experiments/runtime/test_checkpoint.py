"""A checkpoint restores bit for bit, and damage to it is detected."""

import errno
import hashlib
import json
import os
import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from etils import epath

from experiments.errors import UserError
from experiments.program.state import TrainState
from experiments.runtime import checkpoint
from experiments.runtime.checkpoint import Checkpointer

# Orbax writes these after the seal; neither holds anything of the state or the record.
UNSEALED = {checkpoint.METADATA, "commit_success.txt"}


def state_at(step, seed=0):
    params = {"w": jax.random.normal(jax.random.key(seed), (3, 2)), "b": jnp.zeros(2, jnp.bfloat16)}
    optimizer = optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, momentum=0.9))
    return TrainState(
        step=jnp.asarray(step, jnp.int32),
        params=params,
        batch_stats={"mean": jnp.ones(2)},
        opt_state=optimizer.init(params),
        key=jax.random.key(7),
    )


def shapes():
    return jax.eval_shape(state_at, 0)


def record_at(step):
    history = [{"step": index, "test_accuracy": 0.1 * index} for index in range(1, step + 1)]
    return {"history": history, "metrics": [0.1, 3], "seconds": 0.5, "rollbacks": []}


def open_checkpoints(workdir):
    return Checkpointer(epath.Path(workdir), max_to_keep=2, config_sha256="ours")


def write(workdir, *steps):
    with open_checkpoints(workdir) as checkpointer:
        for step in steps:
            checkpointer.save(step, state_at(step, seed=step), record_at(step))


def restore(workdir):
    with open_checkpoints(workdir) as checkpointer:
        return checkpointer.restore_latest(shapes())


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def files(directory):
    """Returns all files below a directory, relative to it."""
    return sorted(
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()
    )


def assert_restored(restored, step):
    """Asserts that a restored state and record equal those that `write` saved at a step."""
    state, record = restored
    expected = state_at(step, seed=step)
    assert record == record_at(step)
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for actual, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        assert actual.dtype == wanted.dtype
        np.testing.assert_array_equal(bits(actual), bits(wanted))


def bits(leaf):
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def test_newest_checkpoint_restores_bit_for_bit(tmp_path):
    write(tmp_path, 1, 2, 3)
    restored = restore(tmp_path)
    assert_restored(restored, 3)
    assert jax.random.bits(restored[0].key) == jax.random.bits(jax.random.key(7))
    assert names(tmp_path / "checkpoints") == ["2", "3"]


def test_restoring_without_a_checkpoint_returns_none(tmp_path):
    assert restore(tmp_path) is None


def test_every_committed_checkpoint_is_sealed(tmp_path):
    write(tmp_path, 1, 2)
    for step in ("1", "2"):
        directory = tmp_path / "checkpoints" / step
        sealed = json.loads((directory / checkpoint.SEAL).read_text())
        assert {*sealed} == {*files(directory)} - UNSEALED - {checkpoint.SEAL}
        for name, sha256 in sealed.items():
            assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == sha256


def test_saving_does_not_wait_for_the_commit(tmp_path, monkeypatch):
    """The seal waits until `save` has returned and the caller's arrays are gone."""
    returned = threading.Event()
    in_time = []

    def write_later(file, text):
        in_time.append(returned.wait(20))
        file.write_text(text)

    monkeypatch.setattr(checkpoint, "write_atomically", write_later)
    with open_checkpoints(tmp_path) as checkpointer:
        state = state_at(1, seed=1)
        checkpointer.save(1, state, record_at(1))
        assert not (tmp_path / "checkpoints" / "1").exists()
        for leaf in jax.tree.leaves(state):
            leaf.delete()
        returned.set()
    assert in_time == [True]
    assert_restored(restore(tmp_path), 1)


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x07
    file.write_bytes(content)


DAMAGE = {
    "deleted": lambda file: file.unlink(),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "flipped": flip,
}


OTHER_KIND = {"directory": lambda file: (file.unlink(), file.mkdir())}


@pytest.mark.parametrize("how", [*DAMAGE, *OTHER_KIND])
def test_damage_to_any_sealed_file_restores_the_previous_checkpoint(tmp_path, how, capsys):
    """Damages each file of the newest checkpoint in turn, including the seal."""
    write(tmp_path / "intact", 1, 2)
    sealed = {*files(tmp_path / "intact" / "checkpoints" / "2")} - UNSEALED
    assert len(sealed) > 10
    for index, name in enumerate(sorted(sealed)):
        workdir = tmp_path / str(index)
        shutil.copytree(tmp_path / "intact", workdir)
        file = workdir / "checkpoints" / "2" / name
        assert file.stat().st_size > 0
        (DAMAGE | OTHER_KIND)[how](file)
        assert_restored(restore(workdir), 1)
        (warning,) = capsys.readouterr().err.splitlines()
        assert warning.startswith(f"warning: checkpoint {workdir}/checkpoints/2 is damaged (")
        assert name in warning
        assert warning.endswith(f"was moved to {workdir}/damaged_checkpoints/2")
        assert names(workdir / "checkpoints") == ["1"]
        assert names(workdir / "damaged_checkpoints") == ["2"]


def test_damage_to_a_name_in_the_seal_names_the_seal(tmp_path, capsys):
    write(tmp_path, 1, 2)
    seal = tmp_path / "checkpoints" / "2" / checkpoint.SEAL
    seal.write_text(seal.read_text().replace("extra/metadata", "extra/metadatb"))
    assert_restored(restore(tmp_path), 1)
    assert "(extra/metadatb is missing, but sha256.json lists it)" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(UNSEALED))
@pytest.mark.parametrize("how", DAMAGE)
def test_damage_to_an_unsealed_file_changes_nothing(tmp_path, how, name, capsys):
    write(tmp_path, 1, 2)
    DAMAGE[how](tmp_path / "checkpoints" / "2" / name)
    assert_restored(restore(tmp_path), 2)
    assert capsys.readouterr().err == ""
    assert names(tmp_path / "checkpoints") == ["1", "2"]


def test_flipped_bytes_of_the_metadata_change_nothing(tmp_path):
    """Flips every tenth byte of the file that Orbax writes after the seal, one at a time."""
    write(tmp_path, 1, 2)
    metadata = tmp_path / "checkpoints" / "2" / checkpoint.METADATA
    intact = metadata.read_bytes()
    assert len(intact) > 100
    for index in range(0, len(intact), 10):
        damaged = bytearray(intact)
        damaged[index] ^= 0x07
        metadata.write_bytes(damaged)
        assert_restored(restore(tmp_path), 2)


def test_damage_on_a_bucket_restores_the_previous_checkpoint(tmp_path, monkeypatch):
    """Object storage cannot rename; there, Orbax commits a checkpoint by writing a file."""
    monkeypatch.setattr(checkpoint, "on_bucket", lambda workdir: True)
    write(tmp_path / "intact", 1, 2)
    newest = tmp_path / "intact" / "checkpoints" / "2"
    sealed = [*json.loads((newest / checkpoint.SEAL).read_text()), checkpoint.SEAL]
    assert {*files(newest)} - {*sealed} == UNSEALED
    for index, name in enumerate(sealed):
        workdir = tmp_path / str(index)
        shutil.copytree(tmp_path / "intact", workdir)
        flip(workdir / "checkpoints" / "2" / name)
        assert_restored(restore(workdir), 1)
        assert names(workdir / "damaged_checkpoints") == ["2"]


def test_failing_disk_restores_the_previous_checkpoint(tmp_path, monkeypatch, capsys):
    write(tmp_path, 1, 2)
    failing = tmp_path / "checkpoints" / "2" / "extra" / "metadata"
    read_bytes = type(epath.Path(tmp_path)).read_bytes

    def fail(path):
        if os.fspath(path) == os.fspath(failing):
            raise OSError(errno.EIO, "Input/output error", os.fspath(path))
        return read_bytes(path)

    monkeypatch.setattr(type(epath.Path(tmp_path)), "read_bytes", fail)
    assert_restored(restore(tmp_path), 1)
    assert "extra/metadata cannot be read: Input/output error)" in capsys.readouterr().err


def test_checkpoint_of_another_config_is_refused(tmp_path):
    write(tmp_path, 1)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}

    def restore_as_another():
        directory = epath.Path(tmp_path)
        with Checkpointer(directory, max_to_keep=2, config_sha256="theirs") as checkpointer:
            checkpointer.restore_latest(shapes())

    with pytest.raises(checkpoint.Unusable, match=r"checkpoints/1 belongs to another config; to s"):
        restore_as_another()
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


def test_file_in_place_of_the_checkpoints_is_reported(tmp_path):
    (tmp_path / "checkpoints").write_text("mine")
    with pytest.raises(checkpoint.Unusable, match=r"checkpoints cannot be used \(.*\); to start"):
        open_checkpoints(tmp_path)
    assert (tmp_path / "checkpoints").read_text() == "mine"


def test_any_step_can_be_saved_after_all_are_deleted(tmp_path):
    write(tmp_path, 5, 6)
    with open_checkpoints(tmp_path) as checkpointer:
        checkpointer.delete_all()
        checkpointer.save(1, state_at(1, seed=1), record_at(1))
    assert names(tmp_path / "checkpoints") == ["1"]
    assert_restored(restore(tmp_path), 1)


def test_step_of_a_damaged_checkpoint_can_be_saved_again(tmp_path):
    for suffix in ("", "-1", "-2"):
        write(tmp_path, 1, 2)
        flip(tmp_path / "checkpoints" / "2" / "state" / "_METADATA")
        restore(tmp_path)
        assert f"2{suffix}" in names(tmp_path / "damaged_checkpoints")
    write(tmp_path, 2)
    assert_restored(restore(tmp_path), 2)


def test_nothing_is_moved_if_all_checkpoints_are_damaged(tmp_path):
    write(tmp_path, 5, 6)
    for step in ("5", "6"):
        flip(tmp_path / "checkpoints" / step / "extra" / "metadata")
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    with pytest.raises(UserError, match=r"all checkpoints in .* are damaged \(6: extra/metadata "):
        restore(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)} == before


def test_another_array_behind_a_matching_seal_is_detected(tmp_path, capsys):
    write(tmp_path / "ours", 1, 2)
    with open_checkpoints(tmp_path / "other") as checkpointer:
        checkpointer.save(2, state_at(2, seed=9), record_at(2))
    ours, other = (tmp_path / name / "checkpoints" / "2" for name in ("ours", "other"))
    shutil.rmtree(ours / "state")
    shutil.copytree(other / "state", ours / "state")
    sealed = sorted({*files(ours)} - UNSEALED - {checkpoint.SEAL})
    seal = {name: hashlib.sha256((ours / name).read_bytes()).hexdigest() for name in sealed}
    (ours / checkpoint.SEAL).write_text(json.dumps(seal, indent=1) + "\n")
    assert_restored(restore(tmp_path / "ours"), 1)
    assert "(state.params['w'] float32 (3, 2) differs from what was saved)" in (
        capsys.readouterr().err
    )


def test_checkpoint_that_cannot_be_sealed_is_never_committed(tmp_path, monkeypatch):
    """The disk fills up just before the seal; the next save of that step succeeds."""

    def full(*_):
        raise OSError(28, "No space left on device")

    write(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomically", full)
        with pytest.raises(UserError, match="No space left"):
            write(tmp_path, 2)
    assert len(names(tmp_path / "checkpoints")) == 2
    assert_restored(restore(tmp_path), 1)
    write(tmp_path, 2)
    assert_restored(restore(tmp_path), 2)
    assert names(tmp_path / "checkpoints") == ["1", "2"]


def test_manager_is_closed_after_a_failed_save(tmp_path, monkeypatch):
    closed = []
    close = ocp.CheckpointManager.close

    def close_and_note(self):
        closed.append(self)
        close(self)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ocp.CheckpointManager, "close", close_and_note)
    monkeypatch.setattr(checkpoint, "write_atomically", fail)
    with pytest.raises(UserError, match="No space left"):
        write(tmp_path, 1)
    assert len(closed) == 1


@pytest.mark.parametrize("bucket", [False, True], ids=["disk", "bucket"])
def test_a_kill_between_seal_and_commit_leaves_nothing_to_restore(tmp_path, monkeypatch, bucket):
    """Copies the directory right after the seal, which is what a kill would leave behind."""
    monkeypatch.setattr(checkpoint, "on_bucket", lambda workdir: bucket)
    seal = Checkpointer._seal

    def seal_and_copy(self):
        seal(self)
        shutil.copytree(tmp_path / "run", tmp_path / f"killed{len(names(tmp_path))}")

    monkeypatch.setattr(Checkpointer, "_seal", seal_and_copy)
    write(tmp_path / "run", 1, 2)
    first, second = tmp_path / "killed1", tmp_path / "killed2"
    assert [path.parent.name for path in sorted(second.rglob(checkpoint.SEAL))] == [
        "1",
        "2" if bucket else "2.orbax-checkpoint-tmp",
    ]
    assert restore(first) is None
    assert_restored(restore(second), 1)
    write(second, 2)
    assert_restored(restore(second), 2)
    assert names(second) == names(tmp_path / "run") == ["checkpoints"]
    assert names(second / "checkpoints") == ["1", "2"]


def test_checkpoint_with_other_arrays_is_refused_as_undamaged(tmp_path):
    write(tmp_path, 1)
    other = jax.eval_shape(
        lambda: state_at(0).replace(params={"w": jnp.zeros((3, 3)), "b": jnp.zeros(2)})
    )
    theirs = r"\.params\['b'\] bfloat16 \(2,\), \.params\['w'\] float32 \(3, 2\), and the run has"
    refused = pytest.raises(UserError, match=rf"is undamaged, but .* the checkpoint has {theirs}")
    with open_checkpoints(tmp_path) as checkpointer, refused:
        checkpointer.restore_latest(other)
    assert names(tmp_path) == ["checkpoints"]


def test_failed_save_is_reported_and_keeps_the_previous_checkpoint(tmp_path):
    """A file replaces the directory of checkpoints."""
    write(tmp_path, 1)

    def save_into_a_file():
        with open_checkpoints(tmp_path) as checkpointer:
            (tmp_path / "checkpoints").rename(tmp_path / "moved")
            (tmp_path / "checkpoints").touch()
            checkpointer.save(2, state_at(2), record_at(2))

    with pytest.raises(UserError, match=r"could not be saved in .*/checkpoints \(.*[Nn]ot a dir"):
        save_into_a_file()
    (tmp_path / "checkpoints").unlink()
    (tmp_path / "moved").rename(tmp_path / "checkpoints")
    assert_restored(restore(tmp_path), 1)
