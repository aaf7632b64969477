"""The main figure of a report: a dot and an interval per method, the best at the top."""

import io

import numpy as np
import pandas as pd

from experiments.results import ranking, style
from experiments.results.described import Metric

ACCURACY = Metric("accuracy", "max", percent=True)
LOSS = Metric("loss", "min", percent=False)
NAN = float("nan")


def trials_of(values, failed=(), model="nn2"):
    """Returns summaries of trials, from the values of each method."""
    rows = [
        {"model": model, "setting": method, "seed": seed, "last": value, "failed": method in failed}
        for method, of in values.items()
        for seed, value in enumerate(of)
    ]
    return pd.DataFrame(rows)


def draw(trials, objective, floors=None):
    looks = {"cosine": style.BASELINE, "log": style.LOG}
    keys = trials[["model", "setting"]].drop_duplicates().itertuples(index=False, name=None)
    roles = {key: looks.get(key[1], style.OTHER) for key in keys}
    figure = ranking.draw(trials, "test", objective, roles, floors=floors)
    figure.savefig(io.BytesIO(), format="png")
    return figure


def marks(axis):
    """Returns the place, position, and marker of each dot."""
    dots = [line for line in axis.lines if line.get_marker() not in ("None", "", None)]
    return [(dot.get_ydata()[0], dot.get_xdata()[0], dot.get_marker()) for dot in dots]


def test_methods_are_sorted_and_the_figure_has_their_numbers():
    values = {"sig": [0.5], "log": [0.6, 0.8], "cosine": [0.7, 0.8, 0.9], "bad": [NAN, NAN]}
    axis, numbers = draw(trials_of(values, failed=("bad",)), ACCURACY).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["cosine", "log", "sig", "bad"]
    assert [label.get_text() for label in numbers.get_yticklabels()] == [
        *("80.00 ± 24.84", "70.00 (60.00 to 80.00, 2 trials)", "50.00 (1 trial)", "2/2 failed")
    ]
    assert axis.get_xlabel() == "test accuracy (%), higher is better"
    np.testing.assert_allclose([x for _, x, _ in marks(axis)], [80, 70, 50], rtol=1e-12)
    assert [marker for *_, marker in marks(axis)] == ["s", "D", "o"]
    bars = {
        line.get_ydata()[0]: line.get_xdata() for line in axis.lines if line.get_marker() == "None"
    }
    np.testing.assert_allclose(bars[1], [60, 80], rtol=1e-12)
    # The single trial has no bar, and a hollow dot.
    np.testing.assert_allclose(np.ptp(bars[2]), 0)
    assert [line.get_markerfacecolor() for line in axis.lines if line.get_marker() == "o"] == [
        "white"
    ]
    low, high = axis.get_ylim()
    assert low > high  # the first place is at the top


def test_lowest_loss_is_at_the_top_and_outliers_are_arrows():
    values = {name: [0.1 + 0.01 * place] * 3 for place, name in enumerate("abcdef")}
    figure = draw(trials_of({**values, "far": [90.0] * 3}), LOSS, floors={"entropy": [0.05]})
    axis, numbers = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [*"abcdef", "far"]
    assert axis.get_xlabel() == "test loss, lower is better"
    assert marks(axis)[-1][2] == ">"
    assert numbers.get_yticklabels()[-1].get_text() == "90 ± 0"
    low, high = axis.get_xlim()
    assert low <= 0.05
    assert 0.15 < high < 1
    assert "entropy" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_each_model_has_a_panel_with_its_own_order():
    trials = pd.concat(
        [
            trials_of({"sig": [0.5] * 3, "cosine": [0.6] * 3}),
            trials_of({"sig": [0.9] * 3, "cosine": [0.8] * 3}, model="$vgg$"),
        ]
    )
    figure = draw(trials, ACCURACY)
    panels = [axis for axis in figure.axes if axis.get_title(loc="left")]
    assert [axis.get_title(loc="left") for axis in panels] == [r"\$vgg\$", "nn2"]
    orders = [[label.get_text() for label in axis.get_yticklabels()] for axis in panels]
    assert orders == [["sig", "cosine"], ["cosine", "sig"]]


def test_figure_without_scores_can_be_drawn():
    axis, _ = draw(trials_of({"sig": [NAN]}, failed=("sig",)), ACCURACY).axes
    assert not marks(axis)
