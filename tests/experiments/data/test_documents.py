"""A text on disk: any range of its bytes is read from its files, and damage is one sentence."""

import os
import pickle
import random
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.data import documents, text
from experiments.data.records import Damaged
from tests.experiments.build.edits import assert_one_sentence
from tests.experiments.data.prepare import write_texts

DOCUMENTS = [b"abc", b"", b"defghij", b"k", b"", b"lmnopqrs", b"tu"]
WHOLE = b"".join(DOCUMENTS)
ranges = st.tuples(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE))).map(sorted)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    for number, document in enumerate(DOCUMENTS):
        (folder / f"{number}.txt").write_bytes(document)
    return documents.Files([folder / f"{number}.txt" for number in range(len(DOCUMENTS))])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A data set whose training split has all documents but the last two."""
    root = tmp_path_factory.mktemp("root")
    splits = {"train": DOCUMENTS[:-2], "test": DOCUMENTS[-1:], "validation": DOCUMENTS[-2:-1]}
    write_texts(root / "my_texts" / "1.0.0", splits, num_shards=2)
    return root


@pytest.fixture(scope="module", autouse=True)
def cache_home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def test_any_range_of_files_is_that_of_the_whole_text(files):
    copy = pickle.loads(pickle.dumps(files))
    part = documents.Part(files, 2, 20)
    assert (len(copy), len(part)) == (len(WHOLE), 18)

    @given(ranges)
    def check(start_and_stop):
        start, stop = start_and_stop
        assert copy.read(start, stop) == WHOLE[start:stop]
        stop = min(stop, len(part))
        assert part.read(start, stop) == WHOLE[2:20][start:stop]

    check()


def test_any_range_of_records_is_that_of_the_whole_text(root):
    corpus = text.describe_on_disk("my_texts", data_dir=str(root))
    read = pickle.loads(pickle.dumps(corpus.on_disk))
    assert (len(read), corpus.num_train) == (len(WHOLE), len(WHOLE) - 10)

    @given(ranges)
    def check(start_and_stop):
        start, stop = start_and_stop
        assert read.read(start, stop) == WHOLE[start:stop]

    check()


def test_lengths_are_measured_again_if_the_files_change(tmp_path):
    for texts in ([b"abc", b"d"], [b"a", b"bcdef"]):
        directory = tmp_path / "changing" / "1.0.0"
        shutil.rmtree(directory, ignore_errors=True)
        write_texts(directory, {"train": texts, "test": [b"xy"]}, num_shards=1)
        corpus = text.describe_on_disk("changing", data_dir=str(tmp_path))
        assert corpus.num_train == sum(map(len, texts))
        assert corpus.on_disk.read(0, len(corpus.on_disk)) == b"".join([*texts, b"xy"])


def test_file_that_shrinks_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc")
    (tmp_path / "b.txt").write_bytes(b"defgh")
    read = documents.Files([tmp_path / "a.txt", tmp_path / "b.txt"])
    os.truncate(tmp_path / "b.txt", 1)
    with pytest.raises(
        Damaged, match=r"byte 0 of .*b\.txt cannot be read \(it ends at byte 1\)"
    ) as e:
        read.read(1, 6)
    assert_one_sentence(e.value)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(Damaged, match=r"byte 1 of .*a\.txt cannot be read \(No such file"):
        pickle.loads(pickle.dumps(read)).read(1, 3)


def test_damaged_record_is_named(tmp_path):
    rng = random.Random(0)
    directory = tmp_path / "my_texts" / "1.0.0"
    train = [rng.randbytes(4000) for _ in range(2)]
    write_texts(directory, {"train": train, "test": [b"c"]}, num_shards=1)
    (file,) = directory.glob("*train*")
    content = bytearray(file.read_bytes())
    content[content.index(train[1][:100]) + 50] ^= 1
    file.write_bytes(content)
    with pytest.raises(Damaged, match=r"example 1 of .*my_texts-train.* cannot be read") as error:
        text.describe_on_disk("my_texts", data_dir=str(tmp_path))
    assert_one_sentence(error.value)
