"""What is computed in which precision, as the programs say that are lowered for each platform."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax._src.cudnn import fused_attention_stablehlo
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from configs import quickstart
from experiments import build, step
from experiments.models import attention

PLATFORMS = ("cpu", "cuda", "tpu")
PRODUCT = re.compile(r"stablehlo\.(?:convolution|dot_general)\b")
OPERANDS = re.compile(r": \(tensor<[^>]*x(\w+)>, tensor<[^>]*x(\w+)>\) ->")
BATCH = {
    "image": jax.ShapeDtypeStruct((4, 32, 32, 1), jnp.uint8),
    "label": jax.ShapeDtypeStruct((4,), jnp.int32),
    "mask": jax.ShapeDtypeStruct((4,), jnp.bool_),
}


def steps_of(side=32, **changes):
    """The steps of a narrow network on digits, and the shapes of what they take."""
    config = quickstart.get_config()
    config.batch_size = 4
    config.data.image_size = side
    config.model.width_multiplier = 1 / 32
    config.model.attention.update(width=16, num_heads=2, mlp_width=8)
    config.update_from_flattened_dict(changes)
    experiment = build.build(config)
    steps = build.make_steps(config, experiment, lambda images: images / 255.0)
    init = functools.partial(
        step.init_state,
        model=experiment.model,
        optimizer=experiment.optimizer,
        image_shape=experiment.dataset.image_shape,
    )
    image = jax.ShapeDtypeStruct((4, side, side, 1), jnp.uint8)
    return *steps, jax.eval_shape(init, jax.random.key(0)), BATCH | {"image": image}, experiment


def lowered(function, *arguments, platform):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def products(program):
    """The line of each convolution and each matrix product."""
    return [line for line in program.splitlines() if PRODUCT.search(line)]


def operand_types(program):
    return [set(OPERANDS.search(line).groups()) for line in products(program)]


def float_types(tree):
    return {
        str(leaf.dtype)
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


@pytest.mark.parametrize(
    ("name", "attention_name", "heads"),
    # GoogLeNet has two auxiliary classifiers besides, each with a head of its own.
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
def test_bfloat16_is_for_products_and_float32_for_all_that_lasts(name, attention_name, heads):
    train_step, eval_step, state, batch, experiment = steps_of(
        **{
            "model.name": name,
            "model.dtype": "bfloat16",
            "model.batch_norm": True,
            "model.auxiliary_heads": True,
            "model.attention.name": attention_name,
            "optimizer.name": "adam",
        }
    )
    traced = jax.jit(train_step).trace(state, batch)
    after, metrics = traced.out_info
    assert float_types(after.params) == {"float32"}
    assert float_types(after.opt_state) == {"float32"}
    assert float_types(after.batch_stats) <= {"float32"}
    assert bool(jax.tree.leaves(after.batch_stats)) == (name not in ("nn2", "lenet4"))
    assert float_types([metrics, jax.eval_shape(eval_step, state, batch)]) == {"float32"}
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits = jax.eval_shape(
        lambda variables, images: experiment.model.apply(variables, images, train=False),
        variables,
        jax.ShapeDtypeStruct((4, 32, 32, 1), jnp.float32),
    )
    assert logits.dtype == jnp.float32
    types = operand_types(traced.lower(lowering_platforms=("cuda",)).as_text())
    # A head and its two gradients: no other product is of float32, and none of both.
    assert types.count({"f32"}) == 3 * heads
    assert types.count({"bf16"}) == len(types) - 3 * heads >= 5


def test_batch_statistics_of_bfloat16_are_summed_in_float32():
    """No sum over pixels is one of bfloat16, in a network without biases, whose gradients are."""
    train_step, _, state, batch, _ = steps_of(
        side=8, **{"model.dtype": "bfloat16", "model.attention.name": "none"}
    )
    program = lowered(train_step, state, batch, platform="cuda")
    sums = [
        line
        for line in program.splitlines()
        if "stablehlo.reduce(" in line and "applies stablehlo.add" in line
    ]
    assert len(sums) > 20
    assert not [line for line in sums if "bf16" in line]


@pytest.mark.parametrize(
    ("precision", "written"),
    [("default", "DEFAULT"), ("high", "HIGH"), ("highest", "HIGHEST")],
)
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    "changes",
    # The wider has convolutions that a CPU computes by Winograd's algorithm.
    [
        {"model.name": "lenet4", "model.attention.name": "before"},
        {"model.name": "resnet10", "model.width_multiplier": 0.25, "parallel.accumulate_steps": 2},
    ],
    ids=["lenet4", "resnet10"],
)
def test_every_product_has_the_precision_asked_for(changes, platform, precision, written):
    train_step, eval_step, state, batch, _ = steps_of(
        side=16, **changes, **{"model.matmul_precision": precision}
    )
    for function, least in ((train_step, 20), (eval_step, 10)):
        found = products(lowered(function, state, batch, platform=platform))
        assert len(found) >= least
        for line in found:
            assert re.findall(r"\b(DEFAULT|HIGH|HIGHEST)\b", line) == [written] * 2, line


def test_the_default_precision_is_what_jax_is_set_to():
    train_step, _, state, batch, _ = steps_of(**{"model.name": "nn2"})
    with jax.default_matmul_precision("highest"):
        program = lowered(train_step, state, batch, platform="cuda")
    assert all(line.count("HIGHEST") == 2 for line in products(program))


def inputs(dtype, batch=4):
    shape = (batch, 16, 2, 8)
    return [jax.random.normal(jax.random.key(index), shape).astype(dtype) for index in range(3)]


def gradients(attend):
    def loss(query, key, value):
        return jnp.square(attend(query, key, value).astype(jnp.float32)).sum()

    return jax.grad(loss, argnums=(0, 1, 2))


def test_attention_of_float32_is_what_linen_computes():
    arguments = inputs(jnp.float32)
    for ours, linens in (
        (attention.attend, nn.dot_product_attention),
        (gradients(attention.attend), gradients(nn.dot_product_attention)),
    ):
        for got, expected in zip(
            jax.jit(ours)(*arguments), jax.jit(linens)(*arguments), strict=True
        ):
            np.testing.assert_allclose(got, expected, atol=1e-6, rtol=1e-6)


def test_attention_of_bfloat16_has_its_softmax_in_float32():
    program = lowered(attention.attend, *inputs(jnp.bfloat16), platform="cuda")
    (exponential,) = [line for line in program.splitlines() if "stablehlo.exponential" in line]
    assert "bf16" not in exponential
    assert operand_types(program) == [{"bf16"}] * 2
    assert jax.eval_shape(attention.attend, *inputs(jnp.bfloat16)).dtype == jnp.bfloat16


def test_without_cudnn_attention_is_xlas():
    attention._cudnn_can.cache_clear()
    assert not attention._cudnn_can(16, 2, 8)


def test_what_the_device_compiles_is_used_and_what_it_refuses_is_not(monkeypatch):
    monkeypatch.setattr(attention, "_by_cudnn", attention._by_xla)
    can = attention._cudnn_can.__wrapped__
    assert can(16, 2, 8)

    def refuse(*arguments):
        raise NotImplementedError("The head dim must be <= 128 and a multiple of 8")

    monkeypatch.setattr(attention, "_by_cudnn", refuse)
    assert not can(16, 2, 8)


@pytest.fixture
def cudnn(monkeypatch):
    """As on a machine whose cuDNN compiles everything."""
    monkeypatch.setattr(attention, "_cudnn_can", lambda *sizes: True)
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91100)


def calls(program):
    return sorted(set(re.findall(r"__cudnn\$\w+", program)))


FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"


@pytest.mark.usefixtures("cudnn")
@pytest.mark.parametrize("placement", ["beside", "before"])
def test_cudnn_computes_attention_of_bfloat16_on_cuda_alone(placement):
    def called(dtype, platform):
        train_step, eval_step, state, batch, _ = steps_of(
            side=16,
            **{
                "model.name": "nn2",
                "model.dtype": dtype,
                "model.attention.name": placement,
            },
        )
        return [
            calls(lowered(function, state, batch, platform=platform))
            for function in (train_step, eval_step)
        ]

    assert called("bfloat16", "cuda") == [[FORWARD, BACKWARD], [FORWARD]]
    assert called("bfloat16", "cpu") == called("bfloat16", "tpu") == [[], []]
    assert called("float32", "cuda") == [[], []]


@pytest.mark.usefixtures("cudnn")
@pytest.mark.parametrize("platform", PLATFORMS)
def test_cudnn_computes_attention_of_many_trials_and_of_many_devices(platform):
    expected = [FORWARD, BACKWARD] if platform == "cuda" else []
    many = [jax.ShapeDtypeStruct((3, *x.shape), x.dtype) for x in inputs(jnp.bfloat16)]
    program = lowered(jax.vmap(gradients(attention.attend)), *many, platform=platform)
    assert calls(program) == expected
    mesh = jax.make_mesh((2,), ("devices",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("devices")
    shared = [
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))
        for x in inputs(jnp.bfloat16)
    ]
    mapped = jax.shard_map(gradients(attention.attend), mesh=mesh, in_specs=spec, out_specs=spec)
    assert calls(lowered(mapped, *shared, platform=platform)) == expected
    # Of one program over a mesh the calls come with its partition, when it is compiled.
    program = lowered(gradients(attention.attend), *shared, platform=platform)
    assert program.count("@CustomSPMDPartitioning") == len(expected)
