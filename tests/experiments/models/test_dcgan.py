"""The networks of DCGAN: sizes, ranges, and spectral normalization."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.build.models import make_layers
from experiments.models import dcgan
from tests.experiments.models.networks import KEY, count, shapes_of

LAYERS = make_layers(jnp.float32)


def test_pixel_shuffle_equals_pytorchs():
    """PyTorch's channels are the outer index of a block; here they are the inner one."""
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 8)).astype(np.float32)
    ordered = x.reshape(2, 3, 5, 4, 2).transpose(0, 4, 3, 1, 2).reshape(2, 8, 3, 5)
    expected = torch.pixel_shuffle(torch.from_numpy(ordered), 2).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(dcgan.pixel_shuffle(jnp.asarray(x)), expected)


@pytest.mark.parametrize("upsampling", dcgan.UPSAMPLING)
@pytest.mark.parametrize("image_shape", [(28, 28, 1), (32, 32, 3), (8, 12, 1)])
def test_generator_makes_images_of_any_size_and_channels(upsampling, image_shape):
    model = dcgan.Generator(image_shape, 0.05, upsampling, **LAYERS._asdict())
    images, _ = jax.eval_shape(
        lambda key, z: model.init_with_output(key, z, train=True), KEY, jnp.zeros((2, 8))
    )
    assert (images.shape, images.dtype) == ((2, *image_shape), jnp.float32)


def test_parameter_counts_on_mnist():
    generator = dcgan.Generator((28, 28, 1), **LAYERS._asdict())
    variables = jax.eval_shape(
        lambda key, z: generator.init(key, z, train=True), KEY, jnp.zeros((2, 64))
    )
    doubled = 9 * 128 * 4 * 64 + 2 * 64
    assert count(variables["params"]) == 64 * 49 * 128 + 2 * 128 + doubled + (9 * 64 + 1) * 4
    variables = shapes_of(dcgan.Discriminator(conv=LAYERS.conv), (28, 28, 1))
    convolutions = 16 * 64 + 64 + 16 * 64 * 128 + 2 * 128
    assert count(variables["params"]) == convolutions + 49 * 128 + 1


def test_spectral_norm_divides_kernels_by_their_largest_singular_value():
    """After many updates of its estimate, a network of scaled kernels gives the same logits."""
    model = dcgan.Discriminator(0.05, spectral_norm=True, conv=LAYERS.conv, norm=None)
    images = jax.random.normal(KEY, (3, 8, 8, 1))
    variables = jax.jit(functools.partial(model.init, train=True))(KEY, images)
    params = variables["params"]

    @jax.jit
    def update(params, stats):
        variables = {"params": params, "batch_stats": stats}
        return model.apply(variables, images, train=True, mutable=["batch_stats"])

    stats = variables["batch_stats"]
    for _ in range(60):
        logits, changed = update(params, stats)
        stats = changed["batch_stats"]
    plain = dcgan.Discriminator(0.05, conv=LAYERS.conv, norm=None)
    divided = {}
    for name, layer in params.items():
        kernel = np.asarray(layer["kernel"])
        largest = np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2)
        divided[name] = {**layer, "kernel": kernel / largest}
    expected = jax.jit(functools.partial(plain.apply, train=True))({"params": divided}, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-5)
