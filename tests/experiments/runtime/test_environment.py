"""A summary stores the hardware and the versions that its result came from."""

import json
import sys

import jax

from experiments.runtime.environment import environment


def test_environment_names_devices_and_versions():
    stored = environment()
    assert json.loads(json.dumps(stored)) == stored
    assert stored["platform"] == "cpu"
    assert stored["device"].endswith("cores")
    assert stored["device_count"] == jax.device_count()
    assert stored["process_count"] == 1
    python = ".".join(str(number) for number in sys.version_info[:3])
    assert stored["versions"]["python"] == python
    assert stored["versions"]["jax"] == jax.__version__
    assert {"jaxlib", "flax", "optax", "orbax-checkpoint", "clu", "numpy"} <= {*stored["versions"]}
