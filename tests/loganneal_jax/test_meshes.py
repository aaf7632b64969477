"""Tests that schedules keep the sharding of counts and values on a mesh with explicit axes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import loganneal_jax as la
from loganneal_jax import shapes
from tests.loganneal_jax.catalog import CASES, build

pytestmark = pytest.mark.skipif(
    not hasattr(jax, "set_mesh"), reason="this version of JAX has no meshes with explicit axes"
)

COUNTS = np.array([0, 3, 5, 9, 10, 17, 30, 40, 41, 49, 60, 1000, 10**6, 2**24, 2**31 - 1, 50])
LINE = optax.linear_schedule(0.1, 0.0, 40)
GROWING = la.restarts(shapes.cosine, 0.1, 0.0, restart_interval=3, restart_multiplier=1.3)
SCHEDULES = {
    **{name: build(name) for name in CASES},
    "chain_schedules": la.chain_schedules([LINE, GROWING, optax.constant_schedule(0.3)], [5, 40]),
    "clip_schedule": la.clip_schedule(LINE, 0.02, 0.05),
    "from_values": la.from_values(np.linspace(1.0, 0.0, 50)),
    "multiply_schedules": la.multiply_schedules(LINE, GROWING),
    "num_cycles": la.restarts(shapes.cosine, 0.1, 0.0, restart_interval=9, num_cycles=3),
    "per_epoch": la.per_epoch(GROWING, 7),
    "repeat_schedule": la.repeat_schedule(GROWING, 11),
    "scale_for_batch_size": la.scale_for_batch_size(optax.constant_schedule(0.1), 1024),
    "scale_schedule": la.scale_schedule(optax.constant_schedule(0.1), 2.0),
    "shift_schedule": la.shift_schedule(GROWING, -3),
    "unrounded": la.restarts(
        shapes.cosine, 0.1, 0.0, restart_interval=8.3, num_cycles=5, round_lengths=False
    ),
    "with_cooldown": la.with_cooldown(GROWING, 20, 20),
    **{
        f"with_warmup, {warmup}": la.with_warmup(GROWING, 7, 0.01, warmup=warmup)
        for warmup in ("linear", "constant", "cosine", "1-sqrt", "exponential", "1/n")
    },
}


@pytest.fixture(scope="module")
def mesh():
    explicit = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    assert explicit.explicit_axes == ("data",)
    return explicit


def assert_sharded(array, *spec):
    assert isinstance(array.sharding, NamedSharding)
    assert tuple(array.sharding.spec) + (None,) * (array.ndim - len(array.sharding.spec)) == spec


def test_every_public_factory_is_tested():
    factories = {getattr(la, name) for name in la.__all__}
    factories = {f for f in factories if hasattr(f, "is_schedule_factory")}
    tested = {schedule.factory for schedule in SCHEDULES.values()}
    assert {f.__name__ for f in factories - tested} == set()


@pytest.fixture(scope="module")
def counts(mesh):
    with jax.set_mesh(mesh):
        return jax.device_put(jnp.int32(COUNTS), NamedSharding(mesh, PartitionSpec("data")))


@pytest.fixture(scope="module")
def expected_values():
    """Returns the values of every schedule on one device, from one compiled program."""
    evaluate = jax.jit(lambda counts: {name: SCHEDULES[name](counts) for name in SCHEDULES})
    return jax.device_get(evaluate(COUNTS))


@pytest.fixture(scope="module")
def sharded_values(mesh, counts):
    """Returns the values of every schedule at sharded counts, from one compiled program."""

    @jax.jit
    def evaluate(counts, block):
        return {
            name: (schedule(counts), jax.vmap(schedule)(counts), schedule(block))
            for name, schedule in SCHEDULES.items()
        }

    with jax.set_mesh(mesh):
        return evaluate(counts, counts.reshape(2, 8, out_sharding=PartitionSpec("data")))


@pytest.mark.parametrize("name", SCHEDULES)
def test_result_keeps_the_sharding_of_counts(name, mesh, counts, expected_values, sharded_values):
    with jax.set_mesh(mesh):
        *rows, block = SCHEDULES[name](counts), *sharded_values[name]
        for values in rows:
            assert_sharded(values, "data")
            np.testing.assert_allclose(values, expected_values[name], rtol=2e-6, atol=1e-9)
        assert_sharded(block, "data", None)
        np.testing.assert_allclose(block.ravel(), expected_values[name], rtol=2e-6, atol=1e-9)


def rows_of(name):
    """Returns four values of each numeric argument of a schedule."""
    rows = {
        key: np.float32(value) * np.float32([1.0, 0.875, 0.9375, 0.96875])
        for key, value in CASES[name].values.items()
    }
    if "first_step" in rows:
        rows["first_step"] += 1
    return rows


ROWS = {name: rows_of(name) for name in CASES}


def evaluate_rows(in_axes):
    """Compiles one program that maps every schedule over its rows."""

    def evaluate_case(case, rows, counts):
        return jax.vmap(
            lambda values, counts: case.make(**case.structure, **values)(counts), in_axes
        )(rows, counts)

    return jax.jit(
        lambda rows, counts: {
            name: evaluate_case(CASES[name], rows[name], counts) for name in CASES
        }
    )


@pytest.fixture(scope="module")
def expected_rows():
    return jax.device_get(evaluate_rows((0, None))(ROWS, COUNTS.astype(np.int32)))


@pytest.fixture(scope="module")
def sharded_rows(mesh):
    """Returns the values of every schedule for sharded rows, at all counts and at one each."""
    with jax.set_mesh(mesh):
        sharding = NamedSharding(mesh, PartitionSpec("data"))
        rows, four = jax.device_put((ROWS, jnp.int32(COUNTS[:4])), sharding)
        return evaluate_rows((0, None))(rows, jnp.int32(COUNTS)), evaluate_rows(0)(rows, four)


@pytest.mark.parametrize("name", CASES)
def test_result_keeps_the_sharding_of_mapped_values(name, mesh, expected_rows, sharded_rows):
    expected = expected_rows[name]
    values, both = (results[name] for results in sharded_rows)
    with jax.set_mesh(mesh):
        assert_sharded(values, "data", None)
        np.testing.assert_allclose(values, expected, rtol=2e-6, atol=1e-9)
        assert_sharded(both, "data")
        np.testing.assert_allclose(both, np.diag(expected[:, :4]), rtol=2e-6, atol=1e-9)


def test_rows_of_a_sharded_table_keep_its_sharding(mesh):
    tables = np.float32([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [0.7, 0.8, 0.9], [1.0, 1.1, 1.2]])
    with jax.set_mesh(mesh):
        sharded = jax.device_put(tables, NamedSharding(mesh, PartitionSpec("data")))
        look_up = jax.jit(jax.vmap(lambda row, count: la.from_values(row)(count), (0, None)))
        values = look_up(sharded, jnp.int32(1))
        assert_sharded(values, "data")
        np.testing.assert_array_equal(values, tables[:, 1])
        gradient = jax.grad(lambda table: look_up(table, jnp.int32(1)).sum())(sharded)
        assert_sharded(gradient, "data", None)
        np.testing.assert_array_equal(gradient, [[0, 1, 0]] * 4)


def test_training_step_with_sharded_parameters_applies_schedule(mesh):
    schedule = la.cyclical_log_annealing_schedule(
        0.1, 0.001, init_decay_steps=3, restart_interval=2, restart_multiplier=1.5, warmup_steps=2
    )
    optimizer = optax.sgd(schedule)
    with jax.set_mesh(mesh):
        weights = jax.device_put(np.ones(4, np.float32), NamedSharding(mesh, PartitionSpec("data")))

        @jax.jit
        def step(weights, state):
            updates, state = optimizer.update(jnp.ones_like(weights), state)
            return optax.apply_updates(weights, updates), state

        state = optimizer.init(weights)
        for _ in range(6):
            weights, state = step(weights, state)
        assert_sharded(weights, "data")
        total = np.asarray(la.tabulate(schedule, 6), np.float64).sum()
        np.testing.assert_allclose(weights, 1 - total, rtol=1e-5)
