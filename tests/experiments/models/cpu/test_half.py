"""Checks convolutions of bfloat16 on a CPU: errors against float32, with oneDNN and without."""

import logging
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models.cpu import half, support
from experiments.program import parallel
from experiments.topology import hlo
from tests.experiments.models.cpu.test_convolution import native, ours, output_and_gradients

# A result that is rounded once has a relative error of 1.7e-3. A kernel gradient is rounded in each
# chunk and at the end. If each sum of chunks were rounded, its error would be 1e-2 or more.
LIMITS = (2e-3, 2e-3, 3e-3)


def relative_rms(actual, expected):
    actual, expected = (np.asarray(each, np.float32) for each in (actual, expected))
    return np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2))


def arrays_of(batch, side, inputs, outputs, window=3, stride=1):
    """Returns images, a kernel, and a gradient of the result."""
    generator = np.random.default_rng(0)
    size = -(-side // stride)
    shapes = (batch, side, side, inputs), (window, window, inputs, outputs), (batch, size, size)
    shapes = (*shapes[:2], (*shapes[2], outputs))
    return [generator.standard_normal(shape).astype(jnp.bfloat16) for shape in shapes]


def convolved(convolve, window=3, stride=1):
    pads = 2 * ((window // 2, window // 2),)
    return partial(output_and_gradients, convolve, strides=(stride, stride), pads=pads)


def exact(arrays, window=3, stride=1):
    return convolved(native, window, stride)(*(each.astype(np.float32) for each in arrays))


@pytest.mark.parametrize(
    ("side", "inputs", "window", "stride"),
    # One product per chunk, products for each row of the kernel, strides, and single taps.
    [(16, 16, 3, 1), (17, 16, 5, 1), (16, 3, 3, 1), (7, 16, 3, 2), (8, 16, 1, 2)],
)
@pytest.mark.parametrize("onednn", [True, False])
def test_errors_are_those_of_rounding(monkeypatch, onednn, side, inputs, window, stride):
    arrays = arrays_of(8, side, inputs, 32, window, stride)
    for name in ("CHUNK_BYTES", "CROSS_CHUNK_BYTES"):
        monkeypatch.setattr(half, name, arrays[0].nbytes // 4)
    options = dict(support.onednn_options()) if onednn else {}
    monkeypatch.setattr(support, "onednn_options", lambda: support.ONEDNN if onednn else {})
    # A new function: jax would otherwise reuse the trace of the other case.
    function = convolved(lambda *inputs, **settings: ours(*inputs, **settings), window, stride)
    actual = jax.jit(function, compiler_options=options)(*arrays)
    for a, e, limit in zip(actual, exact(arrays, window, stride), LIMITS, strict=True):
        assert a.dtype == jnp.bfloat16
        assert relative_rms(a, e) < limit


def test_devices_share_a_batch_and_exchange_the_kernel_gradient_once():
    strategy = parallel.make_strategy("jit", jax.devices()[:4], bfloat16=True)
    arrays = arrays_of(16, 16, 16, 16)

    def on_devices(x, kernel, weights):
        shared = [each[strategy.share(jnp.arange(len(each)))] for each in (x, weights)]
        return convolved(ours)(shared[0], kernel, shared[1])

    compiled = strategy.compile(on_devices, donate=False).lower(*arrays).compile()
    kinds = [each.kind for each in hlo.collectives(compiled.as_text())]
    assert kinds.count("all-reduce") == 1
    actual = compiled(*jax.device_put(arrays, strategy.replicated))
    for a, e, limit in zip(actual, exact(arrays), LIMITS, strict=True):
        assert relative_rms(jax.device_get(a), e) < limit


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_convolve_natively(platform):
    def lowered(convolve):
        traced = jax.jit(convolved(convolve)).trace(*arrays_of(4, 16, 16, 16))
        return traced.lower(lowering_platforms=(platform,)).as_text()

    text = lowered(ours)
    assert (
        text.count("stablehlo.convolution") == lowered(native).count("stablehlo.convolution") == 3
    )
    assert "stablehlo.dot_general" not in text
    assert "stablehlo.while" not in text


def test_a_cpu_without_onednn_is_reported_once(monkeypatch, caplog):
    monkeypatch.setattr(support, "onednn_options", dict)
    support.warn_without_onednn.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            options = parallel.compiler_options("cpu", bfloat16=True)
        parallel.compiler_options("tpu", bfloat16=True)
    support.warn_without_onednn.cache_clear()
    assert options == parallel.compiler_options("cpu")
    (record,) = caplog.records
    assert "products are computed in float32" in record.getMessage()


def test_onednn_needs_instructions_for_bfloat16(monkeypatch, tmp_path):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(support, "CPU_INFO", info)
    assert not support._has_fast_bfloat16()  # no such file, as on macOS
    info.write_text("processor : 0\nflags : fpu avx512f\n")
    assert not support._has_fast_bfloat16()
    info.write_text("processor : 0\nflags : fpu avx512f amx_bf16\n")
    assert support._has_fast_bfloat16()


def test_a_jaxlib_that_ignores_the_options_is_not_taken_for_onednn(monkeypatch):
    monkeypatch.setattr(support, "ONEDNN", {})
    assert not support._compiles_to_onednn()


def test_machine_with_an_accelerator_does_not_compile_with_onednn(monkeypatch):
    monkeypatch.setattr(support, "_has_fast_bfloat16", lambda: True)
    monkeypatch.setattr(support, "_compiles_to_onednn", lambda: True)
    of_machine = support.onednn_options.__wrapped__
    assert of_machine() == support.ONEDNN
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert of_machine() == {}
