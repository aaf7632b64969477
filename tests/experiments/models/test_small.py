"""Checks the sizes of the small networks and compares their features with NumPy and PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.build.models import make_layers
from experiments.models import small
from experiments.models.layers import Classifier
from tests.experiments.models.networks import (
    KEY,
    count,
    dtypes,
    random_values,
    random_variables,
    shapes_of,
)

NETWORKS = {"nn2": small.NN2, "nn3": small.NN3, "lenet4": small.LeNet}


def make(name, width_multiplier, dtype=jnp.float32):
    """Returns a network with the layers of a run."""
    layers = make_layers(dtype)
    own = {"conv": layers.conv} if name == "lenet4" else {"dtype": dtype}
    return NETWORKS[name](width_multiplier=width_multiplier, **own)


def apply(model, variables, images):
    return jax.jit(partial(model.apply, train=True))(variables, images)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("nn2", (784 + 1) * 500 + 501 * 500 + 501 * 10),
        ("nn3", (784 + 1) * 500 + 2 * 501 * 500 + 501 * 10),
        ("lenet4", 431_080),  # Caffe's LeNet
    ],
)
def test_parameter_counts_on_mnist(name, parameters):
    model = Classifier(NETWORKS[name](), num_classes=10)
    assert count(shapes_of(model, (28, 28, 1))["params"]) == parameters


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("image_shape", [(28, 28, 1), (32, 32, 3)])
def test_width_multiplier_scales_the_features(name, image_shape):
    for width_multiplier, features in [(1.0, 500), (0.1, 50)]:
        model = NETWORKS[name](width_multiplier=width_multiplier)
        images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
        output, _ = jax.eval_shape(
            lambda x, m=model: m.init_with_output(KEY, x, train=True), images
        )
        assert output.shape == (2, features)


def test_fully_connected_network_accepts_a_single_pixel():
    model = small.NN3()
    assert shapes_of(model, (1, 1, 3))["params"]["fc1"]["kernel"].shape == (3, 500)


def test_lenet_reduces_the_smallest_image_to_one_pixel():
    model = small.LeNet()
    side = model.min_image_side
    assert shapes_of(model, (side, side, 1))["params"]["fc"]["kernel"].shape == (50, 500)


def test_fully_connected_network_equals_numpy():
    model = small.NN3(width_multiplier=0.02)
    images = random_values(4, 6, 5, 3)
    variables = random_variables(model, images.shape[1:])
    expected = images.reshape(4, -1)
    for layer in ("fc1", "fc2", "fc3"):
        weights = variables["params"][layer]
        expected = np.maximum(expected @ weights["kernel"] + weights["bias"], 0)
    features = apply(model, variables, images)
    assert (features > 0).any()
    assert (features == 0).any()
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_lenet_equals_pytorch():
    torch = pytest.importorskip("torch")
    model = make("lenet4", width_multiplier=0.2)
    images = random_values(4, 28, 28, 3)
    variables = random_variables(model, images.shape[1:])

    def tensor(array, *axes):
        return torch.from_numpy(np.array(array).transpose(axes or None))

    x = tensor(images, 0, 3, 1, 2)
    for layer in ("conv1", "conv2"):
        kernel, bias = variables["params"][layer]["kernel"], variables["params"][f"{layer}_bias"]
        x = torch.conv2d(x, tensor(kernel, 3, 2, 0, 1), tensor(bias, 0))
        x = torch.max_pool2d(torch.relu(x), 2)
    weights = variables["params"]["fc"]
    flat = x.permute(0, 2, 3, 1).reshape(4, -1)
    expected = torch.relu(flat @ tensor(weights["kernel"], 0, 1) + tensor(weights["bias"], 0))
    features = apply(model, variables, images)
    assert (features > 0).any()
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_keeps_parameters_in_float32(name):
    model, exact_model = (make(name, 0.1, dtype) for dtype in (jnp.bfloat16, jnp.float32))
    images = random_values(2, 16, 16, 1)
    variables = random_variables(model, images.shape[1:])
    assert dtypes(shapes_of(model, images.shape[1:])) == {"float32"}
    features = apply(model, variables, images)
    assert features.dtype == jnp.bfloat16
    exact = apply(exact_model, variables, images)
    assert exact.dtype == jnp.float32
    np.testing.assert_allclose(features.astype(jnp.float32), exact, rtol=0.05, atol=0.05)
