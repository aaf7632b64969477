"""Many steps in one program are the same steps, each on the examples that are its own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import parallel, step

EXAMPLES, BATCH, STEPS = 23, 5, 4  # 3 examples of every epoch are left out


@pytest.fixture
def split():
    labels = jnp.arange(EXAMPLES, dtype=jnp.int32)
    return parallel.Split(labels.astype(jnp.uint8).reshape(-1, 1, 1, 1), labels)


def fresh_state(seed=0):
    """A state whose parameters count how often each example was seen."""
    return step.TrainState(
        step=jnp.zeros((), jnp.int32),
        params=jnp.zeros((4 * STEPS, EXAMPLES), jnp.int32),
        batch_stats={},
        opt_state=(),
        key=jax.random.key(seed),
    )


def counting_step(state, batch):
    """Instead of training: marks which examples were in this step."""
    seen = state.params.at[state.step, batch["label"]].add(1)
    logits = jax.nn.one_hot(batch["image"].ravel(), EXAMPLES)
    metrics = step.Metrics.single_from_model_output(
        loss=batch["label"].astype(jnp.float32), logits=logits, labels=batch["label"]
    )
    return state.replace(step=state.step + 1, params=seen), metrics


@pytest.fixture
def train_steps():
    order = jax.jit(parallel.ordering(num_examples=EXAMPLES, steps_per_epoch=STEPS))
    compiled = jax.jit(
        parallel.training(counting_step, batch_size=BATCH, steps_per_epoch=STEPS), donate_argnums=0
    )
    return lambda state, split, num_steps: compiled(state, split, order(state), num_steps)


def test_every_epoch_sees_other_examples_in_another_order_each_at_most_once(train_steps, split):
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
def test_how_steps_are_grouped_into_dispatches_changes_nothing(train_steps, split, intervals):
    whole, together, _ = train_steps(fresh_state(), split, STEPS)
    state, metrics = fresh_state(), step.Metrics.empty()
    for num_steps in intervals:
        state, interval, _ = train_steps(state, split, num_steps)
        metrics = metrics.merge(interval)
    np.testing.assert_array_equal(state.params, whole.params)
    assert metrics.compute() == together.compute()


def test_examples_depend_on_the_seed(train_steps, split):
    one, *_ = train_steps(fresh_state(0), split, STEPS)
    other, *_ = train_steps(fresh_state(1), split, STEPS)
    assert not np.array_equal(one.params, other.params)


def test_one_compilation_serves_intervals_of_any_length(split):
    traces = 0

    def traced_step(state, batch):
        nonlocal traces
        traces += 1
        return counting_step(state, batch)

    train_steps = jax.jit(
        parallel.training(traced_step, batch_size=BATCH, steps_per_epoch=STEPS), donate_argnums=0
    )
    state = fresh_state()
    for num_steps in (1, 3, 4, 2):
        state, *_ = train_steps(state, split, jnp.arange(EXAMPLES), num_steps)
    assert traces == 1


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 24, 100])
def test_evaluation_counts_every_example_exactly_once(split, batch_size):
    def eval_step(state, batch):
        return step.Metrics.single_from_model_output(
            loss=2.0 ** batch["label"],
            logits=jax.nn.one_hot(batch["image"].ravel(), EXAMPLES),
            labels=batch["label"],
            mask=batch["mask"],
        )

    evaluate = jax.jit(parallel.evaluation(eval_step, batch_size=batch_size))
    metrics = evaluate(fresh_state(), split)
    # The sum of distinct powers of two is exact, and tells who was counted how often.
    assert float(metrics.loss.total) == 2**EXAMPLES - 1
    assert int(metrics.accuracy.count) == EXAMPLES


def test_a_real_step_in_the_loop_equals_it_alone():
    """The loop around a step that normalises, augments and updates changes no bit of it."""
    images = jax.random.randint(jax.random.key(1), (16, 4, 4, 1), 0, 256).astype(jnp.uint8)
    split = parallel.Split(images, jnp.arange(16, dtype=jnp.int32) % 3)
    optimizer = optax.adam(1e-2)

    def loss_of(params, batch):
        pixels = batch["image"].reshape(8, -1) / 255.0
        return optax.softmax_cross_entropy_with_integer_labels(pixels @ params, batch["label"])

    def train_step(state, batch):
        gradients = jax.grad(lambda params: loss_of(params, batch).mean())(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        losses = loss_of(state.params, batch)
        metrics = step.Metrics.single_from_model_output(
            loss=losses, logits=jnp.zeros((8, 3)), labels=batch["label"]
        )
        state = state.replace(step=state.step + 1, params=params, opt_state=opt_state)
        return state, metrics

    def start():
        params = jnp.ones((16, 3)) / 7
        return step.TrainState(
            jnp.zeros((), jnp.int32), params, {}, optimizer.init(params), jax.random.key(3)
        )

    train_steps = jax.jit(
        parallel.training(train_step, batch_size=8, steps_per_epoch=2), donate_argnums=0
    )
    drawn = parallel.ordering(num_examples=16, steps_per_epoch=2)(start())
    together, *_ = train_steps(start(), split, drawn, 2)
    _, order_key, *_ = step.run_keys(jax.random.key(3))
    order = jax.random.permutation(jax.random.fold_in(order_key, 0), 16)
    alone = start()
    for indices in (order[:8], order[8:]):
        alone, _ = train_step(alone, {"image": images[indices], "label": split.labels[indices]})
    np.testing.assert_allclose(together.params, alone.params, rtol=1e-6)
