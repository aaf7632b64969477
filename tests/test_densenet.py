"""DenseNet has the published sizes, is Keras' function, and drops values in training only."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from experiments.models.densenet import DENSENETS, DenseNet
from experiments.models.layers import Classifier

KEY = jax.random.key(0)
IMAGES = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))


def shapes_of(model, image_shape):
    images = jnp.zeros((2, *image_shape))
    return jax.eval_shape(lambda: model.init(KEY, images, train=False))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "variant", "image_shape", "num_classes", "parameters"),
    [
        # torchvision.models.densenet121.
        ("densenet121", "imagenet", (224, 224, 3), 1000, 7_978_856),
        # The authors' DenseNet-BC of 100 layers; table 2 has 0.8M.
        ("densenet100", "cifar", (32, 32, 3), 10, 769_162),
    ],
)
def test_parameter_counts(name, variant, image_shape, num_classes, parameters):
    model = Classifier(DENSENETS[name](variant=variant), num_classes)
    assert count(shapes_of(model, image_shape)["params"]) == parameters


@pytest.mark.parametrize(
    ("name", "multiplier", "image_shape", "features"),
    [
        # In units of k, through the three blocks: 2 to 18, 9 to 25, 12.5 to 28.5 (28 where k is 1).
        ("densenet100", 0.5, (28, 28, 1), 171),
        ("densenet100", 0.01, (32, 32, 3), 28),
        # Through the four blocks: 2 to 8, 4 to 16, 8 to 32, 16 to 32.
        ("densenet121", 0.25, (32, 32, 3), 256),
    ],
)
def test_features_are_those_of_the_scaled_growth_rate(name, multiplier, image_shape, features):
    model = DENSENETS[name](width_multiplier=multiplier)
    outputs = jax.eval_shape(
        lambda images: model.init_with_output(KEY, images, train=False)[0],
        jnp.zeros((2, *image_shape)),
    )
    assert outputs.shape == (2, features)


@pytest.mark.parametrize("variant", ["cifar", "imagenet"])
@pytest.mark.parametrize("blocks", [3, 4])
def test_the_smallest_image_leaves_one_pixel_and_a_smaller_one_none(blocks, variant):
    model = DenseNet(block_sizes=(1,) * blocks, growth_rate=1, variant=variant)

    def pixels(side):
        def last_norm(images):
            _, state = model.init_with_output(KEY, images, train=False, capture_intermediates=True)
            return state["intermediates"]["norm"]["__call__"][0]

        return jax.eval_shape(last_norm, jnp.zeros((1, side, side, 3))).shape[1:3]

    assert pixels(model.min_image_side) == (1, 1)
    assert pixels(model.min_image_side - 1) == (0, 0)


def tiny(**attributes):
    return DenseNet(block_sizes=(1, 1), growth_rate=4, **attributes)


@pytest.fixture(scope="module")
def tiny_variables():
    return jax.jit(lambda: tiny().init(KEY, jnp.zeros((1, 8, 8, 3)), train=False))()


@partial(jax.jit, static_argnums=0)
def evaluate(model, variables):
    return model.apply(variables, IMAGES, train=False)


@partial(jax.jit, static_argnums=0)
def zeros_from_dropout(model, variables):
    """For each dropout layer, the share of the values it puts out that are zero."""
    _, state = model.apply(
        variables,
        IMAGES,
        train=True,
        rngs={"dropout": KEY},
        capture_intermediates=lambda module, _: isinstance(module, nn.Dropout),
        mutable=["batch_stats", "intermediates"],
    )
    return [(leaf == 0).mean() for leaf in jax.tree.leaves(state["intermediates"])]


def test_a_layer_passes_its_input_on_and_adds_the_growth_rate(tiny_variables):
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


def test_dropout_acts_after_each_convolution_but_the_first_and_in_training_only(tiny_variables):
    dropping = tiny(dropout_rate=0.5)
    np.testing.assert_array_equal(
        evaluate(dropping, tiny_variables), evaluate(tiny(), tiny_variables)
    )
    shares = zeros_from_dropout(dropping, tiny_variables)
    assert len(shares) == 5  # two in each of two layers, one in the transition
    np.testing.assert_allclose(shares, 0.5, atol=0.1)
    assert max(zeros_from_dropout(tiny(), tiny_variables)) < 0.05


def test_bfloat16_compute_keeps_float32_parameters(tiny_variables):
    model = tiny(dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes_of(model, (8, 8, 3)))} == {
        jnp.dtype("float32")
    }
    features, exact = evaluate(model, tiny_variables), evaluate(tiny(), tiny_variables)
    assert features.dtype == jnp.bfloat16
    np.testing.assert_allclose(features.astype(jnp.float32), exact, atol=0.02)


def keras_variables(reference):
    """The variables of our DenseNet-121 that hold the weights of Keras' model."""
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
def test_logits_equal_those_of_keras():
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
    # Squares of one colour: the means over pixels of mere noise are the same for every image.
    images = random.normal(size=(2, 14, 14, 3)).repeat(16, axis=1).repeat(16, axis=2)
    with jax.numpy_rank_promotion("allow"):
        expected = reference.predict(images, verbose=0)
    model = Classifier(DENSENETS["densenet121"](variant="imagenet"), num_classes=1000)
    variables = keras_variables(reference)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, shapes_of(model, (224, 224, 3))
    )
    logits = jax.jit(partial(model.apply, train=False))(variables, images)
    scale = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * scale
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * scale)
