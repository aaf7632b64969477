"""The tables and the figure of a map of schedules on linear regression."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, LogNorm
from matplotlib.figure import Figure

from experiments.results.limit_map import KEY, Point

LOG = ("log (paper)", "log (normalized)", "log (one cycle)")
BASELINE = "cosine"
CASE = ["steps", "batch_size", "exponent"]
INCHES = (3.8, 2.4)  # of one panel
RANGE = 4.0  # a ratio of this or more has the darkest color
COLORS = {
    "log (paper)": "#dc2626",
    "log (normalized)": "#f87171",
    "log (one cycle)": "#fb923c",
    "cosine": "#93c5fd",
    "cosine (restarts)": "#60a5fa",
    "sigmoid": "#c4b5fd",
    "wsd": "#86efac",
    "linear": "#fde047",
    "constant": "#d1d5db",
    "inverse sqrt": "#a8a29e",
    "polynomial": "#f0abfc",
    "exponential": "#5eead4",
}


def best_warmups(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of each method with the better of its two warmups.

    Args:
      rows: of `limit_map.write_rows`.

    Returns:
      One row per problem and method.
    """
    return rows.loc[rows.groupby([*KEY, "method"], sort=False)["risk"].idxmin()]


def winners(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the row with the lowest risk of each problem."""
    return rows.loc[rows.groupby(KEY, sort=False)["risk"].idxmin()]


def ratios(rows: pd.DataFrame, method: str, baseline: str = BASELINE) -> pd.Series:
    """Returns the risk of a method divided by that of another, with the problems as index.

    Args:
      rows: with one row per problem and method.
      method: the method.
      baseline: the other method.

    Returns:
      Ratios; below 1, the method is better.
    """
    risks = rows.pivot(index=KEY, columns="method", values="risk")
    return risks[method] / risks[baseline]


def write(rows: pd.DataFrame, directory: Path) -> None:
    """Writes the tables to `map.md`, and the figure to `map.png`.

    Args:
      rows: of `limit_map.write_rows`.
      directory: an existing directory.
    """
    (directory / "map.md").write_text(tables(rows))
    draw(rows).savefig(directory / "map.png")


def tables(rows: pd.DataFrame) -> str:
    """Returns the tables in Markdown.

    Each has one column for each level of noise, and one row for all else that differs; the runs
    with the fewest time constants come first.

    Args:
      rows: of `limit_map.write_rows`.

    Returns:
      Which method wins; and the log annealings in percent of the risk of cosine.
    """
    best = best_warmups(rows)
    first = winners(best)
    wins = first["method"] + first["excess"].map(" {:+.1%}".format)
    text = "Lowest risk, and by how much it exceeds that of the limit:\n\n"
    text += _by_noise(wins.set_axis(pd.MultiIndex.from_frame(first[KEY])))
    for method in LOG:
        text += f"\nRisk of {method} minus that of {BASELINE}, in percent of the latter:\n\n"
        text += _by_noise((ratios(best, method) - 1).map("{:+.1%}".format))
    return text


def _by_noise(values: pd.Series) -> str:
    rows = values.reset_index(name="value")
    lengths = [Point(*row[: len(KEY)]).time_constants() for row in rows.itertuples(index=False)]
    rows["time constants"] = lengths
    case = ["time constants", *CASE]
    table = rows.pivot(index=case, columns="noise", values="value").reset_index()
    table["exponent"] = table["exponent"].map("{:g}".format)
    table["time constants"] = table["time constants"].map(
        lambda value: f"{value:.0f}" if value >= 10 else f"{value:.2g}"
    )
    table.columns = [
        name.replace("_", " ") if isinstance(name, str) else f"noise {name:g}" for name in table
    ]
    return table.to_markdown(index=False, disable_numparse=True) + "\n"


def draw(rows: pd.DataFrame) -> Figure:
    """Draws which method wins, and the log annealings against cosine.

    Args:
      rows: of `limit_map.write_rows`.

    Returns:
      A figure with one column for each batch size and number of steps.
    """
    best = best_warmups(rows)
    first = winners(best)
    cases = rows[["steps", "batch_size"]].drop_duplicates().itertuples(index=False, name=None)
    cases = sorted(cases, key=lambda case: case[::-1])
    width, height = INCHES
    figure = Figure(
        figsize=(width * len(cases) + 1, height * (1 + len(LOG))), dpi=90, layout="constrained"
    )
    grid = figure.subplots(1 + len(LOG), len(cases), sharex=True, sharey=True, squeeze=False)
    for axis, case in zip(grid[0], cases, strict=True):
        axis.set_title(f"batch size {case[1]}, {case[0]:,} steps", fontsize=10)
        _draw_winners(axis, _of(first, case))
    for method, panels in zip(LOG, grid[1:], strict=True):
        compared = ratios(best, method).reset_index(name="ratio")
        for axis, case in zip(panels, cases, strict=True):
            shown = _draw_ratios(axis, _of(compared, case))
        bar = figure.colorbar(shown, ax=panels, ticks=[1 / RANGE, 1, RANGE], format="{x:g}")
        bar.ax.minorticks_off()
        panels[0].set_ylabel(f"{method} / {BASELINE}\nexponent", fontsize=9)
    grid[0, 0].set_ylabel("lowest risk\nexponent", fontsize=9)
    for axis in grid[-1]:
        axis.set_xlabel("noise", fontsize=9)
    return figure


def _of(rows: pd.DataFrame, case: tuple[int, int]) -> pd.DataFrame:
    steps, batch_size = case
    return rows[(rows["steps"] == steps) & (rows["batch_size"] == batch_size)]


def _draw_winners(axis: Axes, rows: pd.DataFrame) -> None:
    numbers = {method: number for number, method in enumerate(COLORS)}
    values = rows.assign(number=rows["method"].map(numbers))
    table = values.pivot(index="exponent", columns="noise", values="number")
    axis.imshow(
        table,
        cmap=ListedColormap(list(COLORS.values())),
        vmin=0,
        vmax=len(COLORS) - 1,
        aspect="auto",
    )
    texts = rows["method"].str.replace(" ", "\n", n=1) + rows["excess"].map("\n{:+.1%}".format)
    _label(axis, rows.assign(text=texts), 6)


def _draw_ratios(axis: Axes, rows: pd.DataFrame) -> ScalarMappable:
    table = rows.pivot(index="exponent", columns="noise", values="ratio")
    norm = LogNorm(1 / RANGE, RANGE)
    shown = axis.imshow(table.clip(1 / RANGE, RANGE), cmap="coolwarm", norm=norm, aspect="auto")
    _label(axis, rows.assign(text=rows["ratio"].map("{:.2f}".format)), 8)
    return shown


def _label(axis: Axes, rows: pd.DataFrame, size: float) -> None:
    texts = rows.pivot(index="exponent", columns="noise", values="text")
    for (row, column), text in np.ndenumerate(texts.to_numpy()):
        axis.text(column, row, text, ha="center", va="center", fontsize=size)
    axis.set_xticks(range(texts.shape[1]), [f"{noise:g}" for noise in texts.columns], fontsize=8)
    axis.set_yticks(
        range(texts.shape[0]), [f"{exponent:g}" for exponent in texts.index], fontsize=8
    )
