"""The transformer: its function, its parameters, and what it may see."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models.transformer import Transformer

VOCABULARY, LENGTH, LAYERS, HEADS, WIDTH = 11, 6, 2, 2, 8


def make(**fields):
    return Transformer(
        vocabulary_size=VOCABULARY,
        context_length=LENGTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        width=WIDTH,
        **fields,
    )


@functools.cache
def init(model):
    """Returns initial parameters; do not change them, because tests share them."""
    return jax.jit(lambda key: model.init(key, jnp.zeros((1, LENGTH), jnp.int32), train=False))(
        jax.random.key(0)
    )["params"]


@pytest.fixture(scope="module")
def tokens():
    return np.random.default_rng(0).integers(0, VOCABULARY, (3, LENGTH)).astype(np.int32)


def norm(x, params):
    centered = x - x.mean(axis=-1, keepdims=True)
    return centered / np.sqrt((centered**2).mean(axis=-1, keepdims=True) + 1e-5) * params["scale"]


def by_hand(params, tokens):
    """The network in float64, one sequence, head, and position at a time."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    embedding, logits, size = params["tokens"]["embedding"], [], WIDTH // HEADS
    for sequence in tokens:
        x = embedding[sequence] + params["positions"][0, : len(sequence)]
        for index in range(LAYERS):
            block = params[f"block{index + 1}"]
            wide = norm(x, block["attention_norm"]) @ block["query_key_value"]["kernel"]
            attended = np.zeros_like(x)
            for head in range(HEADS):
                query, key, value = (
                    wide[:, part * WIDTH + head * size :][:, :size] for part in range(3)
                )
                for place in range(len(sequence)):
                    scores = np.exp(key[: place + 1] @ query[place] / math.sqrt(size))
                    attended[place, head * size :][:size] = (
                        scores / scores.sum() @ value[: place + 1]
                    )
            x = x + attended @ block["attention_out"]["kernel"]
            hidden = norm(x, block["mlp_norm"]) @ block["mlp_in"]["kernel"]
            cubed = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
            x = x + (0.5 * hidden * (1 + np.tanh(cubed))) @ block["mlp_out"]["kernel"]
        logits.append(norm(x, params["norm"]) @ embedding.T)
    return np.array(logits)


def test_logits_are_those_of_the_formulas(tokens):
    model = make()
    params = jax.tree.map(lambda leaf: 10 * leaf if leaf.ndim > 1 else leaf, init(model))
    apply = jax.jit(lambda params, tokens: model.apply({"params": params}, tokens, train=True))
    logits = apply(params, tokens)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, by_hand(params, tokens), rtol=1e-4, atol=1e-4)
    # A token changes no logits before it.
    changed = np.where(np.arange(LENGTH) < 4, tokens, (tokens + 1) % VOCABULARY)
    np.testing.assert_array_equal(apply(params, changed)[:, :4], logits[:, :4])
    assert not np.allclose(apply(params, changed)[:, 4:], logits[:, 4:])


@pytest.mark.parametrize("tied", [True, False])
def test_number_and_size_of_initial_parameters(tied):
    params = init(make(tied_embeddings=tied))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    head = 0 if tied else VOCABULARY * WIDTH
    blocks = LAYERS * (12 * WIDTH**2 + 2 * WIDTH)
    assert count == (VOCABULARY + LENGTH) * WIDTH + blocks + WIDTH + head
    assert ("head" in params) != tied
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    expected = {"query_key_value": 0.02, "mlp_in": 0.02, "attention_out": 0.01, "mlp_out": 0.01}
    for name, deviation in expected.items():
        size = params["block1"][name]["kernel"].size
        found = np.std(params["block1"][name]["kernel"])
        assert found == pytest.approx(deviation, rel=4 / math.sqrt(2 * size))


def test_bfloat16_has_float32_parameters_and_logits(tokens):
    model = make(dtype=jnp.bfloat16)
    shapes = jax.eval_shape(lambda key: model.init(key, tokens, train=False), jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    params = init(make())
    logits = jax.jit(lambda p: model.apply({"params": p}, tokens, train=False))(params)
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, by_hand(params, tokens), atol=0.02)


def test_dropout_acts_in_training_only(tokens):
    model = make(dropout_rate=0.5)
    params = init(make())

    @jax.jit
    def apply(key):
        train = model.apply({"params": params}, tokens, train=True, rngs={"dropout": key})
        return train, model.apply({"params": params}, tokens, train=False)

    (one, evaluated), (other, again) = (apply(jax.random.key(seed)) for seed in (1, 2))
    assert not np.allclose(one, other)
    np.testing.assert_array_equal(evaluated, again)
    np.testing.assert_allclose(evaluated, by_hand(params, tokens), atol=1e-5)
