"""How all figures of results look: colors that color-blind readers can tell apart, and sizes."""

from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito, "Color Universal Design" (2008), without the yellow, which is pale on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH_INCHES = 7.2  # the text width of a page, so that print does not shrink the letters
DPI = 150
SMALL, NORMAL = 7, 8  # points
GRID = "#dddddd"
LOG_ANNEALING = "log_annealing"  # part of the names of its schedules


class Role(NamedTuple):
    """How a method looks in all figures of a report.

    Attributes:
      color: of its lines and dots.
      marker: shape of its dots, which differs in black and white too.
      line: line style of its curves.
      meaning: label in a legend.
    """

    color: str
    marker: str
    line: Any
    meaning: str


BASELINE = Role("#000000", "s", (0, (4, 1.5)), "baseline")
LOG = Role("#D55E00", "D", "-", "log annealing")
OTHER = Role("#0072B2", "o", "-", "other method")


def make_figure(height_inches: float) -> Figure:
    """Returns an empty figure of the width of a page, with a white background."""
    return Figure(
        figsize=(WIDTH_INCHES, height_inches), dpi=DPI, layout="constrained", facecolor="white"
    )


def tidy(axis: Axes) -> None:
    """Removes the upper and right edge of an axis, and sets the size of its numbers."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(which="both", labelsize=SMALL)


def plain(text: str) -> str:
    r"""Returns text that matplotlib does not take for a formula.

    >>> print(plain("$x$"))
    \$x\$
    """
    return text.replace("$", r"\$")
