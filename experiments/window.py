"""A window of steps, as a flag names it."""

import re
from typing import NamedTuple

from experiments.errors import UserError


class Window(NamedTuple):
    """The steps of which a trace is written.

    Attributes:
      first: the first of them; the first step of a run is 0.
      end: the step after the last.
    """

    first: int
    end: int


def parse(text: str) -> Window:
    """The window that the flag --profile_steps describes.

    Args:
      text: FIRST:END.

    Returns:
      The window.

    Raises:
      UserError: the text describes none.

    >>> parse("100:110")
    Window(first=100, end=110)
    """
    match = re.fullmatch(r"(\d{1,12}):(\d{1,12})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise UserError(
            f"--profile_steps={text!r} is no window of steps; it must be FIRST:END, such as 100:110"
        )
    return Window(int(match[1]), int(match[2]))
