"""Steps on blocks of batches are the steps on a split in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.program import blocks
from experiments.program.steps import Batches, make_evaluate, make_order, make_train_steps
from experiments.tasks.classification import Metrics
from tests.experiments.program.test_steps import (
    BATCH,
    BATCHES,
    EXAMPLES,
    STEPS,
    counting_step,
    fresh_state,
)

LAYOUTS = {"image": ((8, 8, 3), "uint8"), "label": ((), "int32")}


def examples(indices):
    labels = jnp.asarray(indices, jnp.int32)
    return {"image": labels.astype(jnp.uint8)[..., None, None, None], "label": labels}


@pytest.mark.parametrize("size", [1, 3, 6])
def test_blocks_of_any_size_give_the_steps_of_the_split(size):
    train_steps = jax.jit(make_train_steps(counting_step, Metrics.empty, BATCHES))
    order = make_order(BATCHES)(fresh_state())
    whole, expected, _ = train_steps(fresh_state(), examples(range(EXAMPLES)), order, STEPS)
    train_on_block = jax.jit(blocks.make_train_on_block(counting_step, Metrics.empty))
    state, metrics = fresh_state(), Metrics.empty()
    rows = np.asarray(order)[: STEPS * BATCH].reshape(STEPS, BATCH)
    for first in range(0, STEPS, size):
        piece = rows[first : first + size]
        block = np.zeros((size, BATCH), np.int32)
        block[: len(piece)] = piece
        state, interval, _ = train_on_block(state, examples(block), len(piece))
        metrics = metrics.merge(interval)
    np.testing.assert_array_equal(state.params, whole.params)
    assert metrics.compute() == expected.compute()


def test_evaluation_of_blocks_equals_that_of_the_split():
    def eval_step(state, batch):
        return Metrics.single_from_model_output(
            loss=batch["label"].astype(jnp.float32) / 7,
            logits=jax.nn.one_hot(batch["image"].ravel(), EXAMPLES),
            labels=batch["label"],
            mask=batch["mask"],
        )

    evaluate = jax.jit(make_evaluate(eval_step, Metrics.empty, batch_size=BATCH))
    expected = evaluate(fresh_state(), examples(range(EXAMPLES)))
    evaluate_block = jax.jit(blocks.make_evaluate_block(eval_step))
    metrics = Metrics.empty()
    for first in (0, 3):
        indices = first * BATCH + np.arange(3 * BATCH).reshape(3, BATCH)
        mask = indices < EXAMPLES
        block = {**examples(np.where(mask, indices, 0)), "mask": mask}
        metrics = evaluate_block(fresh_state(), metrics, block, 3 if first == 0 else 2)
    assert metrics.compute() == expected.compute()
    assert int(metrics.accuracy.count) == EXAMPLES


def test_block_holds_several_batches_only_if_they_fit(monkeypatch):
    batches = Batches(1000, 10, 100)

    def sizes(max_bytes, log_every_steps=50, num_test=1000):
        monkeypatch.setattr(blocks, "MAX_BYTES", max_bytes)
        return blocks.sizes(LAYOUTS, batches, log_every_steps=log_every_steps, num_test=num_test)

    batch = 10 * (8 * 8 * 3 + 4)
    assert sizes(25 * batch) == blocks.Sizes(25, 2)
    assert sizes(25 * batch, log_every_steps=7) == blocks.Sizes(7, 2)
    assert sizes(10**9) == blocks.Sizes(50, 10)
    assert sizes(10**9, num_test=101) == blocks.Sizes(50, 2)
    assert sizes(1) == blocks.Sizes(1, 1)
