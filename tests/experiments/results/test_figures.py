"""The lines of a figure are the means of the trials, and the figure names what it hides."""

import io
import math

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from experiments.results import failures, figures, learning_rates, read
from experiments.results.described import Metric
from tests.experiments.results.fake_results import (
    CLASSIFICATION,
    REGRESSION,
    curve,
    trial,
    write_sweep,
)

ACCURACY = Metric("accuracy", "max", percent=True)
LOSS = Metric("loss", "min", percent=False)
T2 = 4.30265273  # Student's t at 97.5% with 2 degrees of freedom


def draw(rows, split, metric, objective=None, chance=None):
    """Draws rows with the learning rates at the ends of epochs, as for older results."""
    objective = objective or (ACCURACY if "test_accuracy" in rows else LOSS)
    levels = {} if chance is None else dict.fromkeys(rows.data, chance)
    trials = failures.per_trial(rows, objective, levels)
    rates = {
        key: learning_rates.of_method(of_method, None)
        for key, of_method in rows.groupby(["model", "setting"])
    }
    return figures.draw(rows, trials, split, metric, rates, chance=chance)


def rows_of(directory, trials, **fields):
    return read.read([write_sweep(directory / "sweep", trials, **fields)]).rows


def saved(figure):
    """Renders a figure, because matplotlib only warns while rendering."""
    figure.savefig(io.BytesIO(), format="png")
    return figure


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def band(axis, number=0):
    """Returns the lower and upper edges of a band at each epoch."""
    vertices = axis.collections[number].get_paths()[0].vertices
    epochs = sorted(set(vertices[:, 0]))
    edges = [vertices[vertices[:, 0] == epoch, 1] for epoch in epochs]
    return [edge.min() for edge in edges], [edge.max() for edge in edges]


def test_lines_are_means_and_bands_are_intervals(tmp_path):
    accuracies = {"nn2": [[0.5, 0.7], [0.6, 0.8], [0.7, 0.96]], "vgg9": [[0.4, 0.6], [0.6, 0.8]]}
    rows = rows_of(
        tmp_path,
        [
            trial(accuracy, model=model, seed=seed)
            for model, trials in accuracies.items()
            for seed, accuracy in enumerate(trials)
        ],
    )
    figure = saved(draw(rows, "test", ACCURACY))
    nn2, vgg9, *rates = figure.axes
    assert [axis.get_title() for axis in (nn2, vgg9)] == ["nn2", "vgg9"]
    assert nn2.get_ylabel() == "test accuracy (%)"
    np.testing.assert_allclose(nn2.lines[0].get_xydata(), [[1, 60], [2, 82]], rtol=1e-12)
    np.testing.assert_allclose(vgg9.lines[0].get_xydata(), [[1, 50], [2, 70]], rtol=1e-12)
    # The standard deviation of 50, 60, 70 is 10, and that of 70, 80, 96 is 13.1149.
    first, second = T2 * 10 / math.sqrt(3), T2 * 13.114877 / math.sqrt(3)
    low, high = band(nn2)
    np.testing.assert_allclose(low, [60 - first, 82 - second], rtol=1e-6)
    np.testing.assert_allclose(high, [60 + first, 82 + second], rtol=1e-6)
    for axis in rates:
        np.testing.assert_allclose(axis.lines[0].get_xydata(), [[1, 0.1], [2, 0.05]], rtol=1e-12)
        assert axis.get_xlim() == (0, 2)
    assert labels(figure) == ["sig+"]


def test_minimized_metric_has_a_logarithmic_axis(tmp_path):
    rows = rows_of(tmp_path, [trial([0.5, 0.6, 0.7], seed=seed) for seed in range(2)])
    axis = saved(draw(rows, "train", LOSS)).axes[0]
    assert axis.get_yscale() == "log"
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [2, 1, 2 / 3], rtol=1e-12)
    low, high = axis.get_ylim()
    assert 0 < low < 2 / 3
    assert high > 2
    assert axis.get_ylabel() == "train loss"


def test_loss_can_be_the_objective(tmp_path):
    losses = [[0.75, 0.125], [0.25, 0.375]]
    trials = [trial(values, seed=seed, task=REGRESSION) for seed, values in enumerate(losses)]
    rows = rows_of(tmp_path, trials, task=REGRESSION)
    axis = saved(draw(rows, "test", LOSS)).axes[0]
    assert axis.get_yscale() == "log"
    assert axis.get_ylabel() == "test loss"
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [0.5, 0.25], rtol=1e-12)


def test_negative_values_are_not_hidden_by_a_logarithmic_axis(tmp_path):
    rows = rows_of(tmp_path, [trial([0.5, -0.5], task=REGRESSION)], task=REGRESSION)
    axis = saved(draw(rows, "test", LOSS)).axes[0]
    assert axis.get_yscale() == "linear"
    low, high = axis.get_ylim()
    assert low < -0.5 < 0.5 < high


def test_maximized_metric_that_is_not_in_percent_is_not_scaled(tmp_path):
    score = Metric("accuracy", "max", percent=False)
    described = {"accuracy": {"direction": "max", "percent": False}}
    task = {**CLASSIFICATION, "metrics": described}
    trials = [trial([110.0, 120.0], seed=seed, task=task) for seed in range(2)]
    rows = rows_of(tmp_path, trials, task=task)
    axis = saved(draw(rows, "test", score, objective=score)).axes[0]
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [110, 120], rtol=1e-12)
    assert axis.get_ylim()[1] > 120


def test_loss_of_zero_can_be_drawn(tmp_path):
    rows = rows_of(tmp_path, [trial([0.5, 0.6], train_loss=0.0)])
    assert saved(draw(rows, "train", LOSS)).axes[0].get_yscale() == "linear"


def test_legend_notes_single_and_failed_trials(tmp_path):
    rows = rows_of(
        tmp_path,
        [
            trial([0.5, 0.6], setting="one"),
            trial([0.5, 0.6], setting="one", model="vgg9"),
            trial([0.5, 0.6], setting="some"),
            trial([None, None], setting="some", seed=1),
            *(trial([0.5, 0.6], setting="some", model="vgg9", seed=seed) for seed in range(2)),
            trial([0.5, None], setting="none"),
            *(trial([0.7, 0.8], setting="two", seed=seed) for seed in range(2)),
        ],
    )
    figure = saved(draw(rows, "test", ACCURACY))
    assert labels(figure) == [
        *("none (1/1 failed)", "one (1 trial)", "some (1/2 failed in nn2)", "two")
    ]
    nn2, vgg9, rates, _ = figure.axes
    assert (len(nn2.lines), len(nn2.collections)) == (4, 2)
    assert (len(vgg9.lines), len(vgg9.collections)) == (2, 1)
    assert len(rates.lines) == 4


def test_diverged_trial_counts_with_its_score(tmp_path):
    trials = [trial([0.5, 0.6]), trial([0.9, None], seed=1)]
    rows = rows_of(tmp_path, trials)
    # Without a chance level, the score is the worst value in the figure.
    for chance, last in ((0.1, 35), (None, 55)):
        axis = saved(draw(rows, "test", ACCURACY, chance=chance)).axes[0]
        np.testing.assert_allclose(axis.lines[0].get_ydata(), [70, last], rtol=1e-12)


def test_two_trials_have_their_range_as_a_band(tmp_path):
    rows = rows_of(tmp_path, [trial([0.5, 0.75]), trial([0.25, 1.0], seed=1)])
    low, high = band(saved(draw(rows, "test", ACCURACY)).axes[0])
    np.testing.assert_allclose((low, high), ([25, 75], [50, 100]), rtol=1e-12)


def test_figure_without_surviving_trials_can_be_drawn(tmp_path):
    rows = rows_of(tmp_path, [trial([None, None]), trial([None, None], seed=1)])
    for split, metric in (("test", ACCURACY), ("train", LOSS)):
        figure = saved(draw(rows, split, metric))
        assert not figure.axes[0].lines
        assert labels(figure) == ["sig+ (2/2 failed)"]


def test_names_are_not_taken_for_formulas_or_left_out(tmp_path):
    names = ["_hidden", "a$b", "$\\frac$", "a very long name, " * 5]
    rows = rows_of(tmp_path, [trial([0.5], setting=name, model="$x$") for name in names])
    figure = saved(draw(rows, "test", ACCURACY))
    shown = sorted(label.replace("\\$", "$").replace("\n", "") for label in labels(figure))
    assert shown == sorted(
        [" _hidden (1 trial)", *(f"{read.methods.printable(name)} (1 trial)" for name in names[1:])]
    )


def test_learning_rates_of_every_step_are_thin_lines(tmp_path):
    rows = rows_of(tmp_path, [trial([0.5, 0.6])])
    trials = failures.per_trial(rows, ACCURACY, {})
    steps = learning_rates.Rates(np.arange(14) / 7, np.arange(14) / 10, every_step=True)
    rates = {("nn2", "sig+"): steps}
    lower = saved(figures.draw(rows, trials, "test", ACCURACY, rates, chance=None)).axes[1]
    np.testing.assert_array_equal(lower.lines[0].get_ydata(), steps.values)
    assert lower.lines[0].get_linewidth() < figures._style(["sig+"], "sig+")["linewidth"]


def test_single_epoch_is_drawn_as_a_point(tmp_path):
    rows = rows_of(tmp_path, [trial([0.5])])
    axis = saved(draw(rows, "test", ACCURACY)).axes[0]
    assert axis.lines[0].get_marker() == "."


def test_seventeen_methods_look_different(tmp_path):
    generator = np.random.default_rng(0)
    methods = [f"method{i:02}" for i in range(17)]
    rows = rows_of(
        tmp_path,
        [
            trial(curve(0.9 + 0.005 * i, 10, generator), setting=method, model=model, seed=seed)
            for i, method in enumerate(methods)
            for model in ("nn2", "vgg9")
            for seed in range(2)
        ]
        + [trial([0.1] * 10, setting="poor", model="vgg9", seed=seed) for seed in range(2)],
    )
    figure = saved(draw(rows, "test", ACCURACY))
    assert labels(figure) == [*methods, "poor"]
    handles = figure.legends[0].legend_handles
    looks = [(to_rgba(handle.get_color()), handle.get_linestyle()) for handle in handles]
    assert len(set(looks)) == 18
    nn2, vgg9 = figure.axes[:2]
    for axis in (nn2, vgg9):
        drawn = [(to_rgba(line.get_color()), line.get_linestyle()) for line in axis.lines]
        assert drawn == looks[: len(drawn)]
        # The axis is cut to where the curves end, so every method but the poor one is visible.
        low, high = axis.get_ylim()
        assert all(low < line.get_ydata()[-1] < high for line in axis.lines[:17])
        assert low > 60
    assert [text.get_text() for text in vgg9.texts] == ["below: poor"]
    assert not nn2.texts


@pytest.mark.parametrize(("models", "panels"), [(1, 2), (3, 6), (4, 8), (5, 10)])
def test_each_model_has_a_panel_and_none_is_empty(tmp_path, models, panels):
    rows = rows_of(tmp_path, [trial([0.5, 0.6], model=f"model{i}") for i in range(models)])
    figure = saved(draw(rows, "test", ACCURACY))
    assert len(figure.axes) == panels
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [f"model{i}" for i in range(models)]


def test_long_legend_fits_into_the_figure(tmp_path):
    names = [f"cyclical_log_annealing {i:02}" for i in range(17)]
    rows = rows_of(tmp_path, [trial([0.5, 0.6], setting=name) for name in names])
    figure = saved(draw(rows, "test", ACCURACY))
    legend = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= legend.x0 < legend.x1 <= figure.bbox.x1
    assert legend.y0 >= figure.bbox.y0
    # The figure grows with the legend, so the panel keeps its height.
    assert figure.axes[0].get_window_extent().height > 0.5 * 130 * figures.PANEL_INCHES[1]
