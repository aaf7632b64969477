"""Collectives read from the text of a compiled program."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from experiments.topology import hlo


def test_collectives_of_a_real_program_have_the_bytes_of_their_results():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    sharded = NamedSharding(mesh, PartitionSpec("x"))
    replicated = NamedSharding(mesh, PartitionSpec())

    def sums(matrix):
        return (matrix * 2).sum(axis=0), jnp.sin(matrix)

    matrix = jax.ShapeDtypeStruct((8, 100), jnp.float32, sharding=sharded)
    program = jax.jit(sums, out_shardings=replicated).lower(matrix).compile().as_text()
    assert hlo.collectives(program) == [("all-gather", 1, 3200), ("all-reduce", 1, 400)]


def test_each_form_of_a_collective_counts_once():
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
