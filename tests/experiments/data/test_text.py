"""Texts: folders, data sets of tfds, and the Markov chain as tokens; unusable ones are refused."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import markov, text
from experiments.errors import UserError

ROOT = Path(__file__).parents[3]
texts = st.text(st.characters(codec="utf-8"), min_size=10, max_size=200)


def folder_with(directory, **files):
    for name, content in files.items():
        file = directory / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(directory)


def refusal(directory, *, use_bytes=False):
    with pytest.raises(UserError) as error:
        text.describe("folder", data_dir=str(directory), use_bytes=use_bytes)
    assert "\n" not in str(error.value)
    return str(error.value)


@given(texts)
def test_characters_survive_encoding(content):
    vocabulary = text.Vocabulary("".join(sorted(set(content))))
    tokens = vocabulary.encode(content, "it")
    assert tokens.max() < vocabulary.size == len(set(content))
    assert vocabulary.decode(tokens) == content


@given(texts)
def test_bytes_survive_encoding(content):
    vocabulary = text.Vocabulary(None)
    tokens = vocabulary.encode(content, "it")
    assert tokens.tobytes() == content.encode()
    assert vocabulary.decode(tokens) == content


def test_folder_is_read_in_the_order_of_names_and_its_last_tenth_is_evaluated(tmp_path):
    name = folder_with(tmp_path / "my texts", b="fghij", a="abcde", **{"c/d": "ab" * 5})
    (tmp_path / "my texts" / "notes.md").write_text("not a text")
    corpus = text.describe("folder", data_dir=name)
    train, test = corpus.load()
    assert corpus.name == "my texts"
    assert corpus.vocabulary.decode(train) == "abcdefghij" + "ab" * 4
    assert corpus.vocabulary.decode(test) == "ab"
    assert (corpus.vocabulary.characters, corpus.num_train) == ("abcdefghij", 18)
    assert corpus.entropy_rate is None


def test_held_out_tokens_leave_the_training_split_and_keep_the_vocabulary(tmp_path):
    corpus = text.describe("folder", data_dir=folder_with(tmp_path, a="abcdefghij" + "a" * 10))
    held_out = text.hold_out(corpus, 12)
    train, test = held_out.load()
    assert (corpus.vocabulary.decode(train), held_out.num_train) == ("abcdef", 6)
    assert corpus.vocabulary.decode(test) == "ghij" + "a" * 8
    assert held_out.vocabulary == corpus.vocabulary


def test_text_that_is_not_utf_8_is_read_as_bytes(tmp_path):
    content = bytes(range(256)) * 2
    folder = folder_with(tmp_path, a=content)
    corpus = text.describe("folder", data_dir=folder, use_bytes=True)
    assert b"".join(tokens.tobytes() for tokens in corpus.load()) == content
    assert corpus.vocabulary.size == 256
    assert "a.txt is not UTF-8 (byte 0x80 at position 128); convert it, or" in refusal(folder)


def test_unusable_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"^data\.name='folder' needs data\.data_dir"):
        text.describe("folder")
    assert "is not a folder of text files" in refusal(tmp_path / "missing")
    assert "has no text files, whose names end in .txt" in refusal(tmp_path)
    folder_with(tmp_path, empty="")
    assert "has 0 characters, which is too short to train" in refusal(tmp_path)
    folder_with(tmp_path, short="abc")
    assert "has 3 bytes, which is too short to train" in refusal(tmp_path, use_bytes=True)


def test_character_that_the_training_text_lacks_is_named(tmp_path):
    folder_with(tmp_path, a="ab" * 10 + "aß")
    message = refusal(tmp_path)
    assert message.startswith(f"the evaluated part of the text in {tmp_path} has 'ß' at position 1")
    assert message.endswith("or set data.tokens=bytes")


def test_text_on_disk_is_that_in_memory(tmp_path):
    folder = folder_with(tmp_path, a="abcdefghij", **{"b/c": "äöü" * 5})
    corpus = text.describe_on_disk("folder", data_dir=folder)
    in_memory = text.describe("folder", data_dir=folder, use_bytes=True)
    whole = corpus.on_disk.read(0, len(corpus.on_disk))
    assert whole == b"".join(tokens.tobytes() for tokens in in_memory.load())
    assert corpus[:3] == in_memory[:3]
    assert text.files_of("folder", data_dir=folder) == (len(whole), True)
    held_out, expected = text.hold_out(corpus, 7), text.hold_out(in_memory, 7).load()
    assert held_out.num_train == expected.train.size
    whole = held_out.on_disk.read(0, len(held_out.on_disk))
    assert whole == b"".join(tokens.tobytes() for tokens in expected)
    folder_with(tmp_path / "short", short="abc")
    with pytest.raises(UserError, match="has 3 bytes, which is too short to train"):
        text.describe_on_disk("folder", data_dir=str(tmp_path / "short"))


def test_markov_text_is_a_sample_of_its_chain():
    corpus = text.describe("markov")
    train, test = corpus.load()
    assert (train.size, test.size) == (corpus.num_train, markov.NUM_TEST)
    assert corpus.entropy_rate == markov.entropy_rate(markov.random_chain())
    assert set(np.unique(train)) == set(range(corpus.vocabulary.size))


@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="TFDS_DATA_DIR names no data sets")
def test_tiny_shakespeare_is_read_without_tensorflow():
    script = """
import sys
from experiments.data import text
corpus = text.describe("tiny_shakespeare")
train, test = corpus.load()
assert (train.size, test.size, corpus.vocabulary.size) == (1_003_854, 111_540, 65)
assert corpus.vocabulary.decode(train[:14]) == "First Citizen:"
assert not {"tensorflow", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=120)


@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="TFDS_DATA_DIR names no data sets")
def test_data_set_without_texts_is_refused():
    with pytest.raises(UserError, match=r"'mnist' has the features image, label; .* needs 'text'"):
        text.describe("mnist")
