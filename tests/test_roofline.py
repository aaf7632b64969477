"""The arithmetic of the estimate, and what is read out of a compiled program."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from experiments import hlo, roofline


def test_a_step_takes_as_long_as_the_slowest_of_three():
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


def test_collectives_of_a_real_program_have_the_bytes_of_their_arrays():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    laid_out = NamedSharding(mesh, PartitionSpec("x"))
    everywhere = NamedSharding(mesh, PartitionSpec())

    def sums(matrix):
        return (matrix * 2).sum(axis=0), jnp.sin(matrix)

    matrix = jax.ShapeDtypeStruct((8, 100), jnp.float32, sharding=laid_out)
    program = jax.jit(sums, out_shardings=everywhere).lower(matrix).compile().as_text()
    assert hlo.collectives(program) == [("all-gather", 1, 3200), ("all-reduce", 1, 400)]


def test_collectives_are_counted_once_however_they_are_written():
    program = """
  %a = (f32[16]{0:T(128)S(1)}, /*index=5*/bf16[3,2]{1,0}) all-reduce(%x, %y), channel_id=2
  %s = ((f32[8]{0}), (f32[8]{0})) all-reduce-start(%x), channel_id=3
  %d = f32[8]{0} all-reduce-done(%s)
  %p = pred[] collective-permute(%x), channel_id=4
  %g = f32[64]{0} get-tuple-element(%all-reduce.1), index=1, metadata={op_name="all-reduce("}
"""
    assert hlo.collectives(program) == [
        ("all-reduce", 2, 64 + 12 + 32),
        ("collective-permute", 1, 1),
    ]
    assert hlo.collectives("") == []
