"""Refuses a run that cannot fit into memory, before anything is compiled."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.build.experiment import Experiment
from experiments.build.fields import SMALLER
from experiments.errors import UserError
from experiments.program import assemble

# Results of these are stored, while the compiler may fuse all others into their consumers.
PRODUCTS = ("dot_general", "conv_general_dilated")
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def check(
    experiment: Experiment,
    programs: assemble.Programs,
    test: Mapping[str, Any],
    *,
    num_devices: int,
) -> None:
    """Compares the least memory that a run needs with the memory of a device.

    Args:
      experiment: the experiment.
      programs: its compiled programs; what is traced here is not traced again when they run.
      test: the split that is evaluated.
      num_devices: number of devices that share a step.

    Raises:
      UserError: the run needs more memory than there is.
    """
    state, largest = least_bytes(experiment, programs, test, num_devices=num_devices)
    device = jax.local_devices()[0]
    # The virtual devices of a CPU share the memory of their host.
    copies = jax.local_device_count() if device.platform == "cpu" else 1
    needed, available = copies * (state + largest), bytes_of(device)
    if needed > available:
        raise UserError(
            f"the run needs at least {needed / 1e9:.3g} GB ({copies * state / 1e9:.3g} GB of "
            f"parameters and optimizer state, and {copies * largest / 1e9:.3g} GB for the largest "
            f"gradient or activation), but there are {available / 1e9:.3g} GB of memory; "
            f"{SMALLER}"
        )


def least_bytes(
    experiment: Experiment,
    programs: assemble.Programs,
    test: Mapping[str, Any],
    *,
    num_devices: int,
) -> tuple[int, int]:
    """Returns a lower bound of the memory of one device.

    Args:
      experiment: the experiment.
      programs: its programs.
      test: the split that is evaluated.
      num_devices: number of devices that share a step.

    Returns:
      The bytes of the state, and the bytes of its gradient or of the largest result of a product
      in evaluation, whichever are more. With pmap, evaluation does not count.
    """
    key_data = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    state = jax.eval_shape(programs.init, key_data)
    if experiment.strategy == "pmap":  # its programs cannot be traced without running them
        return _bytes(state), _bytes(state.params)
    evaluate: Any = programs.evaluate  # a jitted function
    jaxpr = evaluate.trace(state, test).jaxpr
    largest = max((_bytes(product) for product in _products(jaxpr.jaxpr)), default=0)
    return _bytes(state), max(_bytes(state.params), largest // num_devices)


def bytes_of(device: jax.Device) -> int:
    """Returns the memory of a device in bytes; for a CPU, the memory that its host allows."""
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return int(stats["bytes_limit"])
    if device.platform != "cpu":
        return 2**63 - 1  # unknown
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.exists() else "max"
    return physical if limit == "max" else min(physical, int(limit))


def _products(jaxpr: Any) -> Iterator[Any]:
    """Yields the results of all products in a program and in its inner programs."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in PRODUCTS:
            yield [variable.aval for variable in equation.outvars]
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda value: hasattr(value, "eqns")
        ):
            closed = getattr(inner, "jaxpr", inner)
            if hasattr(closed, "eqns"):
                yield from _products(closed)


def _bytes(tree: Any) -> int:
    return sum(
        math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(tree)
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    )
