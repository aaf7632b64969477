"""What a compiled program says of itself: the data that its devices exchange."""

import re
from typing import NamedTuple

KINDS = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
BYTES = {"pred": 1, "bf16": 2, "f16": 2}  # the others have their bits in their name


class Collective(NamedTuple):
    """The collectives of one kind in a program.

    Attributes:
      kind: of `KINDS`.
      number: how many there are, each of one or more arrays.
      num_bytes: bytes of all their results on one device.
    """

    kind: str
    number: int
    num_bytes: int


def collectives(program: str) -> list[Collective]:
    """The collectives of a compiled program; one inside a loop counts once.

    Args:
      program: its text, as `compiled.as_text()` gives it.

    Returns:
      An entry a kind that there is.

    >>> collectives("  x = (f32[16,2]{0}, /*index=1*/bf16[]) all-reduce(a, b), channel_id=1")
    [Collective(kind='all-reduce', number=1, num_bytes=130)]
    """
    found: dict[str, list[int]] = {}
    program = re.sub(r"/\*.*?\*/", "", program)
    # An asynchronous one is two instructions, of which the second has the result.
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
