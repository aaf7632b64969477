"""Checks that damaged, interrupted, and unwritable cache files are handled."""

import numpy as np
import pytest

from experiments.data import cache
from experiments.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 200, (150, 7, 5, 3), np.uint8)


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.99])
def test_truncated_file_is_computed_again(kept, cache_home):
    arrays = {"images": IMAGES, "labels": np.arange(7)}
    cache.stored("test/cut.npz", lambda: arrays)
    file = cache_home / "loganneal_jax" / "test" / "cut.npz"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])
    for compute in (lambda: arrays, None):  # the second call reads the file
        again = cache.stored("test/cut.npz", compute)
        assert again.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(again[name], array)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("place", [0, 0.5])
def test_file_with_a_flipped_bit_is_computed_again(place, cache_home):
    cache.stored("test/bits.npz", lambda: {"images": IMAGES})
    file = cache_home / "loganneal_jax" / "test" / "bits.npz"
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1
    file.write_bytes(content)
    again = cache.stored("test/bits.npz", lambda: {"images": IMAGES})
    np.testing.assert_array_equal(again["images"], IMAGES)


def test_interrupted_write_leaves_no_file(cache_home, monkeypatch):
    def interrupt(file, **arrays):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.stored("interrupted/images.npz", lambda: {"images": IMAGES})
    assert not list((cache_home / "loganneal_jax" / "interrupted").iterdir())


def test_unwritable_cache_is_refused(tmp_path, monkeypatch):
    (tmp_path / "loganneal_jax").write_text("a file where the directory should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"cache directory .* cannot be written .*XDG_CACHE_HOME"):
        cache.stored("test/images.npz", lambda: {"images": IMAGES})
