"""Reads the collectives of a compiled program from its HLO text."""

import re
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
BYTES = {"pred": 1, "bf16": 2, "f16": 2}  # every other type has its number of bits in its name


class Collective(NamedTuple):
    """The collectives of one kind in a program.

    Attributes:
      kind: one of `KINDS`.
      number: number of collectives, each of one or more arrays.
      num_bytes: bytes of all their results on one device.
    """

    kind: str
    number: int
    num_bytes: int


def collectives(program: str) -> list[Collective]:
    """Returns the collectives of a compiled program; one inside a loop counts once.

    Args:
      program: the text of the program, from `compiled.as_text()`.

    Returns:
      One entry per kind that occurs.

    >>> collectives("  x = (f32[16,2]{0}, /*index=1*/bf16[]) all-reduce(a, b), channel_id=1")
    [Collective(kind='all-reduce', number=1, num_bytes=130)]
    """
    found: dict[str, list[int]] = {}
    program = re.sub(r"/\*.*?\*/", "", program)
    # An asynchronous collective is two instructions, and the second has the result.
    pattern = rf"= (?P<shapes>[^=]*?) (?P<kind>{'|'.join(KINDS)})(?:-done)?\("
    for match in re.finditer(pattern, program):
        sizes = re.findall(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]", match["shapes"])
        num_bytes = sum(_bytes(dtype) * _elements(shape) for dtype, shape in sizes)
        found.setdefault(match["kind"], []).append(num_bytes)
    return [Collective(kind, len(sizes), sum(sizes)) for kind, sizes in sorted(found.items())]


def _bytes(dtype: str) -> int:
    return BYTES.get(dtype) or int(re.sub(r"\D", "", dtype)) // 8


def _elements(shape: str) -> int:
    product = 1
    for side in filter(None, shape.split(",")):
        product *= int(side)
    return product
