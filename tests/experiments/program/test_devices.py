"""The memory of a device."""

import jax

from experiments.program import devices


def test_memory_of_a_cpu_is_that_of_its_host(tmp_path, monkeypatch):
    device = jax.devices("cpu")[0]
    monkeypatch.setattr(devices, "CGROUP_LIMIT", tmp_path / "memory.max")
    physical = devices.memory_of(device)
    assert physical > 2**28
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.memory_of(device) == physical
    (tmp_path / "memory.max").write_text("1000000\n")
    assert devices.memory_of(device) == 1_000_000
