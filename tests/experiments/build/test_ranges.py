"""Ranges: every numeric field of a config has one, with two limits."""

import math

import pytest
from ml_collections import ConfigDict

from configs import base, quickstart
from experiments.build import fields, ranges
from experiments.errors import UserError
from tests.experiments.build.edits import assert_one_sentence, change, leaves

HUGE = 10**5000  # Python refuses to print that many digits


def test_every_numeric_field_has_a_range():
    numeric = {path for path, kind in leaves(base.get_config()).items() if kind in (int, float)}
    assert numeric == set(ranges.CONFIG)


@pytest.mark.parametrize("path", ranges.CONFIG)
def test_every_range_has_two_limits(path):
    floats = [math.nan, math.inf, -math.inf] if leaves(base.get_config())[path] is float else []
    for value in (HUGE, -HUGE, *floats):
        config = quickstart.get_config()
        change(config, path, value)
        with pytest.raises(UserError, match=f"{path}=.* is out of range; it must be ") as error:
            fields.check(config)
        assert_one_sentence(error.value)


@pytest.mark.parametrize(
    ("range_", "inside", "outside"),
    [
        (ranges.POSITIVE, (1e-30, 1e30), (0, -1e-30, 1.1e30)),
        (ranges.NOT_NEGATIVE, (0, 1e30), (-1e-30, 1.1e30)),
        (ranges.FRACTION, (1e-30, 1), (0, 1.001)),
        (ranges.BELOW_ONE, (0, 0.999), (-0.001, 1)),
        (ranges.INSIDE, (1e-30, 0.999), (0, 1)),
        (ranges.RATE, (0, 1e6), (-0.001, 1_000_001)),
        (ranges.SOME_EPOCHS, (1e-30, 1e9), (0, 1_000_000_001)),
        (ranges.EPOCHS, (0, 1e9), (-0.001, 1_000_000_001)),
        (ranges.COUNT, (1, 10**6), (0, 10**6 + 1)),
        (ranges.EXAMPLES, (0, 10**9), (-1, 10**9 + 1)),
        (ranges.BATCH, (1, 65536), (0, 65537)),
        (ranges.SIDE, (1, 4096), (0, 4097)),
        (ranges.PADDING, (0, 4096), (-1, 4097)),
        (ranges.WIDTH, (1, 16384), (0, 16385)),
        (ranges.FACTOR, (1e-30, 64), (0, 64.1)),
        (ranges.WORKERS, (0, 256), (-1, 257)),
        (ranges.ROLLBACKS, (0, 1000), (-1, 1001)),
        (ranges.EXTENSIONS, (0, 100), (-1, 101)),
        (ranges.SEED, (0, 2**32 - 1), (-1, 2**32)),
    ],
)
def test_range_holds_what_its_text_says(range_, inside, outside):
    for value in inside:
        ranges.check(ConfigDict({"x": value}), {"x": range_})
    for value in outside:
        with pytest.raises(UserError, match=r"^x=.* is out of range; it must be ") as error:
            ranges.check(ConfigDict({"x": value}), {"x": range_})
        assert str(error.value).endswith(range_)


def test_every_range_is_tested():
    parameters = test_range_holds_what_its_text_says.pytestmark[0].args[1]
    assert {range_ for range_, *_ in parameters} == set(ranges.HOLDS)


def test_none_is_in_every_range():
    for range_ in ranges.HOLDS:
        ranges.check(ConfigDict({"x": None}), {"x": range_})


def test_value_is_shown_on_one_short_line():
    assert ranges.shown("two\nlines") == r"'two\nlines'"
    assert ranges.shown("x" * 300) == f"'{'x' * 199}..."
    assert ranges.shown(HUGE) == "int of 16610 bits"
    assert ranges.shown((HUGE,)) == "tuple"
