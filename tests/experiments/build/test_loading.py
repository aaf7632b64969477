"""A data set is streamed if it does not fit into the share of memory that the config names."""

import jax
import pytest

from configs import language_model
from experiments.build import loading
from experiments.data import datasets, text
from experiments.errors import UserError
from tests.experiments.build.edits import assert_one_sentence
from tests.experiments.runtime.streamed import small_config, small_experiment, write_small

BYTES = (70 + 23) * 6 * 6 * 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    write_small(root)
    return root


def choose(root, mode, **fields):
    config = small_config(root, mode, **fields)
    return loading.choose(config, datasets.describe("my_own", data_dir=str(root), image_size=None))


def test_auto_streams_what_does_not_fit_into_the_share(root, monkeypatch):
    needed = BYTES * jax.local_device_count()  # virtual devices share the memory of their host
    monkeypatch.setattr(loading, "memory_of", lambda device: 2 * needed)
    fits = choose(root, "auto", **{"data.memory_share": 0.5})
    assert fits[:3] == (False, 0, 0)
    assert "stays in memory: my_own takes 1e-05 GB as decoded images, at most" in fits.sentence
    monkeypatch.setattr(loading, "memory_of", lambda device: 2 * needed - 1)
    large = choose(root, "auto", **{"data.memory_share": 0.5, "data.workers": 3})
    assert large[:3] == (True, 3, 0)
    assert "more than data.memory_share=0.5 of" in large.sentence
    monkeypatch.setattr(loading, "memory_of", lambda device: 2**62)
    monkeypatch.setattr(loading, "MAX_BYTES", BYTES - 1)
    assert choose(root, "auto").is_streamed
    with pytest.raises(UserError, match=r"set a smaller data.image_size, or data.loading='stream'"):
        choose(root, "memory")


def test_choice_of_the_config_is_kept(root):
    assert not choose(root, "memory").is_streamed
    choice = choose(root, "stream", **{"data.workers": None, "data.max_damaged": 4})
    assert choice.is_streamed
    assert choice.max_damaged == 4
    assert 1 <= choice.num_workers <= loading.MAX_WORKERS
    with pytest.raises(UserError, match=r"data.loading='disk'.*auto, memory, stream") as error:
        choose(root, "disk")
    assert_one_sentence(error.value)


def test_combinations_that_need_memory_are_refused(root):
    with pytest.raises(UserError, match=r"parallel.strategy='pmap' needs the data set in memory"):
        choose(root, "stream", **{"parallel.strategy": "pmap"})
    with pytest.raises(UserError, match=r"averaging.swa_start_epoch=1 needs the training split"):
        small_experiment(root, "stream", **{"averaging.swa_start_epoch": 1})
    with pytest.raises(UserError, match=r"this command keeps its data in memory"):
        small_experiment(root, "stream").task.load()


def choose_text(mode, num_bytes=1000, *, is_random_access=True, use_bytes=True, **fields):
    config = language_model.get_config("tiny_shakespeare")
    config.update_from_flattened_dict({"data.loading": mode, "data.workers": 1, **fields})
    files = text.Files(num_bytes, is_random_access)
    return loading.choose_text(config, files, use_bytes=use_bytes)


def test_text_is_streamed_if_it_does_not_fit_into_the_share(monkeypatch):
    devices = jax.local_device_count()
    monkeypatch.setattr(loading, "memory_of", lambda device: 4000 * devices)
    assert not choose_text("auto").is_streamed
    choice = choose_text("auto", 1001)
    assert choice[:3] == (True, 1, 0)
    assert "the text tiny_shakespeare has 1e-06 GB, more than data.memory_share" in choice.sentence
    assert not choose_text("auto", 1001, is_random_access=False).is_streamed
    with pytest.raises(UserError, match=r"data.tokens='characters' needs the text in memory, but"):
        choose_text("auto", 1001, use_bytes=False)
    assert not choose_text("memory", 1001, use_bytes=False).is_streamed
    with pytest.raises(UserError, match=r"strategy='pmap' needs the data set in memory") as error:
        choose_text("stream", **{"parallel.strategy": "pmap"})
    assert_one_sentence(error.value)
    with pytest.raises(UserError, match=r"a text in memory has at most 17.2 GB; set data.tok") as e:
        choose_text("memory", loading.MAX_BYTES + 1)
    assert_one_sentence(e.value)
