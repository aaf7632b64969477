"""The cells of a paper's tables, named as three words with commas between."""

from collections.abc import Iterable, Mapping


def parse(
    cell: str,
    names: tuple[str, str, str],
    pairs: Mapping[str, Iterable[str]],
    thirds: Iterable[str],
) -> tuple[str, str, str]:
    """The three words of a cell.

    Args:
      cell: such as "mnist,nn2,sig+".
      names: what the words are.
      pairs: first word -> the second words that go with it.
      thirds: third words.

    Returns:
      The words.

    Raises:
      ValueError: there is no such cell.
    """
    words = cell.split(",")
    if len(words) != 3:
        raise ValueError(f"{cell!r} is not {','.join(names)}")
    first, second, third = words
    choices = (pairs, pairs.get(first, ()), thirds)
    for name, word, known in zip(names, words, choices, strict=True):
        if word not in known:
            raise ValueError(f"unknown {name} {word!r}; choose one of {', '.join(known)}")
    return first, second, third
