"""Damages, replaces, and interrupts cached files; the arrays must stay the same."""

import errno
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.data import cache

ARRAYS = {
    "images": np.random.default_rng(0).integers(0, 200, (5, 3, 2, 3), np.uint8),
    "labels": np.arange(5),
}
LAYOUTS = {
    "images": cache.Layout((5, 3, 2, 3), "uint8"),
    "labels": cache.Layout((5,), "int64"),
}


@pytest.fixture
def file(cache_home):
    return cache_home / "loganneal_jax" / "test" / "set.arrays"


def stored(key="key", arrays=ARRAYS, compute=True):
    """Calls the cache, and returns whether it computed."""
    computed = []

    def function():
        assert compute, "the arrays are computed, although the file is intact"
        computed.append(True)
        return arrays

    result = cache.stored("test/set.arrays", key, LAYOUTS, function)
    assert result.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(result[name], array)
        assert result[name].dtype == array.dtype
    return bool(computed)


def test_arrays_are_computed_once_and_without_a_warning(file, capsys):
    assert stored()
    assert not stored()
    assert capsys.readouterr().err == ""
    assert list(file.parent.iterdir()) == [file]
    umask = os.umask(0)
    os.umask(umask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~umask


def check_replaced(file, capsys, reason):
    """Checks that a damaged file is replaced with one warning that names it and the reason."""
    capsys.readouterr()
    assert stored()
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert warning.startswith(f"warning: cached file {file} cannot be used (")
    assert reason in warning
    assert not stored()
    assert capsys.readouterr().err == ""
    assert list(file.parent.iterdir()) == [file]


def test_every_flipped_bit_is_detected(file, capsys):
    """Takes one bit of every byte in turn, which covers all bytes and all places of a bit."""
    stored()
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        )
        with pytest.raises(ValueError, match="does not match its SHA-256"):
            cache._read(file, "key", LAYOUTS)
    check_replaced(file, capsys, "does not match its SHA-256")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_damage_ends_in_the_same_arrays(file, data):
    stored()
    content = file.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, len(content)))
    damaged = content[:start] + data.draw(st.binary(max_size=200)) + content[end:]
    file.write_bytes(damaged)
    assert stored() == (damaged != content)
    assert file.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"{}", b"\n", b"[1, 2]", b"\x93NUMPY\x01\x00", b"PK"])
def test_other_content_is_replaced(content, file, capsys):
    stored()
    file.write_bytes(content)
    check_replaced(file, capsys, "its first line does not match its SHA-256")


@pytest.mark.parametrize("kind", ["directory", "full directory", "pipe"])
def test_other_kinds_of_files_are_replaced(kind, file, capsys):
    file.parent.mkdir(parents=True)
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    if kind == "full directory":
        (file / "something").write_text("else")
    check_replaced(file, capsys, "it is not a file")


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES])
def test_file_that_cannot_be_read_is_replaced(error, file, capsys, monkeypatch):
    """Root may read every file, so the error of a disk or of permissions is raised here."""
    stored()

    def fail(opened):
        raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_read_manifest", fail)
        capsys.readouterr()
        assert stored()
    assert f"cannot be used ({os.strerror(error)})" in capsys.readouterr().err
    assert not stored()


def test_file_of_another_key_is_replaced_without_a_warning(file, capsys):
    stored("old")
    other = {name: array[::-1].copy() for name, array in ARRAYS.items()}
    assert stored("new", other)
    assert not stored("new", other)
    assert capsys.readouterr().err == ""
    assert list(file.parent.iterdir()) == [file]


def test_arrays_of_another_shape_are_never_returned(file, capsys):
    """Such a file is intact and has the right key, but fewer examples than promised."""
    cache._write(file, "key", {name: array[:4] for name, array in ARRAYS.items()})
    check_replaced(file, capsys, "it has arrays {'images': [[4, 3, 2, 3], 'uint8']")


def test_interrupted_write_leaves_no_file(file, monkeypatch):
    def interrupt(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stored()
    assert not list(file.parent.iterdir())


def test_partial_file_of_a_killed_writer_is_deleted_later(file):
    """A writer that may be alive keeps its file."""
    file.parent.mkdir(parents=True)
    killed, alive = (file.with_name(f"{file.name}.{name}.partial") for name in ("killed", "alive"))
    for partial in (killed, alive):
        partial.write_bytes(b"half")
    long_ago = time.time() - cache.ABANDONED_SECONDS - 1
    os.utime(killed, (long_ago, long_ago))
    stored()
    assert set(file.parent.iterdir()) == {file, alive}


def test_writer_whose_partial_file_was_deleted_goes_on_with_a_warning(file, capsys, monkeypatch):
    fsync = os.fsync

    def deleted(descriptor):
        fsync(descriptor)
        for partial in file.parent.glob("*.partial"):
            partial.unlink()

    monkeypatch.setattr(os, "fsync", deleted)
    assert stored()
    assert "cannot be written (No such file or directory)" in capsys.readouterr().err


def test_two_writers_at_once_leave_one_complete_file(file):
    barrier = threading.Barrier(2)

    def write():
        cache.stored("test/set.arrays", "key", LAYOUTS, lambda: barrier.wait() * 0 or ARRAYS)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(file.parent.iterdir()) == [file]
    assert not stored(compute=False)


def test_killed_writer_never_leaves_a_damaged_file(file, cache_home):
    """Kills a process that writes without end, at four different moments."""
    program = (
        "import itertools, numpy as np\n"
        "from experiments.data import cache\n"
        "array = np.zeros(2**22, np.uint8)\n"
        "for number in itertools.count():\n"
        "    cache.stored('test/set.arrays', str(number),\n"
        "                 {'a': cache.Layout((2**22,), 'uint8')}, lambda: {'a': array})\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache_home), "JAX_PLATFORMS": "cpu"}
    layouts = {"a": cache.Layout((2**22,), "uint8")}
    for number in range(4):
        file.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", program], env=environment)
        while not file.exists():
            time.sleep(0.01)
        time.sleep(0.005 * number)
        process.kill()
        process.wait()
        # The file is complete, with a key that is out of date.
        assert cache._read(file, "none", layouts) is None
        with file.open("rb") as opened:
            key = cache._read_manifest(opened)["key"]
        assert cache._read(file, key, layouts)["a"].sum() == 0


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_arrays_that_cannot_be_stored_are_returned_with_a_warning(error, file, capsys, monkeypatch):
    def fail(descriptor):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync", fail)
    assert stored()
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert f"{file} cannot be written ({os.strerror(error)}); the next start computes" in warning
    assert "XDG_CACHE_HOME" in warning
    assert not list(file.parent.iterdir())


def test_file_in_place_of_the_cache_directory_leads_to_a_warning(cache_home, capsys):
    cache_home.write_text("a file")
    assert stored()
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert "cannot be written (Not a directory)" in warning or "File exists" in warning


def test_relative_cache_home_creates_no_directory_called_tilde(tmp_path, monkeypatch):
    """The XDG specification ignores relative directories, and a shell may pass ~ unchanged."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "~/caches")
    monkeypatch.chdir(tmp_path)
    stored()
    assert (tmp_path / ".cache" / "loganneal_jax" / "test" / "set.arrays").is_file()
    assert not (tmp_path / "~").exists()


def test_arrays_of_unknown_layout_are_stored_beside_the_known(file):
    others = {"fitted": np.arange(5, dtype=np.int16), "number": np.asarray(3.5)}
    arguments = ("test/set.arrays", "key", LAYOUTS)
    computed = cache.stored(*arguments, lambda: {**ARRAYS, **others}, others=True)
    found = cache.stored(*arguments, lambda: pytest.fail("computed again"), others=True)
    assert found.keys() == computed.keys()
    for name, array in others.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with pytest.raises(ValueError, match="are expected"):
        cache._read(file, "key", LAYOUTS)
