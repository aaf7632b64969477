"""The hardware and software that a result came from."""

import importlib.metadata
import os
import platform
from typing import Any

import jax

VERSIONS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "clu", "numpy")


def environment() -> dict[str, Any]:
    """Returns the devices, the number of processes, and the versions, as a summary stores them."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind
        if device.platform != "cpu"
        else f"{platform.machine()} CPU, {os.cpu_count()} cores",
        "platform": device.platform,
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONS},
        },
    }
