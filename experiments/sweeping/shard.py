"""Shards of a sweep: which of its blocks a process trains, if several machines share them."""

import re
from collections.abc import Iterable
from typing import NamedTuple

from experiments.errors import UserError


class Shard(NamedTuple):
    """A share of the blocks of a sweep.

    Attributes:
      number: number of the share, from 1.
      total: number of shares.
    """

    number: int
    total: int

    def owner(self, block: int) -> int:
        """Returns the share to which a block belongs, by its position in its phase.

        >>> [Shard(1, 3).owner(block) for block in range(5)]
        [1, 2, 3, 1, 2]
        """
        return block % self.total + 1

    @property
    def suffix(self) -> str:
        """What the names of this share's files end with; empty for a whole sweep."""
        return f"-{self.number}-of-{self.total}" if self.total > 1 else ""

    def __str__(self) -> str:
        return f"{self.number}/{self.total}"


WHOLE = Shard(1, 1)


def parse(text: str) -> Shard:
    """Reads the value of --shard.

    Args:
      text: I/N, the I-th of N shares, counted from 1.

    Returns:
      The share.

    Raises:
      UserError: the text is not such a value.

    >>> parse("2/4")
    Shard(number=2, total=4)
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    number, total = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= total:
        raise UserError(
            f"--shard={text} must be I/N with I from 1 to N, such as --shard=1/4 for the first of "
            "four shards"
        )
    return Shard(number, total)


def named(numbers: Iterable[int]) -> str:
    """Returns shards in running text.

    >>> named([3]), named([3, 1, 2])
    ('shard 3', 'shards 1, 2 and 3')
    """
    *first, last = sorted(set(numbers))
    if not first:
        return f"shard {last}"
    return f"shards {', '.join(map(str, first))} and {last}"
