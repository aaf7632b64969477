"""Compares the residual networks with published sizes, and with torchvision's in PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.models import resnet
from experiments.models.layers import Classifier
from tests.experiments.models.networks import (
    KEY,
    count,
    injected,
    random_values,
    random_variables,
    shapes_of,
)

WIDTH = 8  # filters of the first stage in the comparison with PyTorch, an eighth of the published
NETWORKS = {
    "resnet18": resnet.ResNet18,
    "resnet34": resnet.ResNet34,
    "resnet50": resnet.ResNet50,
}


@pytest.mark.parametrize(
    ("name", "parameters"),
    # From torchvision.models, which follow He et al. 2016, with 1000 classes.
    [("resnet18", 11_689_512), ("resnet34", 21_797_672), ("resnet50", 25_557_032)],
)
def test_parameter_counts_match_torchvision(name, parameters):
    model = Classifier(NETWORKS[name](variant="imagenet"), num_classes=1000)
    assert count(shapes_of(model, (224, 224, 3))["params"]) == parameters


@pytest.mark.parametrize(("variant", "side"), [("cifar", 4), ("imagenet", 1)])
def test_last_block_has_the_resolution_of_the_variant(variant, side):
    """The last block of a 32x32 image is 4x4 with the CIFAR stem, and 1x1 with ImageNet's."""
    model = resnet.ResNet18(width_multiplier=1 / 32, variant=variant)
    variables = shapes_of(model, (32, 32, 3))

    def last_block(variables, images):
        _, state = model.apply(
            variables, images, train=False, capture_intermediates=True, mutable=["intermediates"]
        )
        return state["intermediates"]["stage4_block2"]["__call__"][0]

    images = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    assert jax.eval_shape(last_block, variables, images).shape == (2, side, side, 16)


def test_only_training_mode_updates_the_running_statistics():
    model = resnet.ResNet10(width_multiplier=1 / 32, **injected())
    before = random_variables(model, (8, 8, 3))
    images = 3 + random_values(4, 8, 8, 3)

    @jax.jit
    def statistics(variables, images):
        return [
            model.apply(variables, images, train=train, mutable=["batch_stats"])[1]
            for train in (True, False)
        ]

    trained, evaluated = statistics(before, images)
    change = trained["batch_stats"]["stem_norm"]["var"] - before["batch_stats"]["stem_norm"]["var"]
    assert np.abs(change).min() > 1e-3
    unchanged = {"batch_stats": before["batch_stats"]}
    assert jax.tree.all(jax.tree.map(np.array_equal, evaluated, unchanged))


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def array(tensor):
    return jnp.asarray(tensor.detach().numpy())


def kernel_of(convolution):
    return {"kernel": array(convolution.weight.permute(2, 3, 1, 0))}


def to_linen(model):
    """Returns the variables of our `Classifier` with the parameters of a PyTorch network."""
    params = {"stem": kernel_of(model.stem)}
    norms = {("stem_norm",): model.stem_norm}
    for name, block in model.blocks.items():
        params[name] = {f"Conv_{i}": kernel_of(c) for i, c in enumerate(block.convs)}
        norms |= {(name, f"BatchNorm_{i}"): norm for i, norm in enumerate(block.norms)}
        if block.shortcut is not None:
            params[name]["shortcut"] = kernel_of(block.shortcut)
            norms[name, "shortcut_norm"] = block.shortcut_norm
    statistics = {}
    for path, norm in norms.items():
        into_params, into_statistics = params, statistics
        for key in path[:-1]:
            into_params = into_params.setdefault(key, {})
            into_statistics = into_statistics.setdefault(key, {})
        into_params[path[-1]] = {"scale": array(norm.weight), "bias": array(norm.bias)}
        into_statistics[path[-1]] = {
            "mean": array(norm.running_mean),
            "var": array(norm.running_var),
        }
    head = {"kernel": array(model.head.weight.T), "bias": array(model.head.bias)}
    return {
        "params": {"backbone": params, "head": head},
        "batch_stats": {"backbone": statistics},
    }


def make_pair(torch, name, variant):
    """Returns a PyTorch network with random values everywhere, our network, and its variables."""
    pytorch = pytest.importorskip("benchmarks.pytorch")
    torch.manual_seed(0)
    reference = pytorch.ResNet(name, width=WIDTH, variant=variant)
    for module in reference.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.normal_(module.running_mean, std=0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, torch.nn.Conv2d):
            # With PyTorch's default, the signal fades and all images have nearly the same logits.
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    network = NETWORKS[name](width_multiplier=WIDTH / 64, variant=variant, **injected())
    return reference, Classifier(network, num_classes=10), to_linen(reference)


def channels_first(torch, images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


# With sides that are even at every stride, padding by one on both sides differs from "SAME".
@pytest.mark.parametrize(("variant", "side"), [("cifar", 16), ("imagenet", 64)])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_logits_equal_pytorch(torch, name, variant, side):
    reference, model, variables = make_pair(torch, name, variant)
    images = random_values(2, side, side, 3)
    shapes = jax.eval_shape(lambda: model.init(KEY, images, train=False))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    with torch.no_grad():
        expected = reference.eval()(channels_first(torch, images)).numpy()
    logits = jax.jit(partial(model.apply, train=False))(variables, images)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_training_gradient_of_the_stem_equals_pytorch(torch):
    """The gradient of the stem depends on every other layer and on the batch statistics."""
    reference, model, variables = make_pair(torch, "resnet18", "cifar")
    images = random_values(8, 16, 16, 3)
    labels = np.arange(8) % 10
    loss = torch.nn.functional.cross_entropy(
        reference.train()(channels_first(torch, images)), torch.from_numpy(labels)
    )
    loss.backward()
    expected = array(reference.stem.weight.grad.permute(2, 3, 1, 0))

    def mean_loss(params):
        logits, _ = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    value, gradients = jax.jit(jax.value_and_grad(mean_loss))(variables["params"])
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    stem = gradients["backbone"]["stem"]["kernel"]
    np.testing.assert_allclose(stem, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
