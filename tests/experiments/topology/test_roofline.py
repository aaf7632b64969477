"""The roofline estimate: the slowest of three parts limits a step."""

import pytest

from experiments.topology import roofline


def test_step_takes_as_long_as_its_slowest_part():
    chip = roofline.Chip(
        flops=1e12, hbm_bytes=1e9, hbm_bandwidth=1e9, ici_bandwidth=1e8, pod_chips=4
    )
    least = roofline.estimate(
        chip, flops=3e12, bytes_accessed=2e9, collective_bytes=1e8, num_chips=4
    )
    assert least == pytest.approx((3.0, 2.0, 1.5))
    assert (least.seconds, least.bound) == (3.0, "compute")
    alone = roofline.estimate(chip, flops=0, bytes_accessed=1, collective_bytes=1e30, num_chips=1)
    assert alone.interconnect == 0
    many = roofline.estimate(chip, flops=0, bytes_accessed=0, collective_bytes=1e8, num_chips=10**9)
    assert (many.seconds, many.bound) == (pytest.approx(2.0), "interconnect")
