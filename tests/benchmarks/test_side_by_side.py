"""The comparison of contenders that take turns."""

import sys

from benchmarks import side_by_side


def test_ratio_is_the_median_over_rounds():
    assert side_by_side.ratio([1.0, 2.0, 1.0], [2.0, 8.0, 2.5]) == 2.5


def test_table_shows_median_range_and_ratio_to_the_first():
    seconds = {"ours": [0.001, 0.00123456, 0.002], "peer": [0.002, 0.002, 0.005]}
    assert side_by_side.table(seconds, unit="ms per step", scale=1e3).splitlines() == [
        "| | ms per step, median (min to max) | time relative to ours |",
        "|---|---|---|",
        "| ours | 1.23 (1 to 2) |  |",
        "| peer | 2 (2 to 5) | 2.00 |",
    ]


def test_only_packages_that_are_installed_are_returned():
    assert side_by_side.installed("jax", "package_that_nobody_has", "flax") == ["jax", "flax"]


def keeps(size):
    """Returns a function that holds memory while it runs."""
    return lambda: len(bytearray(size))


def fails():
    raise RuntimeError("no compiler\nis installed")


def test_a_contender_that_fails_is_left_out_and_memory_is_that_of_the_rounds():
    contenders = {
        "small": side_by_side.Contender(keeps, {"size": 1}),
        "large": side_by_side.Contender(keeps, {"size": 200_000_000}),
        "broken": side_by_side.Contender(fails, {}, may_fail=True),
    }
    measured = side_by_side.measure(contenders, rounds=2)
    assert {name: len(values) for name, values in measured.seconds.items()} == {
        "small": 2,
        "large": 2,
    }
    assert measured.failures == {"broken": "RuntimeError: no compiler"}
    if sys.platform == "linux":
        assert measured.peak_bytes["large"] - measured.peak_bytes["small"] > 150_000_000


def test_memory_table_shows_time_memory_and_failures():
    measured = side_by_side.Measured(
        {"ours": [0.001, 0.00123456, 0.002]}, {"ours": 123_400_000}, {"peer": "no compiler"}
    )
    assert side_by_side.memory_table(measured, unit="ms per step", scale=1e3).splitlines() == [
        "| | ms per step, median (min to max) | peak memory, MB |",
        "|---|---|---|",
        "| ours | 1.23 (1 to 2) | 123 |",
        "| peer | failed: no compiler | |",
    ]
