"""Our residual networks are the same functions as torchvision's, written out in PyTorch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.models.layers import Classifier
from experiments.models.resnet import RESNETS

torch = pytest.importorskip("torch")
nn = torch.nn
pytorch = pytest.importorskip("benchmarks.pytorch")

WIDTH = 8  # filters of the first stage, an eighth of the published 64


def array(tensor):
    return jnp.asarray(tensor.detach().numpy())


def kernel_of(convolution):
    return {"kernel": array(convolution.weight.permute(2, 3, 1, 0))}


def to_linen(model):
    """The variables of our `Classifier` that hold the parameters of a network of PyTorch."""
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


def a_pair(name, variant):
    """A PyTorch network with random values everywhere, our network, and its variables."""
    torch.manual_seed(0)
    reference = pytorch.ResNet(name, width=WIDTH, variant=variant)
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, nn.Conv2d):
            # With PyTorch's default the signal would fade and the logits be the same for any image.
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    model = Classifier(RESNETS[name](width_multiplier=WIDTH / 64, variant=variant), num_classes=10)
    return reference, model, to_linen(reference)


def images_of(side, batch):
    return np.random.default_rng(0).normal(size=(batch, side, side, 3)).astype(np.float32)


def channels_first(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


# Sides even at every stride, where padding both sides by one and "SAME" differ.
@pytest.mark.parametrize(("variant", "side"), [("cifar", 16), ("imagenet", 64)])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_logits_equal_those_of_pytorch(name, variant, side):
    reference, model, variables = a_pair(name, variant)
    images = images_of(side, batch=2)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), images, train=False))
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, shapes)
    with torch.no_grad():
        expected = reference.eval()(channels_first(images)).numpy()
    logits = jax.jit(partial(model.apply, train=False))(variables, images)
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_training_gradients_equal_those_of_pytorch():
    """Of the stem, which every other layer's gradient reaches, through the batch's statistics."""
    reference, model, variables = a_pair("resnet18", "cifar")
    images = images_of(16, batch=8)
    labels = np.arange(8) % 10
    loss = nn.functional.cross_entropy(
        reference.train()(channels_first(images)), torch.from_numpy(labels)
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
