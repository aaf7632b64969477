"""Checks the attention block: its kernels, what its tokens know, and both placements."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from experiments.build.models import make_layers
from experiments.models import attention, resnet
from experiments.models.attention import AttentionBefore, AttentionBeside, PatchTransformer
from experiments.models.layers import Classifier
from experiments.models.small import NN2
from tests.experiments.models.networks import KEY, random_values, randomized, shapes_of

PLATFORMS = ("cpu", "cuda", "tpu")


def test_beside_concatenates_the_features_of_backbone_and_transformer():
    backbone = resnet.ResNet10(width_multiplier=1 / 32)
    transformer = PatchTransformer(patch_size=4, width=8, num_heads=2, mlp_width=16)
    model = Classifier(AttentionBeside(backbone, transformer), num_classes=10)
    params = shapes_of(model, (8, 8, 3))["params"]
    assert params["head"]["kernel"].shape == (2 * 8 + 8, 10)


def test_tokens_depend_on_the_position_of_their_patch():
    """Without positions, swapping two patches could not change the mean over tokens."""
    transformer = PatchTransformer(patch_size=4, width=8, num_heads=2, mlp_width=16)
    images = random_values(1, 8, 8, 3)
    swapped = np.concatenate([images[:, 4:], images[:, :4]], axis=1)
    variables = randomized(jax.eval_shape(transformer.init, KEY, images))

    @jax.jit
    def features(variables, images):
        return transformer.apply(variables, images).mean(axis=1)

    assert jnp.abs(features(variables, swapped) - features(variables, images)).max() > 1e-4
    blind = jax.tree_util.tree_map_with_path(
        lambda path, leaf: np.zeros_like(leaf) if "positions" in str(path) else leaf, variables
    )
    np.testing.assert_allclose(features(blind, swapped), features(blind, images), atol=1e-6)


class Pixels(nn.Module):
    """A backbone that returns its pixels."""

    @nn.compact
    def __call__(self, images, *, train):
        return images.reshape(images.shape[0], -1)


def test_before_adds_to_each_patch_a_linear_map_of_its_token():
    transformer = PatchTransformer(patch_size=2, width=8, num_heads=2, mlp_width=16)
    model = AttentionBefore(Pixels(), transformer)
    images = random_values(2, 4, 6, 3)
    initial, variables = jax.jit(partial(model.init_with_output, train=False))(KEY, images)
    np.testing.assert_array_equal(initial, images.reshape(2, -1))
    kernel = random_values(8, 2 * 2 * 3)
    variables["params"]["pixels"]["kernel"] = kernel

    @jax.jit
    def tokens_and_pixels(variables):
        tokens = transformer.apply({"params": variables["params"]["transformer"]}, images)
        return tokens, model.apply(variables, images, train=False)

    tokens, pixels = map(np.asarray, tokens_and_pixels(variables))
    expected = images.copy()
    for token in range(6):
        top, left = 2 * (token // 3), 2 * (token % 3)
        change = (tokens[:, token] @ kernel).reshape(2, 2, 2, 3)
        expected[:, top : top + 2, left : left + 2] += change
    np.testing.assert_allclose(pixels.reshape(2, 4, 6, 3), expected, rtol=1e-5, atol=1e-5)


def inputs(dtype, batch=4):
    shape = (batch, 16, 2, 8)
    random = np.random.default_rng(0)
    return [random.standard_normal(shape).astype(dtype) for _ in range(3)]


def gradients(attend):
    def loss(query, key, value):
        return jnp.square(attend(query, key, value).astype(jnp.float32)).sum()

    return jax.grad(loss, argnums=(0, 1, 2))


def lowered(function, *arguments, platform):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


def test_float32_attention_equals_linen():
    arguments = inputs(jnp.float32)
    ours, linen = (
        jax.jit(lambda *arrays, f=attend: (f(*arrays), *gradients(f)(*arrays)))(*arguments)
        for attend in (attention.attend, nn.dot_product_attention)
    )
    for actual, expected in zip(ours, linen, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6, rtol=1e-6)


def test_bfloat16_attention_computes_its_softmax_in_float32():
    program = lowered(attention.attend, *inputs(jnp.bfloat16), platform="cuda")
    (exponential,) = [line for line in program.splitlines() if "stablehlo.exponential" in line]
    assert "bf16" not in exponential
    operands = re.findall(
        r"stablehlo\.dot_general.*: \(tensor<[^>]*x(\w+)>, tensor<[^>]*x(\w+)>\) ->", program
    )
    assert operands == [("bf16", "bf16")] * 2
    assert jax.eval_shape(attention.attend, *inputs(jnp.bfloat16)).dtype == jnp.bfloat16


def test_attention_uses_xla_on_a_machine_without_cudnn():
    attention._cudnn_can.cache_clear()
    assert not attention._cudnn_can(16, 2, 8)


def test_attention_uses_cudnn_only_where_it_compiles(monkeypatch):
    monkeypatch.setattr(attention, "_by_cudnn", attention._by_xla)
    can = attention._cudnn_can.__wrapped__
    assert can(16, 2, 8)

    def refuse(*arguments):
        raise NotImplementedError("The head dim must be <= 128 and a multiple of 8")

    monkeypatch.setattr(attention, "_by_cudnn", refuse)
    assert not can(16, 2, 8)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--xla_gpu_deterministic_ops=true", False),
        ("--xla_a=1 --xla_gpu_deterministic_ops --xla_b=2", False),
        ("--xla_gpu_deterministic_ops=false", True),
    ],
)
def test_deterministic_attention_does_not_use_cudnn(monkeypatch, flags, expected):
    monkeypatch.setattr(attention, "_by_cudnn", attention._by_xla)
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert attention._cudnn_can.__wrapped__(16, 2, 8) == expected


FORWARD, BACKWARD = "__cudnn_forward", "__cudnn_backward"


@pytest.fixture
def cudnn(monkeypatch):
    """Replaces cuDNN by two named calls, as if it compiled attention of every size."""

    def call(name, *arrays, results):
        shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays[:results]]
        return jax.ffi.ffi_call(name, shapes, vmap_method="broadcast_all")(*arrays)

    @jax.custom_vjp
    def attend(query, key, value):
        return call(FORWARD, query, key, value, results=1)[0]

    def forward(*arrays):
        return attend(*arrays), arrays

    def backward(arrays, gradient):
        return tuple(call(BACKWARD, *arrays, gradient, results=3))

    attend.defvjp(forward, backward)
    monkeypatch.setattr(attention, "_by_cudnn", attend)
    monkeypatch.setattr(attention, "_cudnn_can", lambda *sizes: True)


def calls(program):
    return sorted(set(re.findall(r"__cudnn[\w$]+", program)))


@pytest.mark.usefixtures("cudnn")
@pytest.mark.parametrize("placement", [AttentionBeside, AttentionBefore])
def test_model_uses_cudnn_in_bfloat16_on_cuda_only(placement):
    images = jax.ShapeDtypeStruct((4, 16, 16, 1), jnp.float32)

    def called(dtype, platform):
        backbone = NN2(width_multiplier=1 / 32, dtype=dtype)
        transformer = PatchTransformer(4, 16, 2, 8, conv=make_layers(dtype).conv)
        model = placement(backbone, transformer)

        def loss(variables, images):
            return jnp.square(model.apply(variables, images, train=True)).sum()

        variables = jax.eval_shape(lambda x: model.init(KEY, x, train=True), images)
        return [
            calls(lowered(function, variables, images, platform=platform))
            for function in (jax.grad(loss), loss)
        ]

    assert called(jnp.bfloat16, "cuda") == [[BACKWARD, FORWARD], [FORWARD]]
    assert called(jnp.bfloat16, "cpu") == called(jnp.bfloat16, "tpu") == [[], []]
    assert called(jnp.float32, "cuda") == [[], []]


@pytest.mark.usefixtures("cudnn")
@pytest.mark.parametrize("platform", PLATFORMS)
def test_attention_of_many_trials_or_devices_uses_cudnn_on_cuda_only(platform):
    expected = [BACKWARD, FORWARD] if platform == "cuda" else []
    many = [jax.ShapeDtypeStruct((3, *x.shape), x.dtype) for x in inputs(jnp.bfloat16)]
    program = lowered(jax.vmap(gradients(attention.attend)), *many, platform=platform)
    assert calls(program) == expected
    mesh = jax.make_mesh((2,), ("devices",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("devices")
    shared = [
        jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))
        for x in inputs(jnp.bfloat16)
    ]
    mapped = jax.shard_map(
        gradients(attention.attend), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
    assert calls(lowered(mapped, *shared, platform=platform)) == expected
    assert calls(lowered(gradients(attention.attend), *shared, platform=platform)) == expected


def test_installed_cudnn_computes_attention_and_its_gradient_in_one_call_each():
    try:
        program = lowered(gradients(attention._by_cudnn), *inputs(jnp.bfloat16), platform="cuda")
    except RuntimeError as error:
        pytest.skip(str(error))
    assert calls(program) == ["__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"]
