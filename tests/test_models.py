"""Parameter counts of the published networks, and what the attention block must and must not do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.models.attention import AttentionBefore, AttentionBeside, PatchTransformer
from experiments.models.layers import Classifier
from experiments.models.resnet import RESNETS

KEY = jax.random.key(0)


def shapes_of(model, image_shape):
    images = jnp.zeros((2, *image_shape))
    return jax.eval_shape(lambda key, x: model.init(key, x, train=True), KEY, images)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "parameters"),
    # torchvision.models, which follow He et al. 2016 at 1000 classes.
    [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)],
)
def test_parameter_counts_at_the_imagenet_setting(name, parameters):
    model = Classifier(RESNETS[name](variant="imagenet"), num_classes=1000)
    assert count(shapes_of(model, (224, 224, 3))["params"]) == parameters


@pytest.mark.parametrize(("variant", "side"), [("cifar", 4), ("imagenet", 1)])
def test_a_stem_and_three_halvings_leave_the_right_resolution(variant, side):
    """The last block of 32x32 images is 4x4 after the CIFAR stem, 1x1 after the ImageNet stem."""
    model = RESNETS["resnet18"](width_multiplier=1 / 32, variant=variant)
    variables = shapes_of(model, (32, 32, 3))

    def blocks(variables, images):
        _, state = model.apply(
            variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        return state["intermediates"]["stage4_block2"]["__call__"][0]

    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    assert jax.eval_shape(blocks, variables, images).shape == (2, side, side, 16)


def narrow(dtype=jnp.float32, patch_size=4):
    backbone = RESNETS["resnet10"](width_multiplier=1 / 32, dtype=dtype)
    transformer = PatchTransformer(
        patch_size=patch_size, width=8, num_heads=2, mlp_width=16, dtype=dtype
    )
    return Classifier(AttentionBeside(backbone, transformer), num_classes=10)


@pytest.fixture(scope="module")
def narrow_variables():
    return jax.jit(lambda key, x: narrow().init(key, x, train=True))(KEY, jnp.zeros((1, 8, 8, 3)))


def test_features_of_backbone_and_transformer_are_concatenated(narrow_variables):
    assert narrow_variables["params"]["head"]["kernel"].shape == (2 * 8 + 8, 10)


def test_bfloat16_compute_keeps_float32_parameters_and_logits(narrow_variables):
    variables = shapes_of(narrow(jnp.bfloat16), (8, 8, 3))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    images = jax.random.normal(KEY, (4, 8, 8, 3))
    evaluate = jax.jit(
        lambda model: model.apply(narrow_variables, images, train=False), static_argnums=0
    )
    logits, exact = evaluate(narrow(jnp.bfloat16)), evaluate(narrow())
    assert logits.dtype == jnp.float32
    assert not np.array_equal(logits, exact)
    np.testing.assert_allclose(logits, exact, atol=0.05)


def test_the_transformer_sees_where_a_patch_is():
    """Without positions, exchanging two patches could not change a mean over tokens."""
    transformer = PatchTransformer(patch_size=4, width=8, num_heads=2, mlp_width=16)
    images = jax.random.normal(KEY, (1, 8, 8, 3))
    exchanged = jnp.concatenate([images[:, 4:], images[:, :4]], axis=1)
    variables = transformer.init(KEY, images)

    def features(variables, images):
        return transformer.apply(variables, images).mean(axis=1)

    assert jnp.abs(features(variables, exchanged) - features(variables, images)).max() > 1e-4
    blind = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.zeros_like(leaf) if "positions" in str(path) else leaf, variables
    )
    np.testing.assert_allclose(features(blind, exchanged), features(blind, images), atol=1e-6)


class Pixels(nn.Module):
    """A backbone whose features are its pixels, so that a test can see them."""

    @nn.compact
    def __call__(self, images, *, train):
        return images.reshape(images.shape[0], -1)


def test_attention_before_a_backbone_adds_to_each_patch_what_its_own_token_says():
    transformer = PatchTransformer(patch_size=2, width=8, num_heads=2, mlp_width=16)
    model = AttentionBefore(Pixels(), transformer)
    images = jax.random.normal(KEY, (2, 4, 6, 3))
    variables = model.init(KEY, images, train=False)
    np.testing.assert_array_equal(
        model.apply(variables, images, train=False), images.reshape(2, -1)
    )
    kernel = jax.random.normal(KEY, (8, 2 * 2 * 3))
    variables["params"]["pixels"]["kernel"] = kernel
    tokens = transformer.apply({"params": variables["params"]["transformer"]}, images)
    expected = np.array(images)
    for token in range(6):
        top, left = 2 * (token // 3), 2 * (token % 3)
        seen = (tokens[:, token] @ kernel).reshape(2, 2, 2, 3)
        expected[:, top : top + 2, left : left + 2] += seen
    pixels = model.apply(variables, images, train=False).reshape(2, 4, 6, 3)
    np.testing.assert_allclose(pixels, expected, rtol=1e-5, atol=1e-5)


def test_training_mode_changes_the_running_statistics_and_evaluation_does_not(narrow_variables):
    images = 3 + jax.random.normal(KEY, (4, 8, 8, 3))
    _, changed = narrow().apply(narrow_variables, images, train=True, mutable=["batch_stats"])
    before, after = (
        tree["batch_stats"]["backbone"]["backbone"]["stem_norm"]["var"]
        for tree in (narrow_variables, changed)
    )
    assert jnp.abs(after - before).min() > 1e-3
    _, unchanged = narrow().apply(narrow_variables, images, train=False, mutable=["batch_stats"])
    assert jax.tree.all(
        jax.tree.map(np.array_equal, unchanged, {"batch_stats": narrow_variables["batch_stats"]})
    )
