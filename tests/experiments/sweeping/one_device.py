"""Sweeps on one of the virtual devices, whose programs are compiled once for all tests."""

import contextlib

import jax
import pytest
from jax.sharding import AxisType

from experiments.sweeping import trials

_MADE = {}
_make_programs = trials.make_programs


def mesh_of(num_devices):
    devices = jax.devices()[:num_devices]
    return jax.make_mesh((num_devices,), ("trials",), (AxisType.Auto,), devices=devices)


def _programs(experiment, mesh, batched):
    key = (trials.program_of(experiment), mesh)
    if key not in _MADE:
        _MADE[key] = _make_programs(experiment, mesh, batched)
    return _MADE[key]


@contextlib.contextmanager
def one_device():
    """Runs sweeps on one device, with programs that are compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "make_mesh", lambda: mesh_of(1))
        patch.setattr(trials, "make_programs", _programs)
        yield
