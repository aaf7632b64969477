"""GANs: one step equals arithmetic by hand, and evaluation draws fixed noise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from experiments.models.features import NUM_FEATURES
from experiments.tasks import gan
from experiments.tasks.adversarial import LOSSES

SHAPE = (2, 2, 1)
SEEN = []  # noise that the generator was called with
SGD = optax.sgd(0.1)


class Linear(nn.Module):
    """Images linear in the noise."""

    @nn.compact
    def __call__(self, noise, *, train):
        SEEN.append(noise)
        return nn.Dense(4, use_bias=False, name="w")(noise).reshape(-1, *SHAPE)


class Logit(nn.Module):
    """A logit linear in the pixels."""

    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(1, use_bias=False, name="w")(images.reshape(len(images), -1))[:, 0]


def features(images):
    return jnp.tile(images.reshape(len(images), -1), (1, NUM_FEATURES // 4))


def make_task(**changes):
    images = np.random.default_rng(0).integers(0, 256, (12, *SHAPE)).astype(np.uint8)
    arguments = {
        "data": "squares",
        "model_name": "linear",
        "num_train": 12,
        "load": lambda: (images, images[:5]),
        "features": lambda: features,
        "generator": Linear(),
        "discriminator": Logit(),
        "image_shape": SHAPE,
        "latent_size": 3,
        "loss": LOSSES["non_saturating"],
    }
    return gan.make_task(**{**arguments, **changes})


@pytest.fixture
def batch():
    return {"image": make_task().load().train["image"][:6]}


def init(task, optimizer=SGD):
    return jax.jit(lambda key: task.init(key, optimizer))(jax.random.key(0))


def weights_of(state):
    return [np.asarray(state.params[n]["w"]["kernel"], np.float64) for n in gan.NETWORKS]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_step_equals_the_formulas(batch):
    """The discriminator moves first, and each network has its own factor of the rate."""
    task = make_task(rates=gan.Rates(generator=0.5, discriminator=2.0))
    state = init(task)
    of_generator, of_discriminator = weights_of(state)

    @jax.jit
    def step(state):
        SEEN.clear()
        return task.train_step(state, batch, SGD), list(SEEN)

    (state, metrics), seen = step(state)
    first, second = (np.asarray(noise, np.float64) for noise in seen)
    assert not np.allclose(first, second)
    real = np.asarray(batch["image"], np.float64).reshape(6, 4) / 127.5 - 1
    fake = first @ of_generator
    of_real, of_fake = real @ of_discriminator, fake @ of_discriminator
    loss = np.logaddexp(0, -of_real).mean() + np.logaddexp(0, of_fake).mean()
    gradient = (real.T @ -sigmoid(-of_real) + fake.T @ sigmoid(of_fake)) / 6
    of_discriminator = of_discriminator - 2.0 * 0.1 * gradient
    of_fake = second @ of_generator @ of_discriminator
    gradient = second.T @ (-sigmoid(-of_fake) @ of_discriminator.T) / 6
    of_generator_loss = np.logaddexp(0, -of_fake).mean()
    of_generator = of_generator - 0.5 * 0.1 * gradient
    for found, expected in zip(weights_of(state), (of_generator, of_discriminator), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    computed = metrics.compute()
    assert computed["discriminator_loss"] == pytest.approx(loss, rel=1e-5)
    assert computed["generator_loss"] == pytest.approx(of_generator_loss, rel=1e-5)
    assert computed["loss"] == pytest.approx(loss + of_generator_loss, rel=1e-5)
    assert int(state.step) == 1


def test_penalty_adds_its_gradient_to_the_discriminators(batch):
    """The logit is linear, so that its gradient is the weights, whatever the image."""
    weights = []
    for factor in (0.0, 10.0):
        task = make_task(loss=LOSSES["wasserstein"], gradient_penalty=factor)
        state = init(task)
        before = weights_of(state)[1]
        after, _ = jax.jit(lambda state, task=task: task.train_step(state, batch, SGD))(state)
        weights.append(weights_of(after)[1])
    norm = np.sqrt(np.square(before).sum())
    expected = -0.1 * 10.0 * 2 * (norm - 1) * before / norm
    np.testing.assert_allclose(weights[1] - weights[0], expected, rtol=1e-4, atol=1e-6)


def test_all_updates_of_a_step_follow_the_schedule_at_the_step(batch):
    """Three updates of the discriminator per step; Adam's own count is that of its updates."""
    task = make_task(discriminator_steps=3)
    rates = (0.3, 0.01)

    def adam(schedule):
        return optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(schedule))

    scheduled = adam(lambda count: jnp.asarray(rates)[count])
    state = init(task, scheduled)
    constant = init(task, adam(1.0))
    step = jax.jit(lambda state: task.train_step(state, batch, scheduled)[0])
    step_at = jax.jit(lambda state, rate: task.train_step(state, batch, adam(rate))[0])
    for rate in rates:
        with jax.numpy_dtype_promotion("standard"):  # Adam raises a float to an integer power
            state, constant = step(state), step_at(constant, rate)
        for found, expected in zip(weights_of(state), weights_of(constant), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6)
    counts = {n: [int(each.count) for each in state.opt_state[n]] for n in gan.NETWORKS}
    assert counts == {"generator": [2, 2], "discriminator": [6, 2]}


def test_evaluation_depends_on_seed_and_example_alone(batch):
    """Masked examples do not count, and the same example gets the same noise in every batch."""
    task = make_task()
    test = task.load().test
    state = init(task)
    evaluate = jax.jit(task.eval_step)
    whole = evaluate(state, {**test, "mask": np.ones(5, bool)})
    mask = np.array([True, False, True, True, False])
    masked = jax.device_get(evaluate(state, {**test, "mask": mask}))
    rest = evaluate(state, {**test, "mask": ~mask})
    chosen = {name: array[mask] for name, array in test.items()}
    alone = jax.device_get(evaluate(state, {**chosen, "mask": np.ones(3, bool)}))
    for name, value in masked.compute().items():
        assert value == pytest.approx(alone.compute()[name], rel=1e-5, abs=1e-5)
    merged = jax.device_get(masked.merge(rest)).compute()
    for name, value in jax.device_get(whole).compute().items():
        assert value == pytest.approx(merged[name], rel=1e-4, abs=1e-5)
    assert set(merged) == set(task.metrics) == set(task.no_evaluation().compute())
    other = state.replace(key=jax.random.key(1))

    @jax.jit
    def noise_of(state):
        SEEN.clear()
        task.eval_step(state, {**test, "mask": mask})
        return SEEN[0]

    noise = [noise_of(each) for each in (state, state, other)]
    np.testing.assert_array_equal(noise[0], noise[1])
    assert not np.allclose(noise[0], noise[2])


def test_pictures_are_the_samples_of_evaluation():
    task = make_task()
    state = init(task)

    def pictures(state):
        SEEN.clear()
        return task.pictures(state)["samples"], SEEN[0]

    grid, noise = map(np.asarray, jax.jit(pictures)(state))
    assert (grid.shape, grid.dtype) == ((16, 16, 1), np.uint8)
    images = np.asarray(gan.levels(noise @ np.asarray(state.params["generator"]["w"]["kernel"])))
    np.testing.assert_array_equal(grid[:2, :2, 0].ravel(), images[0])
    np.testing.assert_array_equal(grid[2:4, 4:6, 0].ravel(), images[10])

    def evaluated(state):
        SEEN.clear()
        task.eval_step(state, {**task.load().test, "mask": np.ones(5, bool)})
        return SEEN[0]

    np.testing.assert_array_equal(jax.jit(evaluated)(state), noise[:5])


def test_floors_compare_training_images_with_test_images():
    """Here the test images are training images, but there are more of the latter."""
    floors = make_task().floors()
    assert set(floors) == {"frechet_distance", "kid"}
    assert floors["frechet_distance"].value > 0
    train = np.random.default_rng(0).integers(0, 256, (5, *SHAPE)).astype(np.uint8)
    same = make_task(load=lambda: (train, train)).floors()
    assert same["frechet_distance"].value == pytest.approx(0, abs=1e-3)


def test_levels_invert_the_scaling():
    levels = jnp.arange(256, dtype=jnp.uint8)
    np.testing.assert_array_equal(gan.levels(gan.scaled_images(levels)), levels)
    assert gan.levels(jnp.array([-1.5, 1.5])).tolist() == [0, 255]
