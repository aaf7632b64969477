"""Texts as arrays of token numbers: a data set of tfds, a folder of files, or a Markov chain.

A token is a character or a byte.
"""

import functools
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.data import documents, folders, markov, prepared, shards
from experiments.errors import UserError

HELD_OUT = 10  # of a text without splits, a tenth is evaluated
NUM_BYTES = 256
ENDING = ".txt"
# A name of a text, and one line about it. Any data set of tfds with the feature `text` works, too.
KNOWN = {
    "markov": "Characters drawn from a random Markov chain, whose entropy rate is known; built in.",
    "folder": "The .txt files in data.data_dir.",
    "tiny_shakespeare": "A million characters of Shakespeare, from tensorflow-datasets.",
}


class Vocabulary(NamedTuple):
    """The tokens of a text.

    Attributes:
      characters: the characters in the order of their tokens, which is that of their code points;
        None if tokens are bytes.
    """

    characters: str | None

    @property
    def size(self) -> int:
        """Number of tokens.

        >>> Vocabulary("abc").size, Vocabulary(None).size
        (3, 256)
        """
        return NUM_BYTES if self.characters is None else len(self.characters)

    def encode(self, text: str, what: str) -> np.ndarray:
        """Returns the tokens of a text.

        Args:
          text: the text.
          what: what the text is, for the error.

        Returns:
          The narrowest unsigned integers, [tokens].

        Raises:
          UserError: the vocabulary lacks a character of the text.

        >>> Vocabulary("abc").encode("cab", "the prompt")
        array([2, 0, 1], dtype=uint8)
        """
        if self.characters is None:
            return np.frombuffer(text.encode(errors="surrogateescape"), np.uint8)
        return self._numbered(_code_points(text), what)

    def _numbered(self, code_points: np.ndarray, what: str) -> np.ndarray:
        assert self.characters is not None
        known = _code_points(self.characters)
        tokens = np.searchsorted(known, code_points).clip(max=len(known) - 1)
        unknown = np.flatnonzero(known[tokens] != code_points)
        if unknown.size:
            place = int(unknown[0])
            raise UserError(
                f"{what} has {chr(code_points[place])!r} at position {place}, a character that the "
                "training text lacks; remove it, lengthen the training text, or set "
                "data.tokens=bytes"
            )
        return tokens.astype(np.min_scalar_type(len(known) - 1))

    def decode(self, tokens: np.ndarray) -> str:
        """Returns the text of tokens; bytes that are not UTF-8 are replaced.

        >>> Vocabulary("abc").decode(np.array([2, 0, 1]))
        'cab'
        """
        if self.characters is None:
            return tokens.astype(np.uint8).tobytes().decode(errors="replace")
        return "".join(self.characters[token] for token in tokens)


class Tokens(NamedTuple):
    """The tokens of a text, unsigned integers.

    Attributes:
      train: the training split, [tokens].
      test: the split that is evaluated, [tokens]; it continues the training split.
    """

    train: np.ndarray
    test: np.ndarray


class Corpus(NamedTuple):
    """A text that is ready to load.

    Attributes:
      name: name of the text, as tables show it.
      vocabulary: its tokens.
      num_train: tokens of the training split.
      load: returns the tokens; the first call may take a second. A text on disk has no tokens.
      entropy_rate: lowest possible expected loss in nats per token, or None if it is unknown.
      on_disk: the training split, and the split that is evaluated after it, if the text stays on
        disk. Its tokens are bytes.
    """

    name: str
    vocabulary: Vocabulary
    num_train: int
    load: Callable[[], Tokens]
    entropy_rate: float | None = None
    on_disk: documents.Text | None = None


def describe(name: str, *, data_dir: str | None = None, use_bytes: bool = False) -> Corpus:
    """Describes a text, which is read for that unless it is the Markov chain.

    Args:
      name: "markov", "folder", or a data set of tfds with the feature `text`.
      data_dir: the folder, or the directory of prepared data sets; None for tfds' own.
      use_bytes: whether tokens are bytes instead of characters.

    Returns:
      The text. Its vocabulary has the characters of the training split.

    Raises:
      UserError: the text cannot be read or is empty, or the split to evaluate has a character that
        the training split lacks.
    """
    if name == "markov":
        return _markov()
    if name == "folder":
        folder = _folder(data_dir)
        what, name = f"the text in {folder}", folder.resolve().name
        train, test = _split(_read_files(_text_files(folder), use_bytes))
    else:
        what = f"data set {name!r}"
        train, test = _read_tfds(name, data_dir, use_bytes)
    unit = "bytes" if use_bytes else "characters"
    _check_split(what, train.size, test.size, unit)
    vocabulary = Vocabulary(None)
    if not use_bytes:
        vocabulary = Vocabulary("".join(map(chr, np.unique(train))))
        train = vocabulary._numbered(train, what)
        test = vocabulary._numbered(test, f"the evaluated part of {what}")
    tokens = Tokens(train, test)
    return Corpus(name, vocabulary, train.size, lambda: tokens)


def describe_on_disk(name: str, *, data_dir: str | None = None) -> Corpus:
    """Describes a text that stays on disk; see `describe`. Its tokens are bytes.

    Args:
      name: "folder", or a data set of tfds in array_record files with the feature `text`.
      data_dir: the folder, or the directory of prepared data sets; None for tfds' own.

    Returns:
      The text. The lengths of the documents of a data set of tfds are measured at the first call,
      which reads all of them.

    Raises:
      UserError: the text cannot be read, is too short, or its files cannot be read at random.
    """
    text: documents.Text
    if name == "folder":
        folder = _folder(data_dir)
        what, name = f"the text in {folder}", folder.resolve().name
        text = documents.Files(_text_files(folder))
        num_train = len(text) - len(text) // HELD_OUT
    else:
        what, builder = f"data set {name!r}", _prepared(name, data_dir)
        train, others = _splits(name, builder)
        found = [shards.find(name, builder, split) for split in (train, *others)]
        files = list(itertools.chain.from_iterable(found))
        identity = prepared.identity(builder)
        lengths = documents.measure(files, identity, shards.state(builder))
        text = documents.Documents(files, lengths)
        num_train = len(text) - len(text) // HELD_OUT
        if others:
            num_train = int(lengths[: sum(shard.take for shard in found[0])].sum())
    _check_split(what, num_train, len(text) - num_train, "bytes")
    return Corpus(name, Vocabulary(None), num_train, _no_tokens, on_disk=text)


class Files(NamedTuple):
    """The files of a text.

    Attributes:
      num_bytes: their size; that of a data set of tfds includes what describes its examples.
      is_random_access: whether the text can stay on disk.
    """

    num_bytes: int
    is_random_access: bool


def files_of(name: str, *, data_dir: str | None = None) -> Files:
    """Returns how large a text is, without reading it; see `describe`."""
    if name == "folder":
        files = _text_files(_folder(data_dir))
        return Files(sum(file.stat().st_size for file in files), True)
    builder = _prepared(name, data_dir)
    train, others = _splits(name, builder)
    num_bytes = sum(builder.info.splits[split].num_bytes for split in (train, *others))
    return Files(num_bytes, shards.is_random_access(builder))


def hold_out(corpus: Corpus, num_tokens: int) -> Corpus:
    """Replaces the split that is evaluated by the last tokens of the training split.

    Args:
      corpus: a text, from `describe`.
      num_tokens: number of tokens to hold out, less than those of the training split.

    Returns:
      The text with a shorter training split and the same vocabulary.
    """
    kept = corpus.num_train - num_tokens

    def load() -> Tokens:
        train = corpus.load().train
        return Tokens(train[:kept], train[kept:])

    on_disk = corpus.on_disk and documents.Part(corpus.on_disk, 0, corpus.num_train)
    return corpus._replace(num_train=kept, load=load, on_disk=on_disk)


def _markov() -> Corpus:
    chain = markov.random_chain()
    return Corpus(
        name="markov",
        vocabulary=Vocabulary(markov.SYMBOLS[: len(chain)]),
        num_train=markov.NUM_TRAIN,
        load=_sampled,
        entropy_rate=markov.entropy_rate(chain),
    )


@functools.cache
def _sampled() -> Tokens:
    drawn = markov.sample(markov.random_chain(), markov.NUM_TRAIN + markov.NUM_TEST)
    return Tokens(drawn[: markov.NUM_TRAIN], drawn[markov.NUM_TRAIN :])


def _text_files(folder: Path) -> list[Path]:
    """Returns all text files of a folder and its subfolders, in the order of their names."""
    if not folder.is_dir():
        raise UserError(f"data.data_dir={os.fspath(folder)!r} is not a folder of text files")
    paths = [
        Path(directory, name)
        for directory, _, names in os.walk(folder, onerror=folders.refuse)
        for name in names
        if name.endswith(ENDING)
    ]
    files = sorted(path for path in paths if path.is_file())
    if not files:
        raise UserError(
            f"data.data_dir={os.fspath(folder)!r} has no text files, whose names end in {ENDING}"
        )
    return files


def _split(text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kept = text.size - text.size // HELD_OUT
    return text[:kept], text[kept:]


def _read_tfds(name: str, data_dir: str | None, use_bytes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Reads the training split, and all other splits after one another."""
    builder = _prepared(name, data_dir)

    def read(split: str) -> np.ndarray:
        texts = prepared.read_texts(name, builder, split)
        what = f"split {split!r} of data set {name!r}"
        return np.concatenate([_parsed(text, what, use_bytes) for text in texts])

    train, others = _splits(name, builder)
    if not others:
        return _split(read(train))
    return read(train), np.concatenate([read(split) for split in others])


def _prepared(name: str, data_dir: str | None) -> Any:
    """Returns the builder of a data set of tfds, which is prepared if it is not yet."""
    kind = "data set with the feature 'text'"
    builder = prepared.find(name, data_dir, known=", ".join(KNOWN), kind=kind)
    return prepared.prepare(name, data_dir, builder, offline="markov")


def _splits(name: str, builder: Any) -> tuple[str, list[str]]:
    """Returns the training split, and the splits to evaluate."""
    import tensorflow_datasets as tfds

    train, _ = prepared.splits(name, builder)
    features = builder.info.features
    if "text" not in features or not isinstance(features["text"], tfds.features.Text):
        raise UserError(
            f"data set {name!r} has the features {', '.join(features)}; a data set for a language "
            "model needs 'text'"
        )
    return train, [split for split in ("validation", "test") if split in builder.info.splits]


def _no_tokens() -> Tokens:
    raise UserError(
        "the text stays on disk, and this command keeps its data in memory; set "
        "data.loading='memory'"
    )


def _check_split(what: str, num_train: int, num_test: int, unit: str) -> None:
    if not num_train or not num_test:
        raise UserError(
            f"{what} has {num_train + num_test} {unit}, which is too short to train on a part and "
            "to evaluate the rest; use a longer text"
        )


def _read_files(files: Sequence[Path], use_bytes: bool) -> np.ndarray:
    return np.concatenate([_parsed(file.read_bytes(), str(file), use_bytes) for file in files])


def _folder(data_dir: str | None) -> Path:
    if data_dir is None:
        raise UserError("data.name='folder' needs data.data_dir, the folder of the text files")
    return Path(data_dir).expanduser()


def _parsed(text: bytes, what: str, use_bytes: bool) -> np.ndarray:
    """Returns the bytes of a text as uint8, or its characters as uint32 code points."""
    if use_bytes:
        return np.frombuffer(text, np.uint8)
    try:
        return _code_points(text.decode())
    except UnicodeDecodeError as error:
        raise UserError(
            f"{what} is not UTF-8 (byte 0x{text[error.start]:02x} at position {error.start}); "
            "convert it, or set data.tokens=bytes"
        ) from error


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), "<u4")
