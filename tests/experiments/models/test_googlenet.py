"""Compares GoogLeNet with table 1 of its paper and with PyTorch, with its auxiliary heads."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models import googlenet
from experiments.models.googlenet import AuxiliaryClassifier, GoogLeNet
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

narrow = partial(GoogLeNet, width_multiplier=1 / 16, **injected())
BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")


def map_shapes(model, side):
    """Returns height, width, and channels of the output of each Inception block."""
    images = jnp.zeros((2, side, side, 3))
    variables = jax.eval_shape(
        lambda x: model.init(KEY, x, train=True, capture_intermediates=True, mutable=True), images
    )
    outputs = (variables["intermediates"][f"inception{block}"]["__call__"][0] for block in BLOCKS)
    return [output.shape[1:] for output in outputs]


def test_parameter_counts_match_torchvision():
    model = Classifier(GoogLeNet(variant="imagenet"), num_classes=1000)
    params = shapes_of(model, (224, 224, 3))["params"]
    assert count(params) == 7_005_832
    # torchvision has 3x3 kernels where table 1 and this network have 5x5.
    wide = [leaf for leaf in jax.tree.leaves(params) if leaf.shape[:2] == (5, 5)]
    assert len(wide) == len(BLOCKS)
    assert count(params) - sum(leaf.size // 25 * (25 - 9) for leaf in wide) == 6_624_904
    # With auxiliary classifiers, torchvision has 13,004,888 parameters.
    model = Classifier(GoogLeNet(variant="imagenet", auxiliary_classes=1000), num_classes=1000)
    with_auxiliary = count(shapes_of(model, (224, 224, 3))["params"])
    assert with_auxiliary - count(params) == 13_004_888 - 6_624_904


def test_blocks_have_the_output_sizes_of_table_1():
    channels = [256, 480, 512, 512, 512, 528, 832, 832, 1024]
    for variant, image_side, sides in [
        ("imagenet", 224, [28] * 2 + [14] * 5 + [7] * 2),
        ("cifar", 32, [32] * 2 + [16] * 5 + [8] * 2),
    ]:
        expected = [(side, side, c) for side, c in zip(sides, channels, strict=True)]
        assert map_shapes(GoogLeNet(variant=variant), image_side) == expected


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (32, 32, 3)])
def test_width_multiplier_scales_features_and_auxiliary_classifiers(image_shape):
    model = GoogLeNet(width_multiplier=0.25, auxiliary_classes=7)
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    output, variables = jax.eval_shape(lambda x: model.init_with_output(KEY, x, train=True), images)
    assert output.shape == (2, 256)
    auxiliary = variables["params"]["auxiliary4a"]
    assert auxiliary["fc"]["kernel"].shape == (4 * 4 * 32, 256)
    assert auxiliary["head"]["kernel"].shape == (256, 7)


@pytest.mark.parametrize(("variant", "side"), [("cifar", 3), ("imagenet", 17)])
def test_smallest_image_leaves_two_pixels_for_the_last_pool(variant, side):
    model = narrow(variant=variant)
    assert model.min_image_side == side
    sides = [height for height, _, _ in map_shapes(model, side)]
    assert sides[-3:] == [2, 1, 1]
    sides = [height for height, _, _ in map_shapes(model, side - 1)]
    assert sides[-3:] == [1, 1, 1]


@pytest.mark.parametrize(("variant", "side"), [("cifar", 7), ("imagenet", 49)])
def test_smallest_image_leaves_4x4_pixels_for_the_auxiliary_classifiers(variant, side):
    model = narrow(variant=variant, auxiliary_classes=10)
    assert model.min_image_side == side
    shapes = shapes_of(model, (side, side, 3))
    assert shapes["params"]["auxiliary4d"]["fc"]["kernel"].shape == (4 * 4 * 8, 64)
    sides = [height for height, _, _ in map_shapes(narrow(variant=variant), side - 1)]
    assert sides[BLOCKS.index("4d")] == 3


def tensor(torch, array, *axes):
    return torch.from_numpy(np.array(array).transpose(axes or range(np.ndim(array))))


def conv_norm_relu(torch, variables, x, *path, stride=1):
    """Applies in PyTorch the `ConvNorm` at a path in the variables, in evaluation mode."""
    params, stats = variables["params"], variables["batch_stats"]
    for name in path:
        params, stats = params[name], stats[name]
    kernel = tensor(torch, params["conv"]["kernel"], 3, 2, 0, 1)
    x = torch.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
    x = torch.nn.functional.batch_norm(
        x,
        tensor(torch, stats["norm"]["mean"]),
        tensor(torch, stats["norm"]["var"]),
        tensor(torch, params["norm"]["scale"]),
        tensor(torch, params["norm"]["bias"]),
        eps=1e-3,
    )
    return torch.relu(x)


@pytest.mark.parametrize(("variant", "side"), [("cifar", 16), ("imagenet", 64)])
def test_features_equal_pytorch(variant, side):
    torch = pytest.importorskip("torch")
    model = narrow(variant=variant)
    images = random_values(2, side, side, 3)
    variables = random_variables(model, (side, side, 3))
    unit = partial(conv_norm_relu, torch, variables)

    def halve(x):
        return torch.nn.functional.max_pool2d(x, 3, 2, ceil_mode=True)

    x = tensor(torch, images, 0, 3, 1, 2)
    if variant == "imagenet":
        x = unit(halve(unit(x, "stem1", stride=2)), "stem2")
        x = halve(unit(x, "stem3"))
    else:
        x = unit(x, "stem")
    for block in BLOCKS:
        if block in ("4a", "5a"):
            x = halve(x)
        name = f"inception{block}"
        pooled = torch.nn.functional.max_pool2d(x, 3, 1, padding=1)
        branches = [
            unit(x, name, "conv1x1"),
            unit(unit(x, name, "reduce3x3"), name, "conv3x3"),
            unit(unit(x, name, "reduce5x5"), name, "conv5x5"),
            unit(pooled, name, "project"),
        ]
        x = torch.cat(branches, dim=1)
    expected = x.mean(dim=(2, 3)).numpy()
    features = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    largest = np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 0.05 * largest, (
        "the images have equal features"
    )
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5 * largest)


def auxiliary_classifier(width_multiplier, train=False):
    fields = injected()
    fields = {**fields, "norm": partial(fields["norm"], use_running_average=not train)}
    return AuxiliaryClassifier(num_classes=10, width_multiplier=width_multiplier, **fields)


@pytest.mark.parametrize(("side", "window", "stride"), [(14, 5, 3), (16, 4, 4)])
def test_auxiliary_logits_equal_pytorch(side, window, stride):
    """Pools 5x5 with stride 3 on the paper's 14x14 (section 5), and 4x4 with stride 4 on 16x16."""
    torch = pytest.importorskip("torch")
    model = auxiliary_classifier(width_multiplier=1 / 16)
    maps = random_values(2, side, side, 32)
    variables = random_variables(model, (side, side, 32))
    x = torch.nn.functional.avg_pool2d(tensor(torch, maps, 0, 3, 1, 2), window, stride)
    x = conv_norm_relu(torch, variables, x, "reduce").permute(0, 2, 3, 1).reshape(2, -1)
    fc, head = variables["params"]["fc"], variables["params"]["head"]
    x = torch.relu(x @ tensor(torch, fc["kernel"]) + tensor(torch, fc["bias"]))
    expected = (x @ tensor(torch, head["kernel"]) + tensor(torch, head["bias"])).numpy()
    logits = jax.jit(partial(model.apply, train=False))(variables, maps)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5 * largest)


IMAGES = random_values(4, 8, 8, 3)


@pytest.fixture(scope="module")
def auxiliary_variables():
    return random_variables(narrow(auxiliary_classes=10), IMAGES.shape[1:])


def without_auxiliary(variables):
    return {
        collection: {name: leaf for name, leaf in tree.items() if "auxiliary" not in name}
        for collection, tree in variables.items()
    }


def apply(model, variables, images, **kwargs):
    return model.apply(
        variables,
        images,
        rngs={"dropout": KEY},
        mutable=["batch_stats", "auxiliary_logits"],
        **kwargs,
    )


def test_bfloat16_keeps_parameters_and_auxiliary_logits_in_float32(auxiliary_variables):
    model = narrow(auxiliary_classes=10, **injected(jnp.bfloat16))
    assert dtypes(shapes_of(model, IMAGES.shape[1:])) == {"float32"}
    train = partial(apply, model, train=True)
    features, changed = jax.eval_shape(train, auxiliary_variables, IMAGES)
    assert features.dtype == jnp.bfloat16
    logits = jax.ShapeDtypeStruct((4, 10), jnp.float32)
    assert changed["auxiliary_logits"] == {"4a": (logits,), "4d": (logits,)}


def test_evaluation_omits_the_auxiliary_classifiers(auxiliary_variables):
    evaluate = partial(apply, narrow(auxiliary_classes=10), train=False)
    _, changed = jax.eval_shape(evaluate, without_auxiliary(auxiliary_variables), IMAGES)
    assert changed.keys() == {"batch_stats"}


@pytest.mark.slow
def test_auxiliary_loss_reaches_its_classifier_and_the_layers_before_it(
    auxiliary_variables,
):
    def loss(params):
        variables = {**auxiliary_variables, "params": params}
        _, changed = apply(narrow(auxiliary_classes=10), variables, IMAGES, train=True)
        (logits,) = changed["auxiliary_logits"]["4a"]
        return (logits**2).mean()

    gradient = jax.jit(jax.grad(loss))(auxiliary_variables["params"])
    reached = {name for name, tree in gradient.items() if any(map(np.any, jax.tree.leaves(tree)))}
    assert reached == {"stem", "inception3a", "inception3b", "inception4a", "auxiliary4a"}


def assert_dropped(before, after, rate):
    """Checks that about `rate` of the active values are zero and the others are scaled up."""
    active = np.asarray(before) > 0
    before, after = np.asarray(before)[active], np.asarray(after)[active]
    dropped = after == 0
    assert abs(dropped.mean() - rate) < 0.12
    np.testing.assert_allclose(after[~dropped], before[~dropped] / (1 - rate), rtol=1e-5)


def test_training_drops_features_and_sows_no_logits_by_default(monkeypatch):
    """Complements the comparison with PyTorch, which runs in evaluation mode."""
    monkeypatch.setattr(googlenet, "BLOCKS", {b: googlenet.BLOCKS[b] for b in ("4a", "4d", "5b")})
    variables = random_variables(narrow(), IMAGES.shape[1:])

    @jax.jit
    def train(variables):
        return narrow().apply(
            variables,
            IMAGES,
            train=True,
            rngs={"dropout": KEY},
            # Each further output makes the program longer to compile.
            capture_intermediates=lambda module, _: module.name == "inception5b",
            mutable=["batch_stats", "intermediates", "auxiliary_logits"],
        )

    features, changed = train(variables)
    assert changed.keys() == {"batch_stats", "intermediates"}
    (last,) = changed["intermediates"]["inception5b"]["__call__"]
    assert_dropped(last.mean(axis=(1, 2)), features, rate=0.4)
    before = variables["batch_stats"]["stem"]["norm"]["mean"]
    after = changed["batch_stats"]["stem"]["norm"]["mean"]
    assert np.abs(after - before).min() > 1e-6


def test_training_drops_hidden_units_of_an_auxiliary_classifier():
    model = auxiliary_classifier(width_multiplier=1 / 4, train=True)
    maps = random_values(2, 4, 4, 8)
    variables = random_variables(model, (4, 4, 8))
    _, changed = jax.jit(
        lambda v, x: model.apply(
            v,
            x,
            train=True,
            rngs={"dropout": KEY},
            capture_intermediates=True,
            mutable=["batch_stats", "intermediates"],
        )
    )(variables, maps)
    (hidden,) = changed["intermediates"]["fc"]["__call__"]
    (dropped,) = changed["intermediates"]["Dropout_0"]["__call__"]
    assert_dropped(hidden, dropped, rate=0.7)
