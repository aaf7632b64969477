"""Tests that counts of any integer type saturate and that other counts raise a clear error."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import loganneal_jax as la
from loganneal_jax.counts import as_count
from tests.loganneal_jax.catalog import CASES, build, enable_x64

LAST = 2**31 - 1
SCHEDULE = la.linear_decay_schedule(1.0, 0.0, 2**31 - 1)


def saturated(values):
    return np.array([min(max(int(value), 0), LAST) for value in np.ravel(values)]).reshape(
        np.shape(values)
    )


@pytest.mark.parametrize(
    "dtype",
    [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64,
     ml_dtypes.int4, ml_dtypes.uint4],
)  # fmt: skip
def test_integers_of_any_width_saturate(dtype):
    limits = ml_dtypes.iinfo(dtype)
    values = [int(limits.min), 0, 1, 5, int(limits.max) - 1, int(limits.max)]
    values += [v for v in (2**24 + 1, LAST - 1, LAST, 2**31, 2**31 + 5) if v <= limits.max]
    counts = np.array(values, dtype)
    expected = saturated(values)
    with enable_x64():
        for count in (counts, jnp.asarray(counts), jnp.asarray(counts)[3]):
            want = expected if np.ndim(count) else expected[3]
            for convert in (as_count, jax.jit(as_count)):
                converted = convert(count)
                assert converted.dtype == jnp.int32
                np.testing.assert_array_equal(converted, want)
        assert SCHEDULE(counts).dtype == jnp.float32


@pytest.mark.parametrize("count", [2**31, 2**32 - 1, 2**40, 10**30, np.uint32(2**31)])
def test_count_past_int32_gives_the_last_value(count):
    assert SCHEDULE(count) == SCHEDULE(LAST) == 0.0
    assert SCHEDULE([0, count])[1] == 0.0
    assert SCHEDULE(-(10**30)) == SCHEDULE(0) == 1.0


def test_wide_counts_saturate_inside_jit():
    np.testing.assert_array_equal(jax.jit(SCHEDULE)(np.array([2**31, 2**32 - 1], np.uint32)), 0)


@pytest.mark.parametrize(
    "count",
    [[1, 2], (1, 2), [[1], [2]], [np.int64(1), 2], [jnp.int32(1), 2], np.array([1, 2])],
)
def test_sequences_of_integers_are_counts(count):
    assert as_count(count).shape == np.shape(count)
    np.testing.assert_array_equal(as_count(count).ravel(), [1, 2])


def test_objects_that_convert_to_arrays_are_counts():
    class Variable:
        def __jax_array__(self):
            return jnp.int32(7)

    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.array(7, dtype)

    assert as_count(Variable()) == as_count(Tensor()) == 7
    assert jax.jit(lambda count: as_count([count, 1]))(7)[0] == 7


@pytest.mark.parametrize(
    "count",
    [2.5, 2.0, np.nan, np.inf, "3", b"3", True, None, [1, 2.5], [True], [], 1j, np.float32(2),
     np.array([True]), np.array([1.0]), jnp.float32(2.0), jnp.array([np.nan]), jnp.array(True),
     jnp.bfloat16(1), jax.random.key(0), object(), {}, [1, "2"], [[1], [2, 3]],
     np.datetime64(1, "s")],

)  # fmt: skip
def test_other_counts_raise_a_type_error_that_says_what_to_do(count):
    with pytest.raises(TypeError, match=r"count must be an integer .* got .* convert it .*\.$"):
        SCHEDULE(count)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.bool_, jnp.complex64])
def test_other_counts_raise_inside_jit_and_vmap(dtype):
    counts = jnp.zeros(3, dtype)
    for evaluate in (jax.jit(SCHEDULE), jax.vmap(SCHEDULE), jax.jit(jax.vmap(SCHEDULE))):
        with pytest.raises(TypeError, match=f"got an array of dtype {counts.dtype}"):
            evaluate(counts)


@pytest.mark.parametrize("name", CASES)
def test_every_schedule_saturates_and_refuses_floats(name):
    schedule = build(name)
    np.testing.assert_array_equal(
        schedule(np.array([2**31, 2**63 - 1, LAST, -(2**63), 0])),
        schedule(np.array([LAST, LAST, LAST, 0, 0])),
    )
    with pytest.raises(TypeError, match="count must be an integer"):
        schedule(2.5)
