"""Checks the sizes and the dropout of DenseNet, and compares its logits with Keras."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from experiments.models.densenet import DenseNet, DenseNet100, DenseNet121
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

IMAGES = random_values(4, 8, 8, 3)


@pytest.mark.parametrize(
    ("network", "variant", "image_shape", "num_classes", "parameters"),
    [
        # From torchvision.models.densenet121.
        (DenseNet121, "imagenet", (224, 224, 3), 1000, 7_978_856),
        # From the authors' DenseNet-BC with 100 layers; table 2 rounds to 0.8M.
        (DenseNet100, "cifar", (32, 32, 3), 10, 769_162),
    ],
)
def test_parameter_counts_match_torchvision_and_the_paper(
    network, variant, image_shape, num_classes, parameters
):
    model = Classifier(network(variant=variant), num_classes)
    assert count(shapes_of(model, image_shape)["params"]) == parameters


@pytest.mark.parametrize(
    ("network", "multiplier", "image_shape", "features"),
    [
        # Channels in units of k, before and after the three blocks: 2 to 18, 9 to 25, and 12.5 to
        # 28.5 (28 if k is 1).
        (DenseNet100, 0.5, (28, 28, 1), 171),
        (DenseNet100, 0.01, (32, 32, 3), 28),
        # The four blocks: 2 to 8, 4 to 16, 8 to 32, and 16 to 32.
        (DenseNet121, 0.25, (32, 32, 3), 256),
    ],
)
def test_width_multiplier_scales_the_growth_rate(network, multiplier, image_shape, features):
    model = network(width_multiplier=multiplier)
    outputs = jax.eval_shape(
        lambda images: model.init_with_output(KEY, images, train=False)[0],
        jnp.zeros((2, *image_shape)),
    )
    assert outputs.shape == (2, features)


@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
@pytest.mark.parametrize("blocks", [3, 4])
def test_smallest_image_leaves_one_pixel_and_a_smaller_one_none(blocks, variant):
    model = DenseNet(block_sizes=(1,) * blocks, growth_rate=1, variant=variant)

    def pixels(side):
        def last_norm(images):
            _, state = model.init_with_output(KEY, images, train=False, capture_intermediates=True)
            return state["intermediates"]["norm"]["__call__"][0]

        return jax.eval_shape(last_norm, jnp.zeros((1, side, side, 3))).shape[1:3]

    assert pixels(model.min_image_side) == (1, 1)
    assert pixels(model.min_image_side - 1) == (0, 0)


def tiny(dropout_rate=0.0, dtype=jnp.float32):
    return DenseNet(block_sizes=(1, 1), growth_rate=4, dropout_rate=dropout_rate, **injected(dtype))


@pytest.fixture(scope="module")
def tiny_variables():
    return random_variables(tiny(), IMAGES.shape[1:])


@partial(jax.jit, static_argnums=0)
def evaluate(model, variables):
    return model.apply(variables, IMAGES, train=False)


@partial(jax.jit, static_argnums=0)
def zeros_from_dropout(model, variables):
    """Returns the fraction of zeros in the output of each dropout layer."""
    _, state = model.apply(
        variables,
        IMAGES,
        train=True,
        rngs={"dropout": KEY},
        capture_intermediates=lambda module, _: isinstance(module, nn.Dropout),
        mutable=["batch_stats", "intermediates"],
    )
    return [(leaf == 0).mean() for leaf in jax.tree.leaves(state["intermediates"])]


def test_layer_keeps_its_input_and_adds_growth_rate_channels(tiny_variables):
    apply = partial(
        tiny().apply, train=False, capture_intermediates=True, mutable=["intermediates"]
    )
    _, state = jax.jit(apply)(tiny_variables, IMAGES)
    stem, layer, transition = (
        state["intermediates"][name]["__call__"][0]
        for name in ("stem", "block1_layer1", "transition1")
    )
    assert layer.shape == (4, 8, 8, 8 + 4)
    np.testing.assert_array_equal(layer[..., :8], stem)
    assert transition.shape == (4, 4, 4, 6)


def test_dropout_acts_after_all_convolutions_but_the_first_in_training_only(tiny_variables):
    dropping = tiny(dropout_rate=0.5)
    np.testing.assert_array_equal(
        evaluate(dropping, tiny_variables), evaluate(tiny(), tiny_variables)
    )
    fractions = zeros_from_dropout(dropping, tiny_variables)
    assert len(fractions) == 5  # two in each of two layers, one in the transition
    np.testing.assert_allclose(fractions, 0.5, atol=0.1)
    assert max(zeros_from_dropout(tiny(), tiny_variables)) < 0.05


def test_bfloat16_keeps_parameters_in_float32(tiny_variables):
    model = tiny(dtype=jnp.bfloat16)
    assert dtypes(shapes_of(model, (8, 8, 3))) == {"float32"}
    features, exact = evaluate(model, tiny_variables), evaluate(tiny(), tiny_variables)
    assert features.dtype == jnp.bfloat16
    np.testing.assert_allclose(features.astype(jnp.float32), exact, atol=0.02)


def keras_variables(reference):
    """Returns the variables of our DenseNet-121 with the weights of Keras' model."""
    norms = {"stem_norm": "conv1_bn", "norm": "bn"}
    convs = {"stem": "conv1_conv"}
    for block, num_layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(1, num_layers + 1):
            ours, theirs = f"block{block}_layer{layer}", f"conv{block + 1}_block{layer}"
            norms |= {f"{ours}/bottleneck_norm": f"{theirs}_0_bn", f"{ours}/norm": f"{theirs}_1_bn"}
            convs |= {f"{ours}/bottleneck": f"{theirs}_1_conv", f"{ours}/conv": f"{theirs}_2_conv"}
    for index in (1, 2, 3):
        norms[f"transition{index}/norm"] = f"pool{index + 1}_bn"
        convs[f"transition{index}/conv"] = f"pool{index + 1}_conv"
    params, statistics = {}, {}
    for ours, theirs in convs.items():
        params[f"{ours}/kernel"] = reference.get_layer(theirs).kernel
    for ours, theirs in norms.items():
        norm = reference.get_layer(theirs)
        params |= {f"{ours}/scale": norm.gamma, f"{ours}/bias": norm.beta}
        statistics |= {f"{ours}/mean": norm.moving_mean, f"{ours}/var": norm.moving_variance}
    head = reference.get_layer("predictions")
    as_arrays = partial(jax.tree.map, jnp.asarray)
    return {
        "params": {
            "backbone": unflatten_dict(as_arrays(params), sep="/"),
            "head": as_arrays({"kernel": head.kernel, "bias": head.bias}),
        },
        "batch_stats": {"backbone": unflatten_dict(as_arrays(statistics), sep="/")},
    }


@pytest.mark.slow
def test_logits_equal_keras():
    keras.utils.set_random_seed(0)
    reference = keras.applications.DenseNet121(weights=None, classifier_activation=None)
    random = np.random.default_rng(0)
    for norm in reference.layers:
        if isinstance(norm, keras.layers.BatchNormalization):
            shape = norm.gamma.shape
            norm.gamma.assign(random.uniform(0.5, 1.5, shape))
            norm.beta.assign(random.normal(0, 0.2, shape))
            norm.moving_mean.assign(random.normal(0, 0.2, shape))
            norm.moving_variance.assign(random.uniform(0.5, 1.5, shape))
    # Use squares of one color: averaged over pixels, plain noise looks the same in every image.
    images = random.normal(size=(2, 14, 14, 3)).repeat(16, axis=1).repeat(16, axis=2)
    with jax.numpy_rank_promotion("allow"):
        expected = reference.predict(images, verbose=0)
    model = Classifier(DenseNet121(variant="imagenet", **injected()), num_classes=1000)
    variables = keras_variables(reference)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, shapes_of(model, (224, 224, 3))
    )
    logits = jax.jit(partial(model.apply, train=False))(variables, images)
    scale = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * scale
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * scale)
