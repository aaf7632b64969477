"""Finds out whether products of bfloat16 are fast on this machine's CPU."""

import functools
import logging
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import lax

# Instructions for products of bfloat16 with sums in float32, as Linux names them.
FAST_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
CPU_INFO = pathlib.Path("/proc/cpuinfo")
ONEDNN = {"xla_cpu_use_onednn": True, "xla_cpu_experimental_onednn_custom_call": True}

_logger = logging.getLogger(__name__)


@functools.cache
def onednn_options() -> Mapping[str, bool]:
    """Returns the XLA options that make oneDNN compute products of bfloat16 on a CPU.

    oneDNN uses AMX and AVX-512, which XLA's own code for bfloat16 does not. Only some versions of
    jaxlib contain it.

    Returns:
      Values by option name; empty if the CPU has no instructions for bfloat16, if jaxlib does not
      contain oneDNN, or if the default device is no CPU.
    """
    # On a machine with a GPU, storing a program with oneDNN in the compile cache crashes jaxlib.
    on_cpu = jax.default_backend() == "cpu"
    return ONEDNN if on_cpu and _has_fast_bfloat16() and _compiles_to_onednn() else {}


@functools.cache
def warn_without_onednn() -> None:
    """Logs once per process that a CPU computes convolutions of bfloat16 in float32."""
    if not onednn_options():
        _logger.warning(
            "The images of convolutions are stored in bfloat16, but their products are computed in "
            "float32: %s.",
            "this jaxlib does not contain oneDNN"
            if _has_fast_bfloat16()
            else "this CPU has no instructions for bfloat16",
        )


def _has_fast_bfloat16() -> bool:
    try:
        lines = CPU_INFO.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return not FAST_FLAGS.isdisjoint(flags.split())


def _compiles_to_onednn() -> bool:
    """Compiles a small convolution: a jaxlib without oneDNN rejects or ignores the options."""
    images = jax.ShapeDtypeStruct((8, 8, 8, 16), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((3, 3, 16, 16), jnp.bfloat16)

    def convolve(images: jax.Array, kernel: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    try:
        with jax.default_device(jax.local_devices(backend="cpu")[0]):
            lowered = jax.jit(convolve, compiler_options=dict(ONEDNN)).lower(images, kernel)
            return "__onednn$convolution" in (lowered.compile().as_text() or "")
    except RuntimeError:
        return False
