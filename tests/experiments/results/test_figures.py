"""The lines of a figure are the means of the trials, one method against the baseline a panel."""

import io
import math

import numpy as np
import pytest

from experiments.results import failures, figures, learning_rates, read, style
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


def draw(rows, split, metric, objective=None, chance=None, baseline=None, rates=None):
    """Draws rows with the learning rates at the ends of epochs, as for older results."""
    objective = objective or (ACCURACY if "test_accuracy" in rows else LOSS)
    levels = {} if chance is None else dict.fromkeys(rows.data, chance)
    trials = failures.per_trial(rows, objective, levels)
    roles = {
        method: style.BASELINE
        if method == baseline
        else style.LOG
        if "log" in method
        else style.OTHER
        for method in rows.setting
    }
    rates = rates or {
        method: learning_rates.of_method(of, None) for method, of in rows.groupby("setting")
    }
    figure = figures.draw(
        rows, trials, split, metric, rates, roles, objective=objective, chance=chance
    )
    # Matplotlib only warns while rendering.
    figure.savefig(io.BytesIO(), format="png")
    return figure


def rows_of(directory, trials, **fields):
    return read.read([write_sweep(directory / "sweep", trials, **fields)]).rows


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def band(axis, number=0):
    """Returns the lower and upper edges of a band at each epoch."""
    vertices = axis.collections[number].get_paths()[0].vertices
    epochs = sorted(set(vertices[:, 0]))
    edges = [vertices[vertices[:, 0] == epoch, 1] for epoch in epochs]
    return [edge.min() for edge in edges], [edge.max() for edge in edges]


def test_each_method_has_a_panel_with_the_baseline_and_the_best_comes_first(tmp_path):
    accuracies = {
        "cosine": [[0.6, 0.7], [0.6, 0.8]],
        "log": [[0.5, 0.7], [0.6, 0.8], [0.7, 0.96]],
        "sig": [[0.5, 0.9]],
    }
    rows = rows_of(
        tmp_path,
        [
            trial(accuracy, setting=setting, seed=seed)
            for setting, trials in accuracies.items()
            for seed, accuracy in enumerate(trials)
        ],
    )
    figure = draw(rows, "test", ACCURACY, baseline="cosine")
    assert titles(figure) == ["sig (1 trial)", "log"]
    sig, log, *rates = figure.axes
    assert figure.get_supylabel() == "test accuracy (%)"
    for axis in (sig, log):
        np.testing.assert_allclose(axis.lines[0].get_xydata(), [[1, 60], [2, 75]], rtol=1e-12)
        assert axis.lines[0].get_color() == style.BASELINE.color
    np.testing.assert_allclose(log.lines[1].get_xydata(), [[1, 60], [2, 82]], rtol=1e-12)
    assert log.lines[1].get_color() == style.LOG.color != sig.lines[1].get_color()
    # Two trials of the baseline have their range, three have their interval, and one has neither.
    np.testing.assert_allclose(band(sig), ([60, 70], [60, 80]), rtol=1e-12)
    assert len(sig.collections) == 1
    # The standard deviation of 50, 60, 70 is 10, and that of 70, 80, 96 is 13.1149.
    first, second = T2 * 10 / math.sqrt(3), T2 * 13.114877 / math.sqrt(3)
    low, high = band(log, 1)
    np.testing.assert_allclose(low, [60 - first, 82 - second], rtol=1e-6)
    np.testing.assert_allclose(high, [60 + first, 82 + second], rtol=1e-6)
    for axis in rates:
        np.testing.assert_allclose(axis.lines[1].get_xydata(), [[1, 0.1], [2, 0.05]], rtol=1e-12)
        assert axis.get_xlim() == (0, 2)
    assert labels(figure) == ["baseline: cosine", "log", "sig"]


def test_loss_as_the_objective_has_a_logarithmic_axis_and_the_lowest_comes_first(tmp_path):
    losses = {"sig": [[0.75, 0.125], [0.25, 0.375]], "cosine": [[0.5, 0.125]], "trap": [[1, 0.5]]}
    trials = [
        trial(values, setting=setting, seed=seed, task=REGRESSION)
        for setting, of in losses.items()
        for seed, values in enumerate(of)
    ]
    figure = draw(rows_of(tmp_path, trials, task=REGRESSION), "test", LOSS, baseline="cosine")
    assert titles(figure) == ["sig", "trap (1 trial)"]
    axis = figure.axes[0]
    assert axis.get_yscale() == "log"
    np.testing.assert_allclose(axis.lines[1].get_ydata(), [0.5, 0.25], rtol=1e-12)
    low, high = axis.get_ylim()
    assert 0 < low < 0.125
    assert high > 1


def test_negative_values_are_not_hidden_by_a_logarithmic_axis(tmp_path):
    rows = rows_of(tmp_path, [trial([0.5, -0.5], task=REGRESSION)], task=REGRESSION)
    axis = draw(rows, "test", LOSS).axes[0]
    assert axis.get_yscale() == "linear"
    low, high = axis.get_ylim()
    assert low < -0.5 < 0.5 < high


def test_maximized_metric_that_is_not_in_percent_is_not_scaled(tmp_path):
    score = Metric("accuracy", "max", percent=False)
    described = {"accuracy": {"direction": "max", "percent": False}}
    task = {**CLASSIFICATION, "metrics": described}
    trials = [trial([110.0, 120.0], seed=seed, task=task) for seed in range(2)]
    rows = rows_of(tmp_path, trials, task=task)
    axis = draw(rows, "test", score, objective=score).axes[0]
    np.testing.assert_allclose(axis.lines[0].get_ydata(), [110, 120], rtol=1e-12)
    assert axis.get_ylim()[1] > 120


def test_loss_of_zero_can_be_drawn(tmp_path):
    rows = rows_of(tmp_path, [trial([0.5, 0.6], train_loss=0.0)])
    assert draw(rows, "train", LOSS).axes[0].get_yscale() == "linear"


def test_titles_count_failed_trials(tmp_path):
    rows = rows_of(
        tmp_path,
        [
            trial([0.5, 0.6], setting="some"),
            trial([None, None], setting="some", seed=1),
            trial([0.5, None], setting="none"),
            *(trial([0.7, 0.8], setting="two", seed=seed) for seed in range(2)),
        ],
    )
    assert titles(draw(rows, "test", ACCURACY)) == ["two", "none (1/1 failed)", "some (1/2 failed)"]


def test_diverged_trial_counts_with_its_score(tmp_path):
    trials = [trial([0.5, 0.6]), trial([0.9, None], seed=1)]
    rows = rows_of(tmp_path, trials)
    # Without a chance level, the score is the worst value in the figure.
    for chance, last in ((0.1, 35), (None, 55)):
        axis = draw(rows, "test", ACCURACY, chance=chance).axes[0]
        np.testing.assert_allclose(axis.lines[0].get_ydata(), [70, last], rtol=1e-12)


def test_figure_without_surviving_trials_says_so(tmp_path):
    rows = rows_of(tmp_path, [trial([None, None]), trial([None, None], seed=1)])
    for split, metric in (("test", ACCURACY), ("train", LOSS)):
        figure = draw(rows, split, metric)
        assert not figure.axes[0].lines
        assert [text.get_text() for text in figure.axes[0].texts] == ["diverged: no value"]
        assert titles(figure) == ["sig+ (2/2 failed)"]


def test_names_are_not_taken_for_formulas_or_left_out(tmp_path):
    names = ["_hidden", "a$b", "$\\frac$", "a very long name, " * 5]
    rows = rows_of(tmp_path, [trial([0.5], setting=name) for name in names])
    shown = [
        title.replace("\\$", "$").replace("\n", " ")
        for title in titles(draw(rows, "test", ACCURACY))
    ]
    expected = [f"{read.methods.printable(name)} (1 trial)".split() for name in names]
    assert sorted(title.split() for title in shown) == sorted(expected)


def test_learning_rates_of_every_step_are_thin_lines(tmp_path):
    rows = rows_of(tmp_path, [trial([0.5, 0.6])])
    steps = learning_rates.Rates(np.arange(14) / 7, np.arange(14) / 10, every_step=True)
    lower = draw(rows, "test", ACCURACY, rates={"sig+": steps}).axes[1]
    np.testing.assert_array_equal(lower.lines[0].get_ydata(), steps.values)
    assert lower.lines[0].get_linewidth() < figures.LINE_WIDTH


def test_single_epoch_is_drawn_as_a_point(tmp_path):
    rows = rows_of(tmp_path, [trial([0.5])])
    assert draw(rows, "test", ACCURACY).axes[0].lines[0].get_marker() == "."


@pytest.mark.parametrize("methods", [1, 5, 18])
def test_panels_share_their_axes_and_note_what_ends_below(tmp_path, methods):
    generator = np.random.default_rng(0)
    names = [f"method{i:02}" for i in range(methods)]
    trials = [
        trial(curve(0.9 + 0.005 * i, 10, generator), setting=method, seed=seed)
        for i, method in enumerate([*names, "cosine"])
        for seed in range(2)
    ]
    if methods > 5:
        trials += [trial([0.1] * 10, setting="poor", seed=seed) for seed in range(2)]
        names = [names[0], "poor", *names[1:]]
    figure = draw(rows_of(tmp_path, trials), "test", ACCURACY, baseline="cosine")
    assert set(titles(figure)) == set(names)
    assert len(figure.axes) == 2 * len(names)
    uppers = [axis for axis in figure.axes if axis.get_title()]
    assert len({axis.get_ylim() for axis in uppers}) == 1
    notes = {axis.get_title(): axis.texts[0].get_text() for axis in uppers if axis.texts}
    assert notes == ({"poor": "ends at 10"} if methods > 5 else {})
    # The axis is cut to where the curves end.
    assert uppers[0].get_ylim()[0] > 60 or methods < 5
    width, height = figure.get_size_inches()
    assert width == style.WIDTH_INCHES
    assert height < 11  # fits on a page
