"""What acts on any schedule, and ours in other people's optax chains."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import loganneal_jax as la

LAST = 2**31 - 1
STEPS = jnp.arange(24)
FOREIGN = optax.polynomial_schedule(0.1, 0.01, power=2, transition_steps=12)


def foreign(step):
    return 0.01 + 0.09 * (1 - np.minimum(step, 12) / 12) ** 2


@pytest.mark.parametrize(
    ("warmup", "rise"),
    [
        ("linear", lambda x: 0.001 + (0.1 - 0.001) * x),
        ("cosine", lambda x: 0.001 + (0.1 - 0.001) * 0.5 * (1 - np.cos(np.pi * x))),
        ("exponential", lambda x: 0.001 * (0.1 / 0.001) ** x),
    ],
)
def test_warmup_leads_to_the_first_value_of_the_schedule(warmup, rise):
    schedule = jax.jit(la.with_warmup(FOREIGN, 7, 0.001, warmup=warmup))
    step = np.arange(24)
    expected = np.where(step < 7, rise(step / 7), foreign(step - 7))
    np.testing.assert_allclose(schedule(STEPS), expected, rtol=2e-6)
    assert schedule(0) == schedule(-5) == np.float32(0.001)
    assert schedule(7) == np.float32(0.1)


def test_no_warmup_changes_nothing():
    np.testing.assert_array_equal(la.with_warmup(FOREIGN, 0)(STEPS), FOREIGN(STEPS))


def test_the_warmup_of_a_cyclical_schedule_is_with_warmup():
    cyclic = {"init_decay_steps": 6, "restart_interval": 4}
    built_in = la.cyclical_log_annealing_schedule(
        0.1, 0.001, **cyclic, warmup_steps=5, warmup_init_value=0.01
    )
    around = la.with_warmup(la.cyclical_log_annealing_schedule(0.1, 0.001, **cyclic), 5, 0.01)
    np.testing.assert_array_equal(built_in(STEPS), around(STEPS))


def test_chain_starts_each_schedule_at_its_own_step_zero():
    seen = []

    def watched(count):
        seen.append(int(count.min()))
        return FOREIGN(count)

    schedule = la.chain_schedules([optax.constant_schedule(0.5), watched], [5])
    step = np.arange(24)
    np.testing.assert_allclose(
        schedule(STEPS), np.where(step < 5, 0.5, foreign(step - 5)), rtol=1e-6
    )
    assert min(seen) == 0


def test_a_discarded_branch_does_not_spoil_the_gradient():
    def later(scale):
        # Not defined before its step 0, like many a schedule written by hand.
        root = lambda count: scale * jnp.sqrt(jnp.asarray(count, jnp.float32) + 0.5)  # noqa: E731
        return la.chain_schedules([optax.constant_schedule(0.1), root], [9])

    assert jax.grad(lambda scale: later(scale)(3))(0.2) == 0
    np.testing.assert_allclose(
        jax.grad(lambda scale: later(scale)(9))(0.2), np.sqrt(0.5), rtol=1e-6
    )


def test_repeat_per_epoch_scale_clip():
    step = np.arange(24)
    repeated = la.repeat_schedule(FOREIGN, 5)(STEPS)
    np.testing.assert_allclose(repeated, foreign(step % 5), rtol=1e-6)
    twice = la.repeat_schedule(FOREIGN, 5, times=2)(STEPS)
    np.testing.assert_allclose(twice, foreign(np.where(step < 5, step, step - 5)), rtol=1e-6)
    held = la.per_epoch(FOREIGN, 5)(STEPS)
    np.testing.assert_allclose(held, foreign(step // 5 * 5), rtol=1e-6)
    scaled = la.scale_for_batch_size(FOREIGN, 64, base_batch_size=256)(STEPS)
    np.testing.assert_allclose(scaled, foreign(step) / 4, rtol=1e-6)
    clipped = la.clip_schedule(FOREIGN, 0.02, 0.05)(STEPS)
    np.testing.assert_allclose(clipped, np.clip(foreign(step), 0.02, 0.05), rtol=1e-6)
    for schedule in (la.repeat_schedule(FOREIGN, 5), la.per_epoch(FOREIGN, 5)):
        assert np.isfinite(schedule(jnp.array([[-5, 0], [LAST - 1, LAST]]))).all()


def test_a_table_of_a_schedule_is_the_schedule():
    schedule = la.cyclical_cosine_schedule(0.1, 0.001, init_decay_steps=5, restart_interval=7)
    table = la.tabulate(schedule, 24)
    assert table.shape == (24,)
    assert table.dtype == jnp.float32
    read = la.from_values(table)
    np.testing.assert_array_equal(read(STEPS), schedule(STEPS))
    np.testing.assert_array_equal(read(jnp.array([-1, 24, LAST])), table[jnp.array([0, 23, 23])])
    np.testing.assert_array_equal(la.tabulate(optax.constant_schedule(0.5), 3), [0.5] * 3)


def test_one_program_serves_every_table():
    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @chex.assert_max_traces(n=1)
    def read(row, count):
        return la.from_values(row)(count)

    tables = jnp.stack([la.tabulate(FOREIGN, 24), la.tabulate(optax.constant_schedule(0.5), 24)])
    for count in (0, 3, 23):
        np.testing.assert_array_equal(read(tables, count), tables[:, count])


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.sgd,
        lambda lr: optax.chain(optax.scale_by_schedule(lr), optax.scale(-1.0)),
        lambda lr: optax.inject_hyperparams(optax.sgd)(learning_rate=lr),
        lambda lr: optax.multi_transform(
            {"ours": optax.sgd(lr), "fixed": optax.sgd(0.5)}, {"w": "ours", "b": "fixed"}
        ),
    ],
    ids=["sgd", "scale_by_schedule", "inject_hyperparams", "multi_transform"],
)
def test_an_optax_chain_takes_our_steps(optimizer):
    schedule = la.cyclical_log_annealing_schedule(
        0.1, 0.001, init_decay_steps=3, restart_interval=2, warmup_steps=2
    )
    rates = np.asarray(la.tabulate(schedule, 8), np.float64)
    params = {"w": jnp.ones(3), "b": jnp.ones(())}
    chain = optimizer(schedule)

    @jax.jit
    def step(params, state):
        gradients = {"w": jnp.full(3, 2.0), "b": jnp.float32(1.0)}
        updates, state = chain.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    state = chain.init(params)
    for _ in range(8):
        params, state = step(params, state)
    np.testing.assert_allclose(params["w"], 1 - 2 * rates.sum(), rtol=1e-5)


def test_adamw_takes_our_steps():
    schedule = la.trapezoid_schedule(0.1, 0.0, 8, warmup_steps=2, cooldown_steps=3)
    rates = np.asarray(la.tabulate(schedule, 8), np.float64)
    chain = optax.adamw(schedule, weight_decay=0.5)
    weight = jnp.float32(1.0)
    state, expected = chain.init(weight), 1.0
    step = jax.jit(lambda w, s: chain.update(jnp.float32(2.0), s, w))
    for rate in rates:
        update, state = step(weight, state)
        weight = optax.apply_updates(weight, update)
        # Under a constant gradient Adam's own step is 1; the decay is decoupled.
        expected -= rate * (1.0 + 0.5 * expected)
    np.testing.assert_allclose(weight, expected, rtol=1e-4)


def test_inverse_sqrt_equals_the_published_formula():
    step = np.arange(1, 5000)
    ours = la.inverse_sqrt_schedule(0.1, warmup_steps=400)(jnp.asarray(step))
    expected = 0.1 * np.sqrt(400) * np.minimum(step**-0.5, step * 400**-1.5)
    np.testing.assert_allclose(ours, expected, rtol=1e-6)
