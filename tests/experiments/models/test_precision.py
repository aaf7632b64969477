"""Checks the precision of training and evaluation, in programs lowered for each platform."""

import functools
import re

import jax
import jax.numpy as jnp
import pytest

from configs import quickstart
from experiments.build import experiment
from experiments.build.models import make_model
from tests.experiments.models.networks import dtypes, use_few_blocks

PLATFORMS = ("cpu", "cuda", "tpu")
PRODUCT = re.compile(r"stablehlo\.(?:convolution|dot_general)\b")
OPERANDS = re.compile(r": \(tensor<[^>]*x(\w+)>, tensor<[^>]*x(\w+)>\) ->")


def config_of(side=32, **changes):
    """Returns the config of a narrow network on digits."""
    config = quickstart.get_config()
    config.batch_size = 4
    config.data.image_size = side
    config.model.width_multiplier = 1 / 32
    config.model.attention.update(width=16, num_heads=2, mlp_width=8)
    config.update_from_flattened_dict(changes)
    return config


def steps_of(config):
    """Returns the training step, the evaluation step, and the shapes of a state and a batch."""
    built = experiment.build(config, ["model.attention.name"])
    train_step = functools.partial(built.task.train_step, optimizer=built.optimizer)
    init = functools.partial(built.task.init, optimizer=built.optimizer)
    side = config.data.image_size
    batch = {
        "image": jax.ShapeDtypeStruct((4, side, side, 1), jnp.uint8),
        "label": jax.ShapeDtypeStruct((4,), jnp.int32),
        "mask": jax.ShapeDtypeStruct((4,), jnp.bool_),
    }
    return train_step, built.task.eval_step, jax.eval_shape(init, jax.random.key(0)), batch


def lowered(function, *arguments, platform):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def products(program):
    """Returns the line of each convolution and each matrix product."""
    return [line for line in program.splitlines() if PRODUCT.search(line)]


def operand_types(program):
    return [set(OPERANDS.search(line).groups()) for line in products(program)]


def float_types(tree):
    return {name for name in dtypes(tree) if "float" in name}


@pytest.mark.parametrize(
    ("name", "attention_name", "heads"),
    # GoogLeNet has two auxiliary classifiers, each with its own head.
    [
        ("nn2", "none", 1),
        ("lenet4", "before", 1),
        ("vgg9", "beside", 1),
        ("resnet10", "before", 1),
        ("resnet50", "beside", 1),
        ("densenet100", "none", 1),
        ("googlenet", "none", 3),
        ("xception", "beside", 1),
    ],
)
def test_bfloat16_is_used_for_products_and_float32_for_state_and_heads(
    name, attention_name, heads, monkeypatch
):
    use_few_blocks(monkeypatch)
    config = config_of(
        **{
            "model.name": name,
            "model.dtype": "bfloat16",
            "model.batch_norm": True,
            "model.auxiliary_heads": True,
            "model.attention.name": attention_name,
            "optimizer.name": "adam",
        }
    )
    train_step, eval_step, state, batch = steps_of(config)
    traced = jax.jit(train_step).trace(state, batch)
    after, metrics = traced.out_info
    assert float_types(after.params) == {"float32"}
    assert float_types(after.opt_state) == {"float32"}
    assert float_types(after.batch_stats) <= {"float32"}
    assert bool(jax.tree.leaves(after.batch_stats)) == (name not in ("nn2", "lenet4"))
    assert float_types([metrics, jax.eval_shape(eval_step, state, batch)]) == {"float32"}
    model = make_model(config.model, image_shape=(32, 32, 1), num_classes=10)
    logits = jax.eval_shape(
        lambda variables, images: model.apply(variables, images, train=False),
        {"params": state.params, "batch_stats": state.batch_stats},
        jax.ShapeDtypeStruct((4, 32, 32, 1), jnp.float32),
    )
    assert logits.dtype == jnp.float32
    types = operand_types(traced.lower(lowering_platforms=("cuda",)).as_text())
    # Each head and its two gradients are in float32. No product mixes the two dtypes.
    assert types.count({"f32"}) == 3 * heads
    assert types.count({"bf16"}) == len(types) - 3 * heads >= 5


def test_batch_statistics_of_bfloat16_are_summed_in_float32():
    """The network has no biases, whose gradients would be sums in bfloat16."""
    config = config_of(side=8, **{"model.dtype": "bfloat16", "model.attention.name": "none"})
    train_step, _, state, batch = steps_of(config)
    program = lowered(train_step, state, batch, platform="cuda")
    sums = [
        line
        for line in program.splitlines()
        if "stablehlo.reduce(" in line and "applies stablehlo.add" in line
    ]
    assert len(sums) > 20
    assert not [line for line in sums if "bf16" in line]


# The second network is wide enough for Winograd's algorithm on a CPU.
NETWORKS = {
    "lenet4": {"model.name": "lenet4", "model.attention.name": "before"},
    "resnet10": {
        "model.name": "resnet10",
        "model.width_multiplier": 0.25,
        "parallel.accumulate_steps": 2,
    },
}


@functools.cache
def traced_steps(name, precision):
    """Traces the training and the evaluation step, once for all platforms."""
    config = config_of(side=16, **NETWORKS[name], **{"model.matmul_precision": precision})
    train_step, eval_step, state, batch = steps_of(config)
    return [jax.jit(step).trace(state, batch) for step in (train_step, eval_step)]


@pytest.mark.parametrize(
    ("precision", "attribute"),
    [("default", "DEFAULT"), ("high", "HIGH"), ("highest", "HIGHEST")],
)
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_product_has_the_configured_precision(name, platform, precision, attribute):
    for traced, least in zip(traced_steps(name, precision), (20, 10), strict=True):
        found = products(traced.lower(lowering_platforms=(platform,)).as_text())
        assert len(found) >= least
        for line in found:
            assert re.findall(r"\b(DEFAULT|HIGH|HIGHEST)\b", line) == [attribute] * 2, line


def test_default_precision_is_the_one_set_in_jax():
    train_step, _, state, batch = steps_of(config_of(**{"model.name": "nn2"}))
    with jax.default_matmul_precision("highest"):
        program = lowered(train_step, state, batch, platform="cuda")
    assert all(line.count("HIGHEST") == 2 for line in products(program))
