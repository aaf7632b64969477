"""Floors: a report names what its metric is compared with, and its figures show it."""

import pytest

from experiments.errors import UserError
from experiments.results import figures, pictures, read, report
from tests.experiments.results.fake_results import REGRESSION, trial, write_run, write_sweep

ENTROPY = {"value": 1.25, "meaning": "entropy rate of the chain"}


def test_report_and_figures_show_the_floors_of_runs_and_sweeps(tmp_path, monkeypatch):
    drawn = []
    draw = figures.draw
    monkeypatch.setattr(
        pictures.figures, "draw", lambda *a, **k: drawn.append(draw(*a, **k)) or drawn[-1]
    )
    run = write_run(tmp_path / "run", [1.5, 1.3], task=REGRESSION, floors={"loss": ENTROPY})
    sweep = write_sweep(
        tmp_path / "sweep",
        [trial([1.6, 1.4], task=REGRESSION, setting="sig")],
        task=REGRESSION,
        floors={"mnist": {"loss": {**ENTROPY, "value": 1.125}}, "cifar10": {"loss": {}}},
    )
    old = write_run(tmp_path / "old", [1.7, 1.6], task=REGRESSION, schedule="exp")
    report.write([run, sweep, old], tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text()
    assert "the entropy rate of the chain has the loss 1.125 and 1.25." in text
    for figure in drawn:
        axis = figure.axes[0]
        levels = [line.get_ydata()[0] for line in axis.lines if line.get_linestyle() == ":"]
        assert levels == [1.125, 1.25]
        assert axis.get_ylim()[0] < 1.125
        assert "entropy rate of the chain" in [t.get_text() for t in figure.legends[0].get_texts()]


@pytest.mark.parametrize(
    ("floor", "message"),
    [
        ({**ENTROPY, "value": "low"}, "floor of loss is 'low', but must be a finite number"),
        ({"value": 1.25}, "meaning of the floor of loss is None, but must be a text"),
        (7, "floors is {'loss': 7}, but must be an object of objects"),
    ],
)
def test_impossible_floor_is_refused(tmp_path, floor, message):
    run = write_run(tmp_path / "run", [1.5], task=REGRESSION, floors={"loss": floor})
    with pytest.raises(UserError, match=message):
        report.make(read.read([run]))
