"""The language model: its windows, its metrics, its updates, and its samples."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from experiments.data.text import Corpus, Tokens, Vocabulary
from experiments.errors import UserError
from experiments.tasks import language_model
from experiments.tasks.language_model import num_windows, window_cutter, windows_to_evaluate
from experiments.tasks.task import Floor, Sampling

SIZE, LENGTH = 5, 4
TRAIN = np.random.default_rng(0).integers(0, SIZE, 61).astype(np.uint8)
TEST = np.random.default_rng(1).integers(0, SIZE, 22).astype(np.uint8)


class Bigrams(nn.Module):
    """Logits that depend on the last token only: a table [tokens, tokens]."""

    @nn.compact
    def __call__(self, tokens, *, train):
        table = self.param("table", nn.initializers.normal(1.0), (SIZE, SIZE))
        return table[tokens]


def make(model=None, **options):
    corpus = Corpus("pairs", Vocabulary("abcde"), TRAIN.size, lambda: Tokens(TRAIN, TEST), 0.5)
    return language_model.make_task(
        corpus=corpus,
        model_name="bigrams",
        model=model or Bigrams(),
        context_length=LENGTH,
        **options,
    )


OPTIMIZER = optax.sgd(0.5)


@pytest.fixture(scope="module")
def state():
    return jax.jit(lambda key: make().init(key, OPTIMIZER))(jax.random.key(0))


def log_probabilities(table):
    return scipy.special.log_softmax(np.asarray(table, np.float64), axis=-1)


@pytest.mark.parametrize(("num_tokens", "length"), [(8, 4), (9, 4), (11, 4), (99, 7), (3, 1)])
def test_windows_of_an_epoch_follow_one_another_inside_the_text(num_tokens, length):
    count = num_windows(num_tokens, length)
    cut = jax.jit(jax.vmap(window_cutter(length), in_axes=(None, None, 0)))
    split = {"tokens": np.arange(num_tokens, dtype=np.int32)}
    keys = jax.random.split(jax.random.key(0), 60)
    epochs = np.asarray(cut(split, np.arange(count), keys)["tokens"])
    assert set(epochs[:, 0, 0].tolist()) == set(range(length))
    # Indices outside the array would be clipped, so the tokens would not be consecutive.
    np.testing.assert_array_equal(np.diff(epochs, axis=2), 1)
    np.testing.assert_array_equal(np.diff(epochs[:, :, 0], axis=1), length)
    assert num_tokens - epochs[:, -1, -1].max() <= length
    assert num_windows(2 * length - 1, length) == 0


@given(st.integers(1, 200), st.integers(1, 30))
def test_evaluation_predicts_every_token_once_from_the_one_before(num_tokens, length):
    tokens = np.arange(1, num_tokens + 1, dtype=np.uint16)
    windows = windows_to_evaluate(tokens, before=0, context_length=length)
    predicted = [
        pair
        for window, count in zip(windows["tokens"], windows["count"], strict=True)
        for pair in zip(window[:count].tolist(), window[1 : count + 1].tolist(), strict=True)
    ]
    assert predicted == [(token - 1, token) for token in range(1, num_tokens + 1)]
    assert windows["tokens"].dtype == np.uint16


def test_evaluation_averages_over_the_characters_of_the_split(state):
    task = make()
    split = task.load().test
    previous = np.concatenate([TRAIN[-1:], TEST[:-1]])
    losses = -log_probabilities(state.params["table"])[previous, TEST]
    metrics, evaluate = task.no_metrics(), jax.jit(task.eval_step)
    for start in (0, 4):
        # The batches of the loop: examples that fill the last batch repeat the first one.
        indices = start + np.arange(4)
        mask = indices < len(split["count"])
        batch = {name: array[np.where(mask, indices, 0)] for name, array in split.items()}
        metrics = metrics.merge(evaluate(state, {**batch, "mask": mask}))
    assert int(metrics.loss.count) == TEST.size
    found = jax.device_get(metrics).compute()
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert found["bits_per_character"] == pytest.approx(losses.mean() / math.log(2), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(losses.mean()), rel=1e-5)
    assert {"loss", "bits_per_character", "perplexity"} == set(task.metrics) == set(found)


@pytest.mark.parametrize("pieces", [1, 2])
def test_step_follows_the_gradient_of_the_mean_loss(state, pieces):
    task = make(accumulate_steps=pieces)

    @jax.jit
    def step(state, split):
        batch = task.batch(split, jnp.arange(6), jax.random.key(1))
        return batch, task.train_step(state, batch, OPTIMIZER)

    batch, (after, metrics) = step(state, task.load().train)
    tokens = np.asarray(batch["tokens"])
    before = np.asarray(state.params["table"])
    inputs, targets = tokens[:, :-1].ravel(), tokens[:, 1:].ravel()
    probabilities = np.exp(log_probabilities(before))
    gradient = np.zeros((SIZE, SIZE))
    np.add.at(gradient, inputs, probabilities[inputs] - np.eye(SIZE)[targets])
    np.testing.assert_allclose(
        after.params["table"], before - 0.5 * gradient / inputs.size, rtol=1e-4, atol=1e-5
    )
    assert int(after.step) == 1
    expected = -log_probabilities(before)[inputs, targets].mean()
    assert jax.device_get(metrics).compute()["loss"] == pytest.approx(expected, rel=1e-5)


def test_floors_and_chance_are_in_the_units_of_each_metric():
    task = make()
    assert {name: floor.value for name, floor in task.floors().items()} == pytest.approx(
        {"loss": 0.5, "bits_per_character": 0.5 / math.log(2), "perplexity": math.exp(0.5)}
    )
    assert task.floors()["loss"] == Floor(0.5, "entropy rate of the chain")
    assert task.metrics["loss"].chance == pytest.approx(math.log(SIZE))
    assert task.metrics["perplexity"].chance == pytest.approx(SIZE)
    assert (task.objective, task.metrics["loss"].direction) == ("loss", "min")


def sampled(state, **options):
    defaults = {"prompt": "ab", "length": 30, "temperature": 1.0, "top_k": None, "seed": 0}
    return make().predict(state, Sampling(**(defaults | options)))


def with_table(state, table):
    return state.replace(params={"table": jnp.asarray(table, jnp.float32)})


def test_sample_follows_the_logits(state):
    assert sampled(state) == sampled(state)
    assert sampled(state) != sampled(state, seed=1)
    assert sampled(state).startswith("ab")
    assert len(sampled(state)) == 32
    assert sampled(state, prompt="abcdeabcde", length=3).startswith("abcdeabcde")
    assert sampled(state, prompt=None, length=3).startswith("a")
    # Each token is followed by the next one, however long the text.
    cycle = with_table(state, 50 * np.roll(np.eye(SIZE), 1, axis=1))
    assert sampled(cycle, prompt="d", length=9) == "deabcdeabc"
    # By 2 nats, "a" is the most likely token, and "b" the next.
    table = with_table(state, np.tile([4.0, 2.0, 0.0, 0.0, 0.0], (SIZE, 1)))
    assert sampled(table, temperature=0.0) == "ab" + 30 * "a"
    assert sampled(table, top_k=1) == "ab" + 30 * "a"
    assert set(sampled(table, top_k=2, length=200)) == {"a", "b"}
    assert set(sampled(table, temperature=100.0, length=200)) == set("abcde")
    share = sampled(table, top_k=2, length=2000)[2:].count("a") / 2000
    assert share == pytest.approx(1 / (1 + math.exp(-2)), abs=0.03)


def test_unusable_prompt_is_refused(state):
    with pytest.raises(UserError, match=r"^--prompt has 'x' at position 2, a character"):
        sampled(state, prompt="abx")
    with pytest.raises(UserError, match=r"^--prompt is empty"):
        sampled(state, prompt="")
