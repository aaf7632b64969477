"""What devices have."""

import os
from pathlib import Path

import jax

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def memory_of(device: jax.Device) -> int:
    """Returns the memory of a device in bytes; for a CPU, the memory that its host allows."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if device.platform != "cpu":
        return 2**63 - 1  # unknown
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return physical if limit == "max" else min(physical, int(limit))
