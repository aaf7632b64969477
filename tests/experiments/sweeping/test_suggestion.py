"""Plans fit their budget, and the suggested config file has the fields of the config."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import base
from experiments.build.experiment import plain
from experiments.errors import UserError
from experiments.results import methods
from experiments.sweeping import suggestion
from experiments.sweeping.suggestion import Timing


@given(
    st.floats(0.01, 1e4),
    st.floats(1e-3, 1e3),
    st.floats(0, 100),
    st.integers(1, 4),
    st.floats(1e-5, 10),
)
def test_plan_is_the_largest_that_fits_or_the_error_names_a_budget_that_does(
    minutes, trial, startup, num_schedules, peak
):
    timing = Timing(trial, startup)

    def plan(minutes):
        return suggestion.plan(minutes, timing, num_schedules=num_schedules, peak=peak)

    try:
        found = plan(minutes)
    except UserError as error:
        needed = float(str(error).split("pass --minutes=")[1].split(",")[0])
        assert needed > minutes
        plan(needed)
        # The budget is rounded up to a tenth of a minute.
        if needed > 0.1:
            with pytest.raises(UserError, match="too small"):
                plan(needed - 0.1001)
        return
    assert found.seconds <= 60 * minutes
    assert found.num_trials == num_schedules * found.seeds * (len(found.peaks) + 1)
    assert found.seconds > startup + found.num_trials * trial
    size = suggestion.SIZES.index((len(found.peaks), found.seeds))
    if size:
        larger = plan(1e9)
        assert larger.num_trials > found.num_trials
    # The peaks are around the given one, a factor of sqrt(10) apart, with two digits.
    middle = found.peaks[len(found.peaks) // 2]
    assert math.isclose(middle, peak, rel_tol=0.06)
    for low, high in zip(found.peaks, found.peaks[1:], strict=False):
        assert math.isclose(high / low, math.sqrt(10), rel_tol=0.12)


@pytest.mark.parametrize("minutes", [0, -1, math.inf, math.nan])
def test_budget_that_is_no_time_is_refused(minutes):
    with pytest.raises(UserError, match=r"--minutes=.* is out of range; it must be above 0"):
        suggestion.plan(minutes, Timing(1.0, 1.0), num_schedules=1, peak=0.1)


def test_budget_that_is_too_small_says_what_it_needs():
    with pytest.raises(UserError) as caught:
        suggestion.plan(0.5, Timing(10.0, 20.0), num_schedules=2, peak=0.1)
    assert str(caught.value) == (
        "--minutes=0.5 is too small: the smallest tuning has 8 trials of 10 s each and takes about "
        "2 minutes; pass --minutes=2, or fewer epochs"
    )


def test_config_file_sets_the_fields_that_differ_from_the_defaults():
    config = base.get_config()
    config.epochs = 3.5
    config.schedule.name = "cosine"
    config.schedule.restart_interval_epochs = 2.0
    config.data.preprocess = ("pixel_mean",)
    fields = methods.flatten(plain(config))
    defaults = methods.flatten(plain(base.get_config()))
    text = suggestion.config_file(fields, defaults, 'Suggested: """ \\ a')
    namespace = {}
    exec(compile(text, "suggested.py", "exec"), namespace)
    assert plain(namespace["get_config"]()) == plain(config)
    assert 'Suggested: """ \\ a' in namespace["__doc__"]
    assert "seed" not in text
