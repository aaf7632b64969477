"""Every schedule gets its own best peak, and none is below the limit."""

import numpy as np
import pytest

from experiments.results import limit
from experiments.tasks.expected_risk import Problem, excess_risk, power_law

STEPS = 16
PROBLEM = Problem(power_law(4, 1.0), noise=0.5, batch_size=1)


def constant(scale):
    return lambda peaks: (
        scale * np.broadcast_to(np.asarray(peaks, np.float64)[..., None], (*np.shape(peaks), STEPS))
    )


@pytest.mark.parametrize("scale", [1.0, 1e-7, 1e7])
def test_best_peak_is_found_on_either_side_of_the_grid(scale):
    fit = limit.best_peak(constant(scale), PROBLEM)
    peaks = np.linspace(0.01, 1, 5000)
    risks = excess_risk(constant(1.0)(peaks), PROBLEM)
    np.testing.assert_allclose(fit.peak * scale, peaks[risks.argmin()], rtol=2e-3)
    assert risks.min() * (1 - 1e-6) < fit.risk <= risks.min()
    np.testing.assert_allclose(fit.rates, fit.peak * scale, rtol=1e-12)


def test_schedule_without_a_best_peak_is_an_error():
    with pytest.raises(ValueError, match="the best peak is not within"):
        limit.best_peak(constant(0.0), PROBLEM)


def test_schedules_are_tables_of_the_librarys(tmp_path):
    schedules = limit.schedules(STEPS)
    peaks = np.array([0.2, 0.4])
    steps = np.arange(STEPS)
    np.testing.assert_allclose(
        schedules["constant"](peaks), np.tile(peaks, (STEPS, 1)).T, rtol=1e-6
    )
    falling = schedules["log annealing, normalized"](peaks)
    shape = 1 - np.log(steps + 1) / np.log(STEPS)
    np.testing.assert_allclose(falling, peaks[:, None] * shape, rtol=1e-5, atol=1e-7)
    assert schedules["cosine"](0.3).shape == (STEPS,)
    # The comparison is of these two, so that only two schedules are compiled.
    kept = {name: schedules[name] for name in ("constant", "log annealing, normalized", "cosine")}
    fits = {name: limit.best_peak(rates_of, PROBLEM) for name, rates_of in kept.items()}
    best = limit.optimal_rates([fits["constant"].rates], PROBLEM)
    compared = {"one": limit.Comparison(best, fits), "two": limit.Comparison(best, fits)}
    assert all(compared["one"].excess(name) > 0 for name in kept)
    lines = limit.table(compared).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "limit",
        *sorted(kept, key=lambda name: fits[name].risk),
    ]
    fit = fits["cosine"]
    cell = f"+{100 * (fit.risk / best.risk - 1):.2f}% ({fit.peak:.3g})"
    row = next(line for line in lines if line.startswith("| cosine"))
    assert [each.strip() for each in row.split("|")[2:-1]] == [cell, cell]
    limit.write(compared, tmp_path)
    assert (tmp_path / "limit.md").read_text().splitlines() == lines
    assert (tmp_path / "limit.png").stat().st_size > 10_000
