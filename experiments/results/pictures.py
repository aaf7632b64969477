"""Makes the figures of a report as PNG files, each with its caption."""

import io
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from experiments.results import figures, floors, learning_rates, ranking, style, tables
from experiments.results.described import Metric
from experiments.results.learning_rates import Rates
from experiments.results.read import Results


class Picture(NamedTuple):
    """A figure of a report.

    Attributes:
      name: what it is called in a file name, such as "test_loss".
      model: the model that it shows, or None if it shows all of them.
      caption: what it shows, as Markdown.
      title: its text for readers who do not see it.
      png: content of its file.
    """

    name: str
    model: str | None
    caption: str
    title: str
    png: bytes


def of_section(
    data: str,
    split: str,
    rows: pd.DataFrame,
    trials: pd.DataFrame,
    results: Results,
    baseline: str,
) -> list[Picture]:
    """Draws the figures of one data set and split.

    Args:
      data: the data set.
      split: the split that its trials are evaluated on.
      rows: their rows.
      trials: their summaries, as returned by `failures.per_trial`.
      results: all results.
      baseline: the method to compare with.

    Returns:
      The ranking of all methods, and then the curves of each model: of the objective and of the
      training loss.
    """
    final, trials = rows[rows.phase == "final"], trials[trials.phase == "final"]
    objective = results.objective
    configs = {
        (model, method): results.configs[data, split, model, method]
        for model, method in final[["model", "setting"]].drop_duplicates().itertuples(index=False)
    }
    is_comparison = len({method for _, method in configs}) > 1
    compared = baseline if is_comparison else None
    roles = {key: _role(key[1], config, compared) for key, config in configs.items()}
    parts = results.parts(rows)

    def compared_with(metric: Metric) -> dict[str, list[float]]:
        return floors.of_data(parts, data, metric.name)

    caption = (
        f"**Methods by {split} {objective.label}**, the best at the top: mean over trials of the "
        "last tenth of epochs, with its interval, or the range of two trials. A hollow dot is a "
        "single trial, and an arrow marks a mean outside the axis. Log annealing is highlighted."
        + (f" The line is the mean of {baseline}." if is_comparison else "")
    )
    drawn = ranking.draw(trials, split, objective, roles, floors=compared_with(objective))
    title = f"{split} {objective.label} of all methods, {data}"
    made = [Picture("ranking", None, caption, title, _png(drawn))]
    for model, of_model in final.groupby("model"):
        rates = {
            method: learning_rates.of_method(of_method, configs[model, method])
            for method, of_method in of_model.groupby("setting")
        }
        # A task without a metric called "loss" shows the objective on both splits.
        for part, metric in (
            ("test", objective),
            ("train", results.metrics.get("loss", objective)),
        ):
            shown = split if part == "test" else part
            level = results.chance[metric.name].get(data)
            drawn = figures.draw(
                of_model,
                trials[trials.model == model],
                part,
                metric,
                rates,
                {method: role for (name, method), role in roles.items() if name == model},
                objective=objective,
                chance=level,
                floors=compared_with(metric),
            )
            caption = (
                f"**{shown.capitalize()} {metric.label}, {model}**: mean over trials, with its "
                "interval, or the range of two trials."
                f"{_diverged_remark(of_model, metric, level)}{_cut(metric)} {_rates_remark(rates)}"
            )
            title = f"{shown} {metric.label}, {data}, {model}"
            made.append(Picture(f"{part}_{metric.name}", model, caption, title, _png(drawn)))
    return made


def _role(method: str, config: Mapping[str, Any] | None, baseline: str | None) -> style.Role:
    """Returns how a method looks: the baseline, a schedule of log annealing, or another one."""
    if method == baseline:
        return style.BASELINE
    schedule = str((config or {}).get("schedule.name", method))
    return style.LOG if style.LOG_ANNEALING in schedule else style.OTHER


def _rates_remark(rates: Mapping[str, Rates]) -> str:
    """Says of which steps a figure shows the learning rate."""
    at_ends = tables.in_order(learning_rates.missing(rates))
    if not at_ends:
        return "Below: the learning rate of every step."
    return (
        "Below: the learning rate of every step, except for methods whose schedule cannot be "
        "rebuilt from the stored config, which have that of the end of each epoch: "
        f"{', '.join(at_ends)}."
    )


def _diverged_remark(rows: pd.DataFrame, metric: Metric, chance: float | None) -> str:
    if not rows.diverged.any():
        return ""
    score = "the worst value in the figure" if chance is None else "the chance level"
    return f" From where a trial diverged, it counts with {score}."


def _cut(metric: Metric) -> str:
    """Returns what the caption of a figure says about an axis that does not show all means."""
    if metric.direction == "min":
        return ""
    return " The axis is cut to where the curves end, and a panel notes a method that ends below."


def _png(figure: Figure) -> bytes:
    picture = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(picture, format="png")
    return picture.getvalue()
