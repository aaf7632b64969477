"""Classification: one step of each kind equals arithmetic by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from experiments.data.datasets import Dataset
from experiments.tasks import classification

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


def make_task(model, **changes):
    """Makes a task on images of 2x2 pixels, which it halves and does not augment."""
    arguments = {
        "data": "squares",
        "model_name": "tiny",
        "num_train": 6,
        "num_classes": 3,
        "load": lambda: (Dataset(*4 * [np.zeros(1)]), halve),
        "model": model,
        "image_shape": (2, 2, 1),
        "loss": LOSS,
        "eval_loss": LOSS,
        "augment": no_augmentation,
    }
    return classification.make_task(**{**arguments, **changes})


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
    """Weight decay is added to the gradient, and the learning rate changes at each step."""
    rates, momentum, decay = [0.5, 0.25], 0.9, 0.1
    optimizer = optax.chain(
        optax.add_decayed_weights(decay),
        optax.sgd(lambda count: jnp.asarray(rates)[count], momentum=momentum),
    )
    task = make_task(Linear())
    state = task.init(jax.random.key(0), optimizer)
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
        state, metrics = task.train_step(state, batch, optimizer)
        computed = metrics.compute()
        np.testing.assert_allclose(state.params["w"]["kernel"], weights, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(computed["loss"], expected_loss, rtol=1e-6)
        np.testing.assert_allclose(computed["accuracy"], expected_accuracy, rtol=1e-6)
    assert int(state.step) == 2


def test_masked_examples_do_not_count(batch):
    task = make_task(Linear())
    state = task.init(jax.random.key(0), optax.sgd(0.1))
    mask = jnp.array([True, False, True, True, False, False])
    metrics = task.eval_step(state, {**batch, "mask": mask}).compute()
    kept = {name: values[mask] for name, values in batch.items()}
    alone = task.eval_step(state, {**kept, "mask": jnp.ones(3, bool)}).compute()
    np.testing.assert_allclose(metrics["loss"], alone["loss"], rtol=1e-6)
    assert metrics["accuracy"] == alone["accuracy"]


def test_training_and_evaluation_use_their_own_losses(batch):
    def tripled(logits, labels):
        return 3 * LOSS(logits, labels)

    task = make_task(Linear(), eval_loss=tripled)
    state = task.init(jax.random.key(0), optax.sgd(0.1))
    _, train = task.train_step(state, batch, optax.sgd(0.1))
    test = task.eval_step(state, {**batch, "mask": jnp.ones(6, bool)})
    np.testing.assert_allclose(test.compute()["loss"], 3 * train.compute()["loss"], rtol=1e-6)


def test_augmentation_draws_new_numbers_at_every_step_from_the_runs_key(batch):
    seen = []

    def spy(key, images):
        seen.append(tuple(np.asarray(jax.random.key_data(key))))
        return images

    optimizer = optax.sgd(0.1)
    task = make_task(Linear(), augment=spy)
    for seed in (0, 0, 1):
        state = task.init(jax.random.key(seed), optimizer)
        for _ in range(2):
            state, _ = task.train_step(state, batch, optimizer)
    assert seen[:2] == seen[2:4]
    assert len(set(seen)) == 4


def test_augmentation_comes_before_normalization(batch):
    """Augmented images are squared before they are halved."""
    optimizer = optax.sgd(0.1)
    losses = []
    for augment, images in (
        (lambda key, images: images**2, batch["image"]),
        (no_augmentation, batch["image"] ** 2),
    ):
        task = make_task(Linear(), augment=augment)
        state = task.init(jax.random.key(0), optimizer)
        _, metrics = task.train_step(state, {**batch, "image": images}, optimizer)
        losses.append(float(metrics.compute()["loss"]))
    assert losses[0] == losses[1]


class Noisy(nn.Module):
    """Logits that depend on the random numbers of dropout."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Dropout(0.5, deterministic=not train)(images.reshape(images.shape[0], -1))
        return nn.Dense(3, use_bias=False, name="w")(x)


def test_dropout_draws_new_numbers_at_every_step_and_none_in_evaluation(batch):
    optimizer = optax.sgd(0.0)
    task = make_task(Noisy())
    same_weights = task.init(jax.random.key(9), optimizer).params
    losses = []
    for seed in (0, 0, 1):
        state = task.init(jax.random.key(seed), optimizer).replace(params=same_weights)
        for _ in range(2):
            state, metrics = task.train_step(state, batch, optimizer)
            losses.append(float(metrics.compute()["loss"]))
    assert losses[:2] == losses[2:4]
    assert len(set(losses)) == 4
    masked = {**batch, "mask": jnp.ones(6, bool)}
    weights = np.asarray(state.params["w"]["kernel"], np.float64)
    probabilities = softmax(np.asarray(batch["image"], np.float64).reshape(6, -1) / 2 @ weights)
    expected = -np.log(probabilities[np.arange(6), np.asarray(batch["label"])]).mean()
    np.testing.assert_allclose(task.eval_step(state, masked).compute()["loss"], expected, rtol=1e-6)


class TwoHeads(nn.Module):
    """A linear classifier with an auxiliary classifier during training."""

    @nn.compact
    def __call__(self, images, *, train):
        x = images.reshape(images.shape[0], -1)
        if train or self.is_initializing():
            self.sow("auxiliary_logits", "4a", nn.Dense(3, use_bias=False, name="a")(x))
        return nn.Dense(3, use_bias=False, name="w")(x)


def test_auxiliary_loss_has_weight_three_tenths_and_is_not_reported(batch):
    optimizer = optax.sgd(1.0)
    task = make_task(TwoHeads())
    state = task.init(jax.random.key(0), optimizer)
    before = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)
    state, metrics = task.train_step(state, batch, optimizer)
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


def test_micro_batches_make_the_same_update(batch):
    optimizer = optax.sgd(1.0)
    results = []
    for accumulate_steps in (1, 3):
        task = make_task(Linear(), accumulate_steps=accumulate_steps)
        state, metrics = task.train_step(task.init(jax.random.key(0), optimizer), batch, optimizer)
        results.append((state.params["w"]["kernel"], *metrics.compute().values()))
    for whole, pieces in zip(*results, strict=True):
        np.testing.assert_allclose(pieces, whole, rtol=1e-5, atol=1e-7)


def test_task_describes_its_metrics():
    task = make_task(Linear())
    assert set(task.no_metrics().compute()) == set(task.metrics) == {"loss", "accuracy"}
    # A guess among three classes is right once in three times, and its loss is ln 3.
    assert task.metrics["loss"] == ("min", False, pytest.approx(1.0986123))
    assert task.metrics["accuracy"] == ("max", True, 1 / 3)
    assert task.objective == "accuracy"
    assert (task.data, task.model, task.num_train) == ("squares", "tiny", 6)


def test_task_loads_images_and_labels():
    images, labels = np.zeros((3, 2, 2, 1)), np.arange(3)
    dataset = Dataset(images, labels, images[:1], labels[:1])
    data = make_task(Linear(), load=lambda: (dataset, halve)).load()
    assert data.train == {"image": images, "label": labels}
    assert data.test["image"].shape == (1, 2, 2, 1)
    assert data.test["label"].tolist() == [0]
