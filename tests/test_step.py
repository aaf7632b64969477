"""One step of each kind against arithmetic done by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from experiments import step

LOSS = optax.softmax_cross_entropy_with_integer_labels


class Linear(nn.Module):
    """Logits linear in the pixels, so that gradients can be written down."""

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(3, use_bias=False, name="w")(images.reshape(images.shape[0], -1))


def no_augmentation(key, images):
    return images


def halve(images):
    return images / 2


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": jnp.asarray(rng.normal(size=(6, 2, 2, 1)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 3, 6), jnp.int32),
    }


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_two_steps_of_sgd_equal_the_formulas(batch):
    """Weight decay added to the gradient, momentum, and a learning rate that changes by step."""
    rates, momentum, decay = [0.5, 0.25], 0.9, 0.1
    optimizer = optax.chain(
        optax.add_decayed_weights(decay),
        optax.sgd(lambda count: jnp.asarray(rates)[count], momentum=momentum),
    )
    state = step.init_state(
        jax.random.key(0), model=Linear(), optimizer=optimizer, image_shape=(2, 2, 1)
    )
    train = partial(
        step.train_step,
        model=Linear(),
        optimizer=optimizer,
        loss=LOSS,
        augment=no_augmentation,
        normalize=halve,
    )
    weights = np.asarray(state.params["w"]["kernel"], np.float64)
    velocity = np.zeros_like(weights)
    pixels = np.asarray(batch["image"], np.float64).reshape(6, -1) / 2
    labels = np.asarray(batch["label"])
    for rate in rates:
        probabilities = softmax(pixels @ weights)
        expected_loss = -np.log(probabilities[np.arange(6), labels]).mean()
        expected_accuracy = (probabilities.argmax(axis=1) == labels).mean()
        gradient = pixels.T @ (probabilities - np.eye(3)[labels]) / 6 + decay * weights
        velocity = momentum * velocity + gradient
        weights = weights - rate * velocity
        state, metrics = train(state, batch)
        computed = metrics.compute()
        np.testing.assert_allclose(state.params["w"]["kernel"], weights, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(computed["loss"], expected_loss, rtol=1e-6)
        np.testing.assert_allclose(computed["accuracy"], expected_accuracy, rtol=1e-6)
    assert int(state.step) == 2


def test_masked_examples_do_not_count(batch):
    state = step.init_state(
        jax.random.key(0), model=Linear(), optimizer=optax.sgd(0.1), image_shape=(2, 2, 1)
    )
    evaluate = partial(step.eval_step, model=Linear(), loss=LOSS, normalize=halve)
    mask = jnp.array([True, False, True, True, False, False])
    metrics = evaluate(state, {**batch, "mask": mask}).compute()
    kept = {name: values[mask] for name, values in batch.items()}
    alone = evaluate(state, {**kept, "mask": jnp.ones(3, bool)}).compute()
    np.testing.assert_allclose(metrics["loss"], alone["loss"], rtol=1e-6)
    assert metrics["accuracy"] == alone["accuracy"]


def test_augmentation_draws_new_numbers_every_step_from_the_runs_key(batch):
    seen = []

    def spy(key, images):
        seen.append(tuple(np.asarray(jax.random.key_data(key))))
        return images

    optimizer = optax.sgd(0.1)
    train = partial(
        step.train_step,
        model=Linear(),
        optimizer=optimizer,
        loss=LOSS,
        augment=spy,
        normalize=halve,
    )
    for seed in (0, 0, 1):
        state = step.init_state(
            jax.random.key(seed), model=Linear(), optimizer=optimizer, image_shape=(2, 2, 1)
        )
        for _ in range(2):
            state, _ = train(state, batch)
    assert seen[:2] == seen[2:4]
    assert len(set(seen)) == 4


class Noisy(nn.Module):
    """Features that only dropout changes, so that its random numbers can be seen."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dropout(0.5, deterministic=not train)(images.reshape(images.shape[0], -1))
        return nn.Dense(3, use_bias=False, name="w")(x)


def test_dropout_draws_new_numbers_every_step_from_the_runs_key_and_none_in_evaluation(batch):
    optimizer = optax.sgd(0.0)
    train = partial(
        step.train_step,
        model=Noisy(),
        optimizer=optimizer,
        loss=LOSS,
        augment=no_augmentation,
        normalize=halve,
    )
    losses = []
    for seed in (0, 0, 1):
        state = step.init_state(
            jax.random.key(seed), model=Noisy(), optimizer=optimizer, image_shape=(2, 2, 1)
        )
        same_weights = step.init_state(
            jax.random.key(9), model=Noisy(), optimizer=optimizer, image_shape=(2, 2, 1)
        ).params
        state = state.replace(params=same_weights)
        for _ in range(2):
            state, metrics = train(state, batch)
            losses.append(float(metrics.compute()["loss"]))
    assert losses[:2] == losses[2:4]
    assert len(set(losses)) == 4
    evaluate = partial(step.eval_step, model=Noisy(), loss=LOSS, normalize=halve)
    masked = {**batch, "mask": jnp.ones(6, bool)}
    weights = np.asarray(state.params["w"]["kernel"], np.float64)
    probabilities = softmax(np.asarray(batch["image"], np.float64).reshape(6, -1) / 2 @ weights)
    expected = -np.log(probabilities[np.arange(6), np.asarray(batch["label"])]).mean()
    np.testing.assert_allclose(evaluate(state, masked).compute()["loss"], expected, rtol=1e-6)


class TwoHeads(nn.Module):
    """A linear classifier with an auxiliary one beside it while it trains."""

    @nn.compact
    def __call__(self, images, *, train):
        x = images.reshape(images.shape[0], -1)
        if train or self.is_initializing():
            self.sow("auxiliary_logits", "4a", nn.Dense(3, use_bias=False, name="a")(x))
        return nn.Dense(3, use_bias=False, name="w")(x)


def test_auxiliary_heads_learn_from_three_tenths_of_their_loss_and_are_not_reported(batch):
    optimizer = optax.sgd(1.0)
    state = step.init_state(
        jax.random.key(0), model=TwoHeads(), optimizer=optimizer, image_shape=(2, 2, 1)
    )
    before = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    state, metrics = step.train_step(
        state,
        batch,
        model=TwoHeads(),
        optimizer=optimizer,
        loss=LOSS,
        augment=no_augmentation,
        normalize=halve,
    )
    pixels = np.asarray(batch["image"], np.float64).reshape(6, -1) / 2
    labels = np.asarray(batch["label"])
    for name, weight in (("w", 1.0), ("a", 0.3)):
        probabilities = softmax(pixels @ before[name]["kernel"])
        gradient = weight * pixels.T @ (probabilities - np.eye(3)[labels]) / 6
        expected = before[name]["kernel"] - gradient
        np.testing.assert_allclose(state.params[name]["kernel"], expected, rtol=1e-5, atol=1e-6)
    probabilities = softmax(pixels @ before["w"]["kernel"])
    loss = -np.log(probabilities[np.arange(6), labels]).mean()
    np.testing.assert_allclose(metrics.compute()["loss"], loss, rtol=1e-6)
