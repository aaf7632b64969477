"""Losses: equal to Keras', and finite where the plain formula overflows."""

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from experiments.tasks.losses import (
    LOSSES,
    sigmoid_categorical_cross_entropy,
    softmax_cross_entropy,
)

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 10, 64).astype(np.int32)


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sigmoid_loss_equals_keras(scale, smoothing):
    logits = jnp.asarray(scale * RNG.normal(size=(64, 10)), jnp.float32)
    theirs = keras.losses.categorical_crossentropy(
        jax.nn.one_hot(LABELS, 10), jax.nn.sigmoid(logits), label_smoothing=smoothing
    )
    ours = sigmoid_categorical_cross_entropy(logits, LABELS, label_smoothing=smoothing)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_loss_equals_keras(smoothing):
    logits = jnp.asarray(2 * RNG.normal(size=(64, 10)), jnp.float32)
    theirs = keras.losses.categorical_crossentropy(
        jax.nn.one_hot(LABELS, 10), logits, from_logits=True, label_smoothing=smoothing
    )
    ours = softmax_cross_entropy(logits, LABELS, label_smoothing=smoothing)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@functools.cache
def loss_and_gradient(name, smoothing):
    """Returns the compiled mean loss of three examples, with its gradient."""

    def mean_loss(logits):
        return LOSSES[name](logits, LABELS[:3], label_smoothing=smoothing).mean()

    return jax.jit(jax.value_and_grad(mean_loss))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("fill", [-1e4, 0.0, 1e4])
def test_loss_and_gradient_are_finite_for_huge_logits(name, smoothing, fill):
    for label_logit in (-1e4, 0.0, 1e4):
        logits = np.full((3, 10), fill, np.float32)
        logits[np.arange(3), LABELS[:3]] = label_logit
        loss, gradient = loss_and_gradient(name, smoothing)(logits)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


def test_sigmoid_loss_of_huge_logits_equals_float64_arithmetic():
    """At z = (-10000, 3) and s = sigmoid(z), -log(s_0 / (s_0 + s_1)) is 10000 + log s_1."""
    loss = sigmoid_categorical_cross_entropy(jnp.array([[-1e4, 3.0]]), jnp.array([0]))
    np.testing.assert_allclose(loss, 1e4 - np.log1p(np.exp(-3.0)), rtol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_label_smoothing_mixes_the_label_with_all_classes(name):
    logits = jnp.asarray(RNG.normal(size=(64, 10)), jnp.float32)
    every = jnp.stack([LOSSES[name](logits, jnp.full_like(LABELS, k)) for k in range(10)])
    smoothed = LOSSES[name](logits, LABELS, label_smoothing=0.3)
    expected = 0.7 * LOSSES[name](logits, LABELS) + 0.3 * every.mean(axis=0)
    np.testing.assert_allclose(smoothed, expected, rtol=1e-5)
