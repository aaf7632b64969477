"""Each schedule of the map has its best peak, and a map that was interrupted continues."""

import numpy as np
import pandas as pd
import pytest

from experiments.results import limit_map, limit_map_report
from experiments.results.limit_map import CYCLES, PEAKS, WARMUP, WITH_CYCLES, Point
from experiments.tasks.expected_risk import excess_risk, optimal_rates

STEPS = 20
POINTS = [Point(4, 1.0, noise, 2, STEPS) for noise in (0.1, 1.0)]


# A few of the methods, so that few are compiled.
NAMES = (*limit_map_report.LOG, "cosine", "linear")


@pytest.fixture(scope="module")
def methods():
    return {warmup: limit_map.schedules(STEPS, warmup) for warmup in (0.0, WARMUP)}


@pytest.fixture(scope="module")
def table(methods, tmp_path_factory):
    kept = {warmup: {name: given[name] for name in NAMES} for warmup, given in methods.items()}
    path = tmp_path_factory.mktemp("map") / "map.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limit_map, "schedules", lambda num_steps, warmup: kept[warmup])
        return limit_map.write_rows(POINTS, path)


def test_every_method_has_its_best_peak(methods, table):
    for row in table.itertuples(index=False):
        problem = Point(*row[:5]).problem()
        # All but the paper's are proportional to the peak.
        if row.method != "log (paper)":
            factors = np.linspace(0.8, 1.25, 201)
            curve = methods[row.warmup][row.method](0.5) / 0.5
            risks = excess_risk(np.outer(row.peak * factors, curve), problem)
            assert row.risk <= risks.min() * (1 + 1e-5)
            np.testing.assert_allclose(row.peak, row.peak * factors[risks.argmin()], rtol=0.01)
        at_peak = methods[row.warmup][row.method](row.peak)
        np.testing.assert_allclose(row.risk, excess_risk(at_peak, problem), rtol=1e-6)
        np.testing.assert_allclose(row.excess, row.risk / row.limit - 1, rtol=1e-7)


def test_limit_of_a_short_run_is_that_of_all_schedules(table):
    for point, (_, rows) in zip(POINTS, table.groupby("noise"), strict=True):
        found = optimal_rates([np.full(STEPS, 0.3)], point.problem())
        np.testing.assert_allclose(rows.limit, found.risk, rtol=1e-6)
        assert (rows.excess > 0).all()
        assert (rows.spread < 1e-6).all()


def test_cycles_and_warmups_fill_the_run(methods):
    for name, rates_of in methods[WARMUP].items():
        rates = rates_of(0.5)
        np.testing.assert_allclose(rates[0], 0.05, rtol=1e-6)
        # The first of 20 steps is the warmup; a method with cycles leaves what they do not fill.
        length = (STEPS - 1) // CYCLES if name in WITH_CYCLES else STEPS
        starts = np.arange(1, STEPS - length, length)
        np.testing.assert_allclose(rates[starts], rates[1], rtol=1e-6)
        if name in NAMES and name != "log (paper)":
            np.testing.assert_allclose(methods[0.0][name](0.5)[0], 0.5, rtol=1e-6)


def test_best_peak_outside_the_grid_is_an_error(methods):
    constant = methods[0.0]["constant"]
    problem = POINTS[0].problem()._replace(eigenvalues=np.full(2, 1e-9))
    with pytest.raises(ValueError, match=r"a best peak is not within 1e-05\.\.100"):
        limit_map.best_peaks([constant], problem, constant(PEAKS)[None])


def test_only_missing_problems_are_computed(table, tmp_path, monkeypatch):
    path = tmp_path / "map.csv"
    first, second = (rows for _, rows in table.groupby("noise"))
    first.assign(risk=7.0).to_csv(path, index=False)
    computed = []

    def compute(points):
        for point in points:
            computed.append(point)
            yield second

    monkeypatch.setattr(limit_map, "compute", compute)
    rows = limit_map.write_rows(POINTS, path)
    assert computed == POINTS[1:]
    assert list(rows.risk[: len(first)]) == [7.0] * len(first)
    assert len(pd.read_csv(path)) == len(rows) == len(table)
    # Problems of another map stay in the file.
    assert len(limit_map.write_rows(POINTS[1:], path)) == len(second)
    assert computed == POINTS[1:]
    assert len(pd.read_csv(path)) == len(table)


def test_tables_name_the_best_and_compare_with_cosine(table, tmp_path):
    limit_map_report.write(table, tmp_path)
    assert (tmp_path / "map.png").stat().st_size > 10_000
    wins, *compared = (tmp_path / "map.md").read_text().split("Risk of ")
    cells = [cell.strip() for cell in wins.splitlines()[-2].split("|")[1:-1]]
    assert cells[:4] == [f"{POINTS[0].time_constants():.2g}", str(STEPS), "2", "1"]
    for cell, (noise, rows) in zip(cells[4:], table.groupby("noise"), strict=True):
        row = rows.loc[rows.risk.idxmin()]
        assert cell == f"{row.method} {row.excess:+.1%}"
        for text, method in zip(compared, limit_map_report.LOG, strict=True):
            risks = rows.groupby("method").risk.min()
            column = 4 + sorted(set(table.noise)).index(noise)
            difference = risks[method] / risks["cosine"] - 1
            found = text.strip().splitlines()[-1].split("|")[1:-1][column]
            assert text.startswith(f"{method} minus that of cosine")
            assert found.strip() == f"{difference:+.1%}"
