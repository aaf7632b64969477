"""Tests of schedules as values: repr, equality, hash, pickle, copies, and calls."""

import concurrent.futures
import copy
import functools
import multiprocessing
import pickle

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loganneal_jax as la
from loganneal_jax import shapes
from loganneal_jax.schedule import Schedule, as_function
from tests.loganneal_jax.catalog import CASES, build

NAMESPACE = {**{name: getattr(la, name) for name in la.__all__}, "functools": functools, "np": np}
COUNTS = np.array([0, 1, 5, 17, 1000, 2**31 - 1], np.int32)
# The shapes of these cases are lambdas, which have neither equal copies nor a pickle.
VALUES = [name for name in CASES if "lambda" not in repr(build(name))]


def nested():
    decay = la.chain_schedules(
        [la.restarts(shapes.cosine, 0.1, 0.0, restart_interval=7), la.from_values([0.3, 0.2])], [9]
    )
    return la.with_warmup(la.scale_schedule(decay, np.float32(0.5)), 3, warmup="cosine")


def test_only_lambdas_are_excluded():
    assert set(CASES) - set(VALUES) <= {"polynomial"}


@pytest.mark.parametrize("name", VALUES)
def test_repr_is_the_call_that_creates_the_schedule(name):
    schedule = build(name)
    assert eval(repr(schedule), NAMESPACE) == schedule


def test_repr_omits_defaults_and_nests():
    assert repr(la.cyclical_log_annealing_schedule(0.1, 0.001, init_decay_steps=3910)) == (
        "cyclical_log_annealing_schedule(0.1, 0.001, init_decay_steps=3910)"
    )
    assert repr(nested()) == (
        "with_warmup(scale_schedule(chain_schedules([restarts(shapes.cosine, 0.1, 0.0, "
        "restart_interval=7), from_values([0.3, 0.2])], [9]), 0.5), 3, warmup='cosine')"
    )
    assert eval(repr(nested()), NAMESPACE) == nested()
    table = la.from_values(np.linspace(0, 1, 1000))
    assert len(repr(table)) < 200
    partial = functools.partial(shapes.polynomial, power=2.0)
    assert repr(la.anneal(partial, 0.1, 0.0, 9)) == (
        "anneal(functools.partial(shapes.polynomial, power=2.0), 0.1, 0.0, 9)"
    )
    foreign = repr(la.scale_schedule(optax.linear_schedule(1.0, 0.0, 4), 2.0))
    assert "polynomial_schedule.<locals>.schedule, 2.0)" in foreign
    assert " at 0x" not in foreign


@pytest.mark.parametrize("name", VALUES)
def test_schedules_with_equal_arguments_are_equal_and_others_differ(name):
    case, schedule = CASES[name], build(name)
    assert build(name) == schedule
    assert hash(build(name)) == hash(schedule)
    changed = [
        {key: value * 0.9375} for key, value in case.values.items() if value not in (0.0, 1.0)
    ]
    for change in changed:
        other = case.make(**{**case.structure, **case.values, **change})
        assert other != schedule
        assert repr(other) != repr(schedule)


def test_arguments_of_other_types_with_equal_values_are_equal():
    schedule = la.linear_decay_schedule(0.5, 0.0, 10)
    for value in (np.float64(0.5), np.float32(0.5), jnp.float32(0.5), np.array(0.5)):
        assert la.linear_decay_schedule(value, 0, np.int64(10)) == schedule
    assert la.linear_decay_schedule(init_value=0.5, end_value=0.0, decay_steps=10) == schedule
    assert la.rex_schedule(0.5, 0.0, 10) != schedule
    assert la.staircase_schedule(0.1, boundaries=[3, 5]) == la.staircase_schedule(
        0.1, boundaries=(3, 5), decay_rate=0.1
    )
    table = np.float32([0.1, 0.2])
    assert la.from_values(table) == la.from_values(jnp.asarray(table))
    assert la.from_values(table) != la.from_values(np.float32([0.1, 0.3]))
    assert schedule != "linear_decay_schedule(0.5, 0.0, 10)"


def test_later_changes_of_arguments_do_not_affect_a_schedule():
    boundaries, table = [3, 5], np.array([0.1, 0.2])
    staircase = la.staircase_schedule(0.1, boundaries=boundaries)
    values = la.from_values(table)
    boundaries[0], table[0] = 4, 9.0
    assert staircase == la.staircase_schedule(0.1, boundaries=[3, 5])
    assert values == la.from_values(np.array([0.1, 0.2]))
    assert values(0) == np.float32(0.1)
    with pytest.raises(ValueError, match="read-only"):
        values.arguments["values"][0] = 9.0
    with pytest.raises(TypeError):
        staircase.arguments["decay_rate"] = 0.5


def test_functions_are_compared_by_identity_and_partials_by_their_parts():
    def half(elapsed, remaining):
        return 0.5 * shapes.linear(elapsed, remaining)

    def make(shape):
        return la.anneal(shape, 0.1, 0.0, 9)

    assert make(half) == make(half)
    assert make(half) != make(lambda elapsed, remaining: half(elapsed, remaining))
    assert make(functools.partial(shapes.polynomial, power=2.0)) == make(
        functools.partial(shapes.polynomial, power=2.0)
    )
    assert make(functools.partial(shapes.polynomial, power=2.0)) != make(
        functools.partial(shapes.polynomial, power=3.0)
    )


class Everywhere:
    """A schedule of another library that claims to equal everything."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1

    def __call__(self, count):
        return self.value

    def method(self, count):
        return self.value


def test_foreign_equality_is_ignored():
    first, second = Everywhere(0.1), Everywhere(0.2)
    assert la.scale_schedule(first, 1.0) != la.scale_schedule(second, 1.0)
    assert la.scale_schedule(first.method, 1.0) == la.scale_schedule(first.method, 1.0)
    assert la.scale_schedule(first.method, 1.0) != la.scale_schedule(second.method, 1.0)
    assert la.scale_schedule(first, 2.0)(3) == np.float32(0.2)
    assert la.scale_schedule(second, 2.0)(3) == np.float32(0.4)


def test_equal_schedules_as_static_arguments_trace_once():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def update(schedule, count):
        traces.append(schedule)
        return schedule(count)

    for _ in range(3):
        update(nested(), jnp.int32(4))
    assert len(traces) == 1


def test_eager_calls_of_equal_schedules_trace_once():
    traces = []

    def shape(elapsed, remaining):
        traces.append(1)
        return shapes.linear(elapsed, remaining)

    for count in range(3):
        la.anneal(shape, 0.1, 0.0, 9)(count)
    assert len(traces) == 1


@pytest.mark.parametrize("name", VALUES)
def test_pickle_and_deepcopy_yield_an_equal_schedule(name):
    schedule = build(name)
    for copied in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)):
        assert copied == schedule
        assert repr(copied) == repr(schedule)
        assert hash(copied) == hash(schedule)
    assert copy.copy(schedule) is schedule


def value_at(schedule, count):
    return repr(schedule), float(schedule(count))


def test_schedules_pass_through_a_spawned_process_pool():
    schedules = [build(name) for name in VALUES[:4]] + [nested()]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        results = list(pool.map(value_at, schedules, [4] * len(schedules)))
    for schedule, (text, value) in zip(schedules, results, strict=True):
        assert text == repr(schedule)
        np.testing.assert_allclose(value, schedule(4), rtol=1e-6)


def test_traced_schedule_works_but_has_no_hash():
    def value(peak, count):
        schedule = la.with_warmup(la.linear_decay_schedule(peak, 0.0, 10), 5)
        assert "linear_decay_schedule(<traced float32[]>, 0.0, 10)" in repr(schedule)
        assert schedule == schedule
        assert schedule != la.with_warmup(la.linear_decay_schedule(peak, 0.0, 10), 5)
        with pytest.raises(TypeError, match="has no hash, because schedule is traced"):
            hash(schedule)
        assert copy.deepcopy(schedule.arguments["warmup_steps"]) == 5
        # Neither a concrete count nor one that is not traced changes this.
        return schedule(count) + schedule(5) - schedule(np.int32(5))

    peaks = jnp.float32([0.1, 0.2])
    np.testing.assert_allclose(jax.vmap(value, (0, None))(peaks, 10), peaks / 2, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(value)(0.1, 10), 0.05, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(value)(0.1, 10), 0.5, rtol=1e-6)


def test_function_over_a_tracer_works_with_concrete_count():
    def value(scale):
        return la.scale_schedule(lambda count: scale * count, 2.0)(3)

    np.testing.assert_allclose(jax.jit(value)(0.5), 3.0)
    np.testing.assert_allclose(jax.jit(value)(1.0), 6.0)
    np.testing.assert_allclose(jax.grad(value)(0.5), 6.0)
    np.testing.assert_allclose(jax.vmap(value)(jnp.arange(3.0)), [0, 6, 12])


def test_wrapped_python_function_with_branches_still_works_eagerly():
    branch = la.scale_schedule(lambda count: 0.1 if count < 5 else 0.01, 2.0)
    assert branch(4) == np.float32(0.2)
    assert branch(5) == np.float32(0.02)
    numpy_function = la.scale_schedule(lambda count: np.asarray(count) * 0.5, 2.0)
    assert numpy_function(4) == 4.0


@pytest.mark.parametrize("name", ["cyclical_log_annealing", "staircase", "one_cycle"])
def test_eager_value_equals_compiled_value_bit_for_bit(name):
    schedule = build(name)
    np.testing.assert_array_equal(schedule(COUNTS), jax.jit(schedule)(COUNTS))
    assert schedule(COUNTS).dtype == jnp.float32
    assert isinstance(schedule(3), jax.Array)
    assert isinstance(float(schedule(3)), float)


def test_as_function_takes_any_schedule():
    ours = la.linear_decay_schedule(1.0, 0.0, 4)
    for schedule in (ours, optax.constant_schedule(0.5), lambda count: 0.5):
        values = jax.jit(as_function(schedule))(jnp.int32([[2], [2]]))
        np.testing.assert_array_equal(values, np.full((2, 1), 0.5, np.float32))


def test_factories_have_signature_documentation_and_names():
    import inspect

    for name in la.__all__:
        factory = getattr(la, name)
        if not hasattr(factory, "is_schedule_factory"):
            continue
        assert factory.__name__ == factory.__qualname__ == name
        assert factory.__doc__
        signature = inspect.signature(factory)
        assert str(signature).endswith("-> 'Schedule'")
        assert len(str(signature)) < 600
        assert "Union" not in str(signature)
        assert " | np." not in str(signature)
    assert isinstance(build("linear_decay"), Schedule)
    assert build("linear_decay").__name__ == "linear_decay_schedule"
    assert Schedule.__doc__
    assert build("linear_decay").factory is la.linear_decay_schedule
    assert dict(build("linear_decay").arguments) == {
        "init_value": 0.1,
        "end_value": 0.001,
        "decay_steps": 40,
    }


def test_public_names_are_complete():
    assert dir(la) == sorted(la.__all__)
    assert {"Schedule", "shapes", "__version__"} <= set(la.__all__)
    assert all(hasattr(la, name) for name in la.__all__)


NUMBERS = st.one_of(st.floats(2**-10, 10.0, width=32), st.integers(1, 5), st.just(np.float32(0.25)))


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    peak=NUMBERS,
    end=NUMBERS,
    steps=st.integers(1, 10**6),
    boundaries=st.lists(st.integers(1, 2**31 - 1), min_size=1, unique=True).map(sorted),
    table=st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=9),
    offset=st.integers(-(2**31) + 1, 2**31 - 1),
)
def test_random_schedules_round_trip(peak, end, steps, boundaries, table, offset):
    parts = [la.linear_decay_schedule(peak, end, steps), la.from_values(table)]
    parts += [la.staircase_schedule(0.5, boundaries=boundaries)]
    schedule = la.shift_schedule(la.multiply_schedules(*parts), offset)
    assert eval(repr(schedule), NAMESPACE) == schedule
    copied = pickle.loads(pickle.dumps(schedule))
    assert (copied, hash(copied)) == (schedule, hash(schedule))
