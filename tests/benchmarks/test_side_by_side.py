"""The comparison of contenders that take turns."""

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
