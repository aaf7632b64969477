"""Parses the names of cells in a paper's tables, such as "mnist,nn2,sig+"."""

from collections.abc import Iterable, Mapping


def parse(
    cell: str,
    names: tuple[str, str, str],
    pairs: Mapping[str, Iterable[str]],
    thirds: Iterable[str],
) -> tuple[str, str, str]:
    """Splits the name of a cell into its three words.

    Args:
      cell: three words separated by commas, such as "mnist,nn2,sig+".
      names: what each word stands for, for error messages.
      pairs: each first word and the second words that it allows.
      thirds: allowed third words.

    Returns:
      The three words.

    Raises:
      ValueError: the cell does not exist.
    """
    words = cell.split(",")
    if len(words) != 3:
        of_pairs = "; ".join(f"{word},{{{','.join(seconds)}}}" for word, seconds in pairs.items())
        raise ValueError(
            f"{cell!r} is not {','.join(names)}, which follow the file's name and a colon; choose "
            f"the first two from {of_pairs} and the last from {', '.join(thirds)}"
        )
    first, second, third = words
    choices = (pairs, pairs.get(first, ()), thirds)
    for name, word, known in zip(names, words, choices, strict=True):
        if word not in known:
            raise ValueError(f"unknown {name} {word!r}; choose one of {', '.join(known)}")
    return first, second, third
