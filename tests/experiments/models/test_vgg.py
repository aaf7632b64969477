"""Checks the sizes and the dropout of the VGG networks, and compares their logits with Keras."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from experiments.models import vgg
from experiments.models.layers import Classifier
from tests.experiments.models.networks import (
    KEY,
    count,
    dtypes,
    injected,
    random_values,
    random_variables,
    shapes_of,
)

NETWORKS = {"vgg9": vgg.VGG9, "vgg16": vgg.VGG16, "vgg19": vgg.VGG19}


@pytest.mark.parametrize(
    ("name", "parameters", "convolution_filters"),
    [("vgg16", 138_357_544, 4224), ("vgg19", 143_667_240, 5504)],
)
def test_parameter_counts_match_keras_and_torchvision(name, parameters, convolution_filters):
    """A batch norm replaces each bias of a convolution by a bias and a scale."""
    plain, normed = (
        Classifier(NETWORKS[name](variant="imagenet", batch_norm=batch_norm), num_classes=1000)
        for batch_norm in (False, True)
    )
    assert count(shapes_of(plain, (224, 224, 3))["params"]) == parameters
    assert count(shapes_of(normed, (224, 224, 3))["params"]) == parameters + convolution_filters


@pytest.mark.parametrize(("name", "layers"), [("vgg9", 9), ("vgg16", 16), ("vgg19", 19)])
def test_name_counts_the_weight_layers_and_cifar_has_512_units(name, layers):
    params = shapes_of(Classifier(NETWORKS[name](), num_classes=10), (32, 32, 3))["params"]
    kernels = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    assert len(kernels) == layers
    assert params["backbone"]["fc2"]["kernel"].shape == (512, 512)
    assert params["head"]["kernel"].shape == (512, 10)


@pytest.mark.parametrize(("name", "side"), [("vgg9", 16), ("vgg16", 32), ("vgg19", 32)])
@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
def test_smallest_image_leaves_one_pixel(name, side, variant):
    model = NETWORKS[name](variant=variant)
    assert model.min_image_side == side
    assert shapes_of(model, (side, side, 3))["params"]["fc1"]["kernel"].shape[0] == 512


@pytest.mark.parametrize(
    ("name", "variant", "image_shape", "features"),
    [
        ("vgg9", "cifar", (28, 28, 1), 256),
        ("vgg9", "cifar", (32, 32, 3), 256),
        ("vgg16", "cifar", (32, 32, 3), 256),
        ("vgg19", "imagenet", (32, 32, 3), 2048),
    ],
)
def test_width_multiplier_scales_filters_and_features(name, variant, image_shape, features):
    model = NETWORKS[name](width_multiplier=0.5, variant=variant)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    output, variables = jax.eval_shape(lambda x: model.init_with_output(KEY, x, train=True), images)
    assert output.shape == (2, features)
    channels = image_shape[-1]
    assert variables["params"]["stage1_conv1"]["kernel"].shape == (3, 3, channels, 32)


def narrow(dtype=jnp.float32, batch_norm=False):
    return vgg.VGG(
        stages=((1, 64), (2, 128)),
        width_multiplier=1 / 16,
        batch_norm=batch_norm,
        **injected(dtype),
    )


IMAGES = random_values(4, 8, 8, 3)


@pytest.fixture(scope="module")
def narrow_variables():
    return random_variables(narrow(), IMAGES.shape[1:])


def test_dropout_acts_in_training_mode_only(narrow_variables):
    apply = jax.jit(
        lambda key, train: narrow().apply(
            narrow_variables, IMAGES, train=train, rngs={"dropout": key}
        ),
        static_argnums=1,
    )
    evaluated = apply(jax.random.key(1), False)
    np.testing.assert_array_equal(evaluated, apply(jax.random.key(2), False))
    first, second = apply(jax.random.key(1), True), apply(jax.random.key(2), True)
    assert not np.array_equal(first, second)
    # About half of the active features are dropped in training, and none in evaluation.
    assert (first == 0).mean() > (evaluated == 0).mean() + 0.1


def test_both_hidden_layers_have_dropout(narrow_variables):
    """Checks each layer, because the noise of the first reaches the features on its own."""
    _, state = jax.jit(
        lambda variables, x: narrow().apply(
            variables,
            x,
            train=True,
            rngs={"dropout": KEY},
            capture_intermediates=True,
            mutable=["intermediates"],
        )
    )(narrow_variables, IMAGES)
    captured = state["intermediates"]
    for index in (0, 1):
        (before,) = captured[f"fc{index + 1}"]["__call__"]
        (after,) = captured[f"Dropout_{index}"]["__call__"]
        active = np.asarray(before) > 0
        dropped = np.asarray(after)[active] == 0
        assert 0.25 < dropped.mean() < 0.75
        np.testing.assert_allclose(
            np.asarray(after)[active][~dropped], 2 * np.asarray(before)[active][~dropped], rtol=1e-6
        )


def test_batch_norm_normalizes_before_the_relu():
    model = narrow(batch_norm=True)
    images = 3 + 2 * IMAGES
    variables = random_variables(model, images.shape[1:])
    variables["params"]["stage1_norm1"].update(scale=np.ones(4), bias=np.zeros(4))
    _, state = jax.jit(
        lambda v, x: model.apply(
            v,
            x,
            train=True,
            rngs={"dropout": KEY},
            capture_intermediates=True,
            mutable=["intermediates", "batch_stats"],
        )
    )(variables, images)
    (normed,) = state["intermediates"]["stage1_norm1"]["__call__"]
    np.testing.assert_allclose(normed.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(normed.std(axis=(0, 1, 2)), 1, atol=1e-3)
    assert "bias" not in variables["params"]["stage1_conv1"]
    moved = state["batch_stats"]["stage1_norm1"]["mean"]
    assert jnp.abs(moved).max() > 1e-3
    _, unmoved = jax.jit(lambda v, x: model.apply(v, x, train=False, mutable=["batch_stats"]))(
        variables, images
    )
    assert jax.tree.all(
        jax.tree.map(np.array_equal, unmoved["batch_stats"], variables["batch_stats"])
    )


@pytest.mark.parametrize("batch_norm", [False, True])
def test_bfloat16_keeps_parameters_in_float32(batch_norm):
    model, exact_model = narrow(jnp.bfloat16, batch_norm), narrow(batch_norm=batch_norm)
    variables = random_variables(model, IMAGES.shape[1:])
    assert dtypes(shapes_of(model, IMAGES.shape[1:])) == {"float32"}
    evaluate = jax.jit(lambda m: m.apply(variables, IMAGES, train=False), static_argnums=0)
    features, exact = evaluate(model), evaluate(exact_model)
    assert features.dtype == jnp.bfloat16
    assert exact.dtype == jnp.float32
    np.testing.assert_allclose(
        features.astype(jnp.float32), exact, rtol=0.05, atol=0.05 * jnp.abs(exact).max()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VGG16", "VGG19"])
def test_logits_equal_keras(name):
    # Flattening images of 64x64 pixels leaves 2x2 positions, and 20 million weights where the
    # published size of 224x224 needs 138 million.
    theirs = getattr(keras.applications, name)(
        weights=None, classifier_activation=None, input_shape=(64, 64, 3)
    )
    rng = np.random.default_rng(0)
    params = {"backbone": {}, "head": {}}
    for layer in theirs.layers:
        if not layer.weights:
            continue
        # Keras' initial kernels shrink the signal at every layer, and its biases are zero.
        fan_in = np.prod(layer.kernel.shape[:-1])
        kernel = rng.standard_normal(layer.kernel.shape, np.float32) * np.sqrt(2 / fan_in)
        layer.kernel.assign(kernel)
        layer.bias.assign(rng.normal(0, 0.1, layer.bias.shape))
        weights = {"kernel": layer.kernel.value, "bias": layer.bias.value}
        if layer.name == "predictions":
            params["head"] = weights
        else:
            params["backbone"][layer.name.replace("block", "stage")] = weights

    network = NETWORKS[name.lower()](variant="imagenet", **injected())
    model = Classifier(network, num_classes=1000)
    images = rng.normal(size=(2, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    ours = jax.jit(lambda params, x: model.apply({"params": params}, x, train=False))(
        params, images
    )
    # Keras adds biases by rank promotion.
    with jax.numpy_rank_promotion("allow"):
        expected = np.asarray(theirs(images, training=False))
    largest = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.1 * largest, "logits do not depend on images"
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4 * largest)
