"""The hardware and software that a result came from, and what changed while it was computed."""

import functools
import importlib.metadata
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.extend

from experiments.errors import UserError
from experiments.program.switches import PINNED

Environment = dict[str, Any]
Change = dict[str, Any]  # {"step": int, "changed": {name: [old, new]}}

VERSIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "clu", "numpy")
# What can change bits. The architecture and the number of cores, which `device` names on a CPU, act
# only through the instructions and the threads; `affinity` acts only through the threads.
COMPARED = (
    "platform",
    "platform_version",
    "device_count",
    "process_count",
    "versions",
    "cpu_model",
    "cpu_features",
    "threads",
    "jax_config",
    "xla_flags",
    "commit",
)
# Instructions that compute with floating-point numbers, as Linux names them on x86 and ARM.
CPU_FEATURES = r"(sse|ssse|avx|fma|f16c|amx|asimd|sve|sme(?!p)|bf16|i8mm)"
# These switches of jax choose caches, checks, messages, or devices, which are recorded by
# themselves. Stricter promotion of ranks only refuses programs.
CANNOT_CHANGE_BITS = (
    r"jax_(compilation_cache|enable_compilation_cache|persistent_cache|raise_persistent_cache"
    r"|check_|enable_checks|debug_|log_|logging_|explain_|dump_|traceback_|tracer_error|pprint_"
    r"|transfer_guard|numpy_rank_promotion|platforms|platform_name"
    r"|num_cpu_devices|cuda_visible|rocm_visible|include_full_tracebacks)"
)
CANNOT_CHANGE_BITS_FLAG = r"--xla_(dump|hlo_profile|force_host_platform_device_count)"
ROOT = Path(__file__).parents[2]
GIT_SECONDS = 10
_AT_IMPORT = dict(jax.config.values)


def check_platform() -> None:
    """Starts jax's devices, and refuses platforms that this installation does not have.

    Raises:
      UserError: no device of the wanted platforms can be used.
    """
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        wanted = jax.config.values["jax_platforms"]
        if not wanted:
            raise
        reason = " ".join(str(error).split()).partition(" (set JAX_PLATFORMS")[0].rstrip(".")
        jax.config.update("jax_platforms", "")
        raise UserError(
            f"JAX_PLATFORMS={wanted} cannot be used{f' ({reason})' if reason else ''}: this "
            f"installation has {', '.join(sorted(jax.extend.backend.backends()))}; unset "
            "JAX_PLATFORMS, or install support for a GPU or a TPU with "
            "pip install 'loganneal-jax[cuda]' or 'loganneal-jax[tpu]'"
        ) from error


def environment() -> Environment:
    """Returns what a summary stores about the place and the command that computed a result.

    Returns:
      JSON values by name. `threads` is the number of threads among which a CPU divides the work,
      and None on other platforms. `jax_config` holds jax's switches that were set and can change
      bits. `commit` is None outside a clone.
    """
    device = jax.devices()[0]
    cpu_model, cpu_features = _cpu()
    return {
        "device": device.device_kind
        if device.platform != "cpu"
        else f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "platform": device.platform,
        "platform_version": str(device.client.platform_version),
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONS},
        },
        "cpu_model": cpu_model,
        "cpu_features": cpu_features,
        "affinity": _affinity(),
        "threads": _threads() if device.platform == "cpu" else None,
        "jax_config": _jax_config(),
        "xla_flags": _xla_flags(),
        "python_optimized": bool(sys.flags.optimize),
        "commit": _commit(),
        "command": _command(),
    }


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Compares two environments by what can change bits.

    Args:
      before: a result of `environment`, perhaps from another process.
      now: another one.

    Returns:
      The old and the new value of each difference, by name; None where there is no such value.

    >>> changed({"threads": 2, "affinity": [0, 1]}, {"threads": 1, "affinity": [0]})
    {'threads': [2, 1]}
    """
    old, new = _flat(before), _flat(now)
    return {
        name: [old.get(name), new.get(name)]
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    }


def record_change(
    changes: Sequence[Change],
    difference: Mapping[str, list[Any]],
    *,
    step: int,
    what: str,
    require_same: bool,
) -> list[Change]:
    """Adds a difference to the changes of a run so far, and prints a warning about it.

    Args:
      changes: the changes so far, oldest first.
      difference: the result of `changed`; nothing happens if it is empty.
      step: the step from which on the result is not bit-exact.
      what: what the old environment computed, for the message.
      require_same: whether to raise an error instead.

    Returns:
      The changes, with the new one at the end.

    Raises:
      UserError: there is a difference, and `require_same` is set.
    """
    if not difference:
        return list(changes)
    named = ", ".join(f"{name}: {old}, now {new}" for name, (old, new) in difference.items())
    if require_same:
        raise UserError(
            f"--require_same_environment: the environment differs from the one that computed "
            f"{what} ({named}); restore it, or resume without the flag"
        )
    print(
        f"warning: the environment differs from the one that computed {what} ({named}), so the "
        "result is not bit-exact; summary.json lists this under environment_changes",
        file=sys.stderr,
    )
    return [*changes, {"step": step, "changed": dict(difference)}]


def _flat(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the compared values, each setting and each instruction set under its own name."""
    flat: dict[str, Any] = {}
    for name in COMPARED:
        value = stored.get(name)
        if isinstance(value, Mapping):
            flat |= {f"{name}.{key}": each for key, each in value.items()}
        elif isinstance(value, list):
            flat |= {f"{name}.{each}": True for each in value}
        else:
            flat[name] = value
    if stored.get("platform") != "cpu":
        flat["device"] = stored.get("device")
    return flat


def _cpu() -> tuple[str, list[str]]:
    """Returns the model of the processor and its instruction sets, which only Linux lists."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), []
    fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", text, re.MULTILINE))
    words = (fields.get("flags") or fields.get("Features") or "").split()
    features = sorted(word for word in words if re.match(CPU_FEATURES, word))
    return fields.get("model name", platform.machine()), features


def _affinity() -> list[int] | None:
    """Returns the cores that this process may use, where the system can tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _threads() -> int:
    """Returns the number of threads of XLA's CPU client, by the rule of jaxlib's `cpu_client.cc`.

    The variable NPROC takes precedence over the cores that the process may use, and each device
    has at least one thread.
    """
    affinity = _affinity()
    available = len(affinity) if affinity else os.cpu_count() or 1
    return max(int(os.environ.get("NPROC", available)), jax.local_device_count())


def _jax_config() -> dict[str, Any]:
    """Returns jax's switches that the environment or code has set, and that can change bits."""
    return {
        name: value if isinstance(value, bool | int | float | str | None) else str(value)
        for name, value in sorted(jax.config.values.items())
        if name not in PINNED
        and not re.match(CANNOT_CHANGE_BITS, name)
        and (name.upper() in os.environ or value != _AT_IMPORT.get(name))
    }


def _xla_flags() -> str:
    """Returns the flags of XLA and of its TPU compiler, sorted, without those that only report."""
    flags = shlex.split(
        f"{os.environ.get('XLA_FLAGS', '')} {os.environ.get('LIBTPU_INIT_ARGS', '')}"
    )
    return " ".join(sorted(flag for flag in flags if not re.match(CANNOT_CHANGE_BITS_FLAG, flag)))


@functools.cache
def _commit() -> str | None:
    """Returns the commit of this clone, with `-dirty` after it if tracked files were changed."""
    if not (ROOT / ".git").exists():
        return None
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        process = subprocess.run(
            describe, cwd=ROOT, capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()


def _command() -> str:
    """Returns the command line of this process."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = f"python -m {spec.name}" if spec else shlex.quote(sys.argv[0])
    return f"{program} {shlex.join(sys.argv[1:])}".strip()
