"""Checks the size and the dropout of Xception, and compares its logits with Keras."""

from functools import partial

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from experiments.models.layers import BatchNorm, Classifier, Conv
from experiments.models.xception import SeparableConv, Xception
from tests.experiments.models.networks import KEY, count, dtypes, injected, shapes_of

IMAGES = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))


@pytest.mark.parametrize(("variant", "side"), [("imagenet", 299), ("cifar", 32)])
def test_parameter_counts_match_keras(variant, side):
    """Keras has the ImageNet stem; the CIFAR stem has the same parameters."""
    shapes = shapes_of(Classifier(Xception(variant=variant), 1000), (side, side, 3))
    assert count(shapes["params"]) == 22_855_952
    assert count(shapes) == 22_910_480


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (32, 32, 3)])
def test_width_multiplier_scales_the_features(image_shape):
    model = Xception(width_multiplier=1 / 16)
    outputs = jax.eval_shape(
        lambda images: model.init_with_output(KEY, images, train=False)[0],
        jnp.zeros((2, *image_shape)),
    )
    assert outputs.shape == (2, 128)


def pixels(model, side):
    """Returns the height and width of the last convolution's output."""

    def last_convolution(images):
        _, state = model.init_with_output(KEY, images, train=False, capture_intermediates=True)
        return state["intermediates"]["exit2"]["__call__"][0]

    return jax.eval_shape(last_convolution, jnp.zeros((1, side, side, 3))).shape[1:3]


@pytest.mark.parametrize(("variant", "side", "last"), [("cifar", 32, 2), ("imagenet", 299, 10)])
def test_last_convolution_has_the_resolution_of_the_variant(variant, side, last):
    model = Xception(width_multiplier=1 / 64, variant=variant)
    assert pixels(model, side) == (last, last)


@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
def test_smallest_image_leaves_one_pixel_and_a_smaller_one_none(variant):
    model = Xception(width_multiplier=1 / 64, variant=variant)
    assert pixels(model, model.min_image_side) == (1, 1)
    assert pixels(model, model.min_image_side - 1) == (0, 0)


def test_depthwise_kernel_is_initialized_for_a_fan_in_of_nine():
    module = SeparableConv(8, Conv, partial(BatchNorm, use_running_average=True))
    variables = module.init(KEY, jnp.zeros((1, 4, 4, 512)))
    kernel = variables["params"]["depthwise"]["kernel"]
    assert kernel.shape == (3, 3, 1, 512)
    np.testing.assert_allclose(kernel.std(), (2 / 9) ** 0.5, rtol=0.05)


def narrow(dtype=jnp.float32):
    return Xception(width_multiplier=1 / 64, **injected(dtype))


@pytest.fixture(scope="module")
def narrow_variables():
    """Returns initial variables without compiling the initialization."""

    def value(path, shape):
        if path[-1].key == "kernel":
            return random.normal(0, np.prod(shape.shape[:-1]) ** -0.5, shape.shape)
        return np.full(shape.shape, path[-1].key in ("scale", "var"))

    random = np.random.default_rng(0)
    shapes = shapes_of(narrow(), IMAGES.shape[1:])
    return jax.tree_util.tree_map_with_path(
        lambda path, shape: jnp.asarray(value(path, shape), jnp.float32), shapes
    )


@partial(jax.jit, static_argnames=("model", "train"))
def features_of(model, variables, key=KEY, train=False):
    features, _ = model.apply(
        variables, IMAGES, train=train, rngs={"dropout": key}, mutable=["batch_stats"]
    )
    return features


def test_dropout_acts_on_the_features_in_training_only(narrow_variables):
    def under_two_keys(train):
        keys = jax.random.split(KEY)
        return [np.asarray(features_of(narrow(), narrow_variables, k, train=train)) for k in keys]

    np.testing.assert_array_equal(*under_two_keys(train=False))
    one, other = under_two_keys(train=True)
    in_one = one != 0
    in_both = in_one & (other != 0)
    assert 0.35 < in_both.sum() / in_one.sum() < 0.65
    np.testing.assert_array_equal(one[in_both], other[in_both])


def test_bfloat16_keeps_parameters_in_float32(narrow_variables):
    model = narrow(jnp.bfloat16)
    assert dtypes(shapes_of(model, IMAGES.shape[1:])) == {"float32"}
    features, exact = (features_of(m, narrow_variables) for m in (model, narrow()))
    assert features.dtype == jnp.bfloat16
    np.testing.assert_allclose(features.astype(jnp.float32), exact, atol=0.05 * exact.max())


def keras_variables(reference):
    """Returns the variables of our Xception with the weights of Keras' model."""
    convs = {"stem1": "block1_conv1", "stem2": "block1_conv2"}
    norms = {"stem1_norm": "block1_conv1_bn", "stem2_norm": "block1_conv2_bn"}
    separables = {"exit1": "block14_sepconv1", "exit2": "block14_sepconv2"}
    for block in range(2, 14):
        for index in (1, 2, 3) if 5 <= block <= 12 else (1, 2):
            separables[f"block{block}/separable{index}"] = f"block{block}_sepconv{index}"
    # Keras does not name the shortcuts but numbers them.
    unnamed = {
        kind: [layer.name for layer in reference.layers if layer.name.startswith(kind)]
        for kind in ("conv2d", "batch_normalization")
    }
    for index, block in enumerate((2, 3, 4, 13)):
        convs[f"block{block}/shortcut"] = unnamed["conv2d"][index]
        norms[f"block{block}/shortcut_norm"] = unnamed["batch_normalization"][index]
    params, statistics = {}, {}
    for ours, theirs in convs.items():
        params[f"{ours}/kernel"] = jnp.asarray(reference.get_layer(theirs).kernel)
    for ours, theirs in separables.items():
        separable = reference.get_layer(theirs)
        depthwise = jnp.asarray(separable.depthwise_kernel)
        params[f"{ours}/depthwise/kernel"] = depthwise.swapaxes(2, 3)
        params[f"{ours}/pointwise/kernel"] = jnp.asarray(separable.pointwise_kernel)
        norms[f"{ours}/norm"] = f"{theirs}_bn"
    for ours, theirs in norms.items():
        norm = reference.get_layer(theirs)
        params[f"{ours}/scale"] = jnp.asarray(norm.gamma)
        params[f"{ours}/bias"] = jnp.asarray(norm.beta)
        statistics[f"{ours}/mean"] = jnp.asarray(norm.moving_mean)
        statistics[f"{ours}/var"] = jnp.asarray(norm.moving_variance)
    head = reference.get_layer("predictions")
    return {
        "params": {
            "backbone": unflatten_dict(params, sep="/"),
            "head": {"kernel": jnp.asarray(head.kernel), "bias": jnp.asarray(head.bias)},
        },
        "batch_stats": {"backbone": unflatten_dict(statistics, sep="/")},
    }


@pytest.mark.slow
def test_logits_equal_keras():
    keras.utils.set_random_seed(0)
    reference = keras.applications.Xception(weights=None, classifier_activation=None)
    random = np.random.default_rng(0)
    for layer in reference.layers:
        if isinstance(layer, keras.layers.SeparableConv2D):
            # With Keras' default, the signal fades and all images have nearly the same logits.
            pointwise = layer.pointwise_kernel.shape
            layer.depthwise_kernel.assign(
                random.normal(0, (2 / 9) ** 0.5, layer.depthwise_kernel.shape)
            )
            layer.pointwise_kernel.assign(random.normal(0, pointwise[2] ** -0.5, pointwise))
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (layer.epsilon, layer.momentum) == (1e-3, 0.99)
            shape = layer.gamma.shape
            layer.gamma.assign(random.uniform(0.5, 1.5, shape))
            layer.beta.assign(random.normal(0, 0.2, shape))
            layer.moving_mean.assign(random.normal(0, 0.2, shape))
            layer.moving_variance.assign(random.uniform(0.5, 1.5, shape))
    # Use squares of one color: averaged over pixels, plain noise looks the same in every image.
    images = random.normal(size=(2, 13, 13, 3)).repeat(23, axis=1).repeat(23, axis=2)
    with jax.numpy_rank_promotion("allow"):
        expected = reference.predict(images, verbose=0)
    model = Classifier(Xception(variant="imagenet", **injected()), num_classes=1000)
    variables = keras_variables(reference)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, shapes_of(model, (299, 299, 3))
    )
    logits = jax.jit(partial(model.apply, train=False))(variables, images)
    scale = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * scale
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * scale)
