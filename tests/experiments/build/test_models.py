"""Checks how a config becomes a network: names, sizes of images, and injected layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from configs import base
from experiments.build import models
from experiments.errors import UserError
from experiments.models.layers import VARIANTS
from tests.experiments.models.networks import shapes_of, use_few_blocks


def section(**changes):
    """Returns the section `model` of a config, narrow and without attention."""
    config = base.get_config().model
    config.width_multiplier = 1 / 64
    config.attention.name = "none"
    config.update_from_flattened_dict(changes)
    return config


def make(config, side=32, **options):
    return models.make_model(config, image_shape=(side, side, 3), num_classes=10, **options)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", models.MODELS)
def test_smallest_image_is_accepted_and_a_smaller_one_refused(name, variant, monkeypatch):
    use_few_blocks(monkeypatch)
    config = section(name=name, variant=variant, auxiliary_heads=True)
    factory = models.MODELS[name]
    side = factory(config, 10, models.make_layers(jnp.float32)).min_image_side
    params = shapes_of(make(config, side), (side, side, 3))["params"]
    assert params["head"]["kernel"].shape[1] == 10
    assert all(leaf.size for leaf in jax.tree.leaves(params))
    if side > 1:
        message = (
            f"model.name='{name}' with model.variant='{variant}' needs images of at least "
            f"{side}x{side} pixels, but they are {side - 1}x{side - 1}; set data.image_size"
        )
        with pytest.raises(UserError, match=message):
            make(config, side - 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "resnet19"}, "model.name='resnet19' is unknown; choose from nn2, .*, xception"),
        ({"name": "no.such:net"}, "model.name='no.such:net' cannot be imported: .*'no'"),
        ({"dtype": "float16"}, "model.dtype='float16' is unknown; choose from float32, bfloat16"),
        ({"variant": "mnist"}, "model.variant='mnist' is unknown; choose from cifar, imagenet"),
        (
            {"attention.name": "after"},
            "model.attention.name='after' is unknown; choose from none, beside, before",
        ),
        (
            {"attention.name": "beside", "attention.patch_size": 5},
            "model.attention.patch_size=5 must divide the image, which is 32x32 pixels",
        ),
    ],
)
def test_unusable_field_is_refused_in_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        make(section(**changes))
    assert "\n" not in str(error.value)


class Mean(nn.Module):
    """A network from outside the package, without `min_image_side`."""

    layers: models.Layers

    @nn.compact
    def __call__(self, images, *, train):
        x = self.layers.conv(4, (1, 1), name="own")(images)
        return self.layers.norm(use_running_average=not train)(x).mean(axis=(1, 2))


def my_model(config, num_classes, layers):
    assert (config.width_multiplier, num_classes) == (1 / 64, 10)
    return Mean(layers)


@pytest.mark.parametrize("attention", models.ATTENTION)
def test_factory_outside_the_package_builds_a_model(attention):
    config = section(**{"name": f"{__name__}:my_model", "attention.name": attention})
    model = make(config, side=8)
    shapes = shapes_of(model, (8, 8, 3))
    assert "own" in str(jax.tree.structure(shapes["params"]))
    logits = jax.eval_shape(
        lambda variables, images: model.apply(variables, images, train=False),
        shapes,
        jnp.zeros((2, 8, 8, 3)),
    )
    assert logits.shape == (2, 10)


@pytest.mark.parametrize("name", ["vgg9", "resnet10", "densenet100", "googlenet", "xception"])
def test_every_batch_norm_averages_over_the_mapped_axis(name, monkeypatch):
    use_few_blocks(monkeypatch)
    images = jnp.zeros((2, 32, 32, 3))
    config = section(name=name, batch_norm=True, auxiliary_heads=True)

    def averages(model):
        def apply(variables):
            rngs = {"dropout": jax.random.key(0)}
            return model.apply(variables, images, train=True, rngs=rngs, mutable=True)

        return str(jax.make_jaxpr(apply, axis_env=[("devices", 2)])(variables)).count("psum")

    variables = shapes_of(make(config), (32, 32, 3))
    num_norms = len(jax.tree.leaves(variables["batch_stats"])) // 2  # a mean and a variance each
    assert num_norms > 0
    assert averages(make(config, axis_name="devices")) == num_norms
    assert averages(make(config)) == 0
