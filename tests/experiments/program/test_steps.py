"""The loops of a run: each step gets its own examples, however steps are dispatched."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.program.state import TrainState, run_keys
from experiments.program.steps import (
    Batches,
    gather,
    make_evaluate,
    make_order,
    make_train_steps,
    pieces,
)
from experiments.tasks.classification import Metrics

EXAMPLES, BATCH, STEPS = 23, 5, 4  # each epoch drops 3 examples
BATCHES = Batches(EXAMPLES, BATCH, EXAMPLES)


@pytest.fixture(scope="module")
def split():
    labels = jnp.arange(EXAMPLES, dtype=jnp.int32)
    return {"image": labels.astype(jnp.uint8).reshape(-1, 1, 1, 1), "label": labels}


def fresh_state(seed=0):
    """Returns a state whose parameters count how often each step sees each example."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=jnp.zeros((4 * STEPS, EXAMPLES), jnp.int32),
        batch_stats={},
        opt_state=(),
        key=jax.random.key(seed),
    )


def counting_step(state, batch):
    """Marks the examples of this step instead of training."""
    seen = state.params.at[state.step, batch["label"]].add(1)
    logits = jax.nn.one_hot(batch["image"].ravel(), EXAMPLES)
    metrics = Metrics.single_from_model_output(
        loss=batch["label"].astype(jnp.float32), logits=logits, labels=batch["label"]
    )
    return state.replace(step=state.step + 1, params=seen), metrics


@pytest.fixture(scope="module")
def train_steps():
    order = jax.jit(make_order(BATCHES))
    compiled = jax.jit(make_train_steps(counting_step, Metrics.empty, BATCHES), donate_argnums=0)
    return lambda state, split, num_steps: compiled(state, split, order(state), num_steps)


def test_each_epoch_sees_examples_in_a_new_order_and_none_twice(train_steps, split):
    state = fresh_state()
    for _ in range(4):
        state, metrics, _ = train_steps(state, split, STEPS)
        assert metrics.compute()["accuracy"] == 1  # images and labels stay together
        assert int(metrics.accuracy.count) == STEPS * BATCH
    seen = np.asarray(state.params).reshape(4, STEPS, EXAMPLES)
    assert (seen.sum(axis=2) == BATCH).all()
    assert (seen.sum(axis=1) <= 1).all()
    left_out = {tuple(np.flatnonzero(epoch.sum(axis=0) == 0)) for epoch in seen}
    assert len(left_out) > 1
    assert len({epoch.tobytes() for epoch in seen}) == 4


@pytest.mark.parametrize("intervals", [[1, 1, 1, 1], [3, 1], [2, 2]])
def test_number_of_steps_per_dispatch_changes_nothing(train_steps, split, intervals):
    whole, together, _ = train_steps(fresh_state(), split, STEPS)
    state, metrics = fresh_state(), Metrics.empty()
    for num_steps in intervals:
        state, interval, _ = train_steps(state, split, num_steps)
        metrics = metrics.merge(interval)
    np.testing.assert_array_equal(state.params, whole.params)
    assert metrics.compute() == together.compute()


def test_examples_depend_on_the_seed(train_steps, split):
    one, *_ = train_steps(fresh_state(0), split, STEPS)
    other, *_ = train_steps(fresh_state(1), split, STEPS)
    assert not np.array_equal(one.params, other.params)


def test_dispatches_of_any_length_share_one_compilation(split):
    traces = 0

    def traced_step(state, batch):
        nonlocal traces
        traces += 1
        return counting_step(state, batch)

    train_steps = jax.jit(make_train_steps(traced_step, Metrics.empty, BATCHES), donate_argnums=0)
    state = fresh_state()
    for num_steps in (1, 3, 4, 2):
        state, *_ = train_steps(state, split, jnp.arange(EXAMPLES), num_steps)
    assert traces == 1


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 24, 100])
def test_evaluation_counts_every_example_exactly_once(split, batch_size):
    def eval_step(state, batch):
        return Metrics.single_from_model_output(
            loss=jnp.ldexp(jnp.ones(batch_size), batch["label"]),
            logits=jax.nn.one_hot(batch["image"].ravel(), EXAMPLES),
            labels=batch["label"],
            mask=batch["mask"],
        )

    evaluate = jax.jit(make_evaluate(eval_step, Metrics.empty, batch_size=batch_size))
    metrics = evaluate(fresh_state(), split)
    # The sum of distinct powers of two is exact, so it shows that each example counts once.
    assert float(metrics.loss.total) == 2**EXAMPLES - 1
    assert int(metrics.accuracy.count) == EXAMPLES


def test_steps_in_the_loop_equal_the_same_steps_alone():
    images = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 1)).astype(np.uint8)
    split = {"image": images, "label": np.arange(16, dtype=np.int32) % 3}
    optimizer = optax.adam(1e-2)

    def loss_of(params, batch):
        pixels = batch["image"].reshape(8, -1).astype(jnp.float32) / 255.0
        return optax.softmax_cross_entropy_with_integer_labels(pixels @ params, batch["label"])

    def train_step(state, batch):
        gradients = jax.grad(lambda params: loss_of(params, batch).mean())(state.params)
        with jax.numpy_dtype_promotion("standard"):  # Adam mixes its counter with floats
            updates, opt_state = optimizer.update(gradients, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        losses = loss_of(state.params, batch)
        metrics = Metrics.single_from_model_output(
            loss=losses, logits=jnp.zeros((8, 3)), labels=batch["label"]
        )
        state = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
        return state, metrics

    def start():
        params = jnp.ones((16, 3)) / 7
        return TrainState(
            jnp.zeros((), jnp.int32), params, {}, optimizer.init(params), jax.random.key(3)
        )

    batches = Batches(16, 8, 16)
    train_steps = jax.jit(make_train_steps(train_step, Metrics.empty, batches), donate_argnums=0)
    drawn = make_order(batches)(start())
    together, *_ = train_steps(start(), split, drawn, 2)
    order_key = run_keys(jax.random.key(3)).order
    order = np.asarray(jax.random.permutation(jax.random.fold_in(order_key, 0), 16))
    alone, one_step = start(), jax.jit(train_step)
    for indices in (order[:8], order[8:]):
        alone, _ = one_step(alone, {"image": images[indices], "label": split["label"][indices]})
    np.testing.assert_allclose(together.params, alone.params, rtol=1e-6)


def test_share_selects_the_examples_of_a_program():
    """Of each batch, the program processes the first three examples."""

    def first_three(indices):
        return indices[:3]

    train_steps = jax.jit(
        make_train_steps(counting_step, Metrics.empty, BATCHES, share=first_three)
    )
    labels = jnp.arange(EXAMPLES, dtype=jnp.int32)
    split = {"image": labels.astype(jnp.uint8).reshape(-1, 1, 1, 1), "label": labels}
    order = jax.random.permutation(jax.random.key(5), EXAMPLES)
    state, metrics, _ = train_steps(fresh_state(), split, order, STEPS)
    assert int(metrics.accuracy.count) == 3 * STEPS
    for step in range(STEPS):
        seen = np.flatnonzero(state.params[step])
        np.testing.assert_array_equal(seen, np.sort(order[BATCH * step : BATCH * step + 3]))


def test_task_can_cut_its_own_batches_with_a_key_of_each_epoch(split):
    """Each batch is shifted by a random number, which all steps of an epoch share."""

    def shifted(split, indices, key):
        shift = jax.random.randint(key, (), 0, 1000)
        return {**gather(split, indices), "shift": jnp.full(indices.shape, shift)}

    def shift_step(state, batch):
        state, metrics = counting_step(state, batch)
        shifts = state.batch_stats.at[state.step - 1].set(batch["shift"][0])
        return state.replace(batch_stats=shifts), metrics

    order = jax.jit(make_order(BATCHES))
    train_steps = jax.jit(make_train_steps(shift_step, Metrics.empty, BATCHES, batch=shifted))
    found = []
    for seed in (0, 1):
        state = fresh_state(seed).replace(batch_stats=jnp.zeros(4 * STEPS, jnp.int32))
        for num_steps in (4, 1, 3, 2, 2, 4):
            state, *_ = train_steps(state, split, order(state), num_steps)
        shifts = np.asarray(state.batch_stats).reshape(4, STEPS)
        assert (shifts == shifts[:, :1]).all()
        assert len(set(shifts[:, 0])) == 4
        seen = np.asarray(state.params).reshape(4, STEPS, EXAMPLES)
        assert (seen.sum(axis=1) <= 1).all()
        found.append(shifts)
    assert not np.array_equal(*found)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_pieces_cover_all_steps_and_end_at_boundaries(size):
    found = list(pieces(4, 17, size, boundaries=(2, 4, 9, 10, 17, 30)))
    assert [step for first, end in found for step in range(first, end)] == list(range(4, 17))
    assert all(end - first <= size for first, end in found)
    assert {9, 10} <= {end for _, end in found}


def test_no_pieces_without_steps():
    assert list(pieces(5, 5, 3)) == []
