"""Refuses a run that cannot fit into memory, before anything is compiled."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from experiments.build.experiment import Experiment
from experiments.build.fields import SMALLER
from experiments.data.records import Reader
from experiments.errors import UserError
from experiments.program import assemble, blocks, devices

# Results of these are stored, while the compiler may fuse all others into their consumers.
PRODUCTS = ("dot_general", "conv_general_dilated")


def check(
    experiment: Experiment,
    programs: assemble.Programs,
    test: Mapping[str, Any] | Reader,
    *,
    num_devices: int,
    num_processes: int = 1,
) -> None:
    """Compares the least memory that a run needs with the memory of a device.

    Args:
      experiment: the experiment.
      programs: its compiled programs; what is traced here is not traced again when they run.
      test: the split that is evaluated, in memory or on disk.
      num_devices: number of devices that share a step.
      num_processes: number of processes on this host that need as much.

    Raises:
      UserError: the run needs more memory than there is.
    """
    state, largest = least_bytes(experiment, programs, test, num_devices=num_devices)
    device = jax.local_devices()[0]
    # The virtual devices of a CPU share the memory of their host.
    copies = num_processes * (jax.local_device_count() if device.platform == "cpu" else 1)
    needed, available = copies * (state + largest), devices.memory_of(device)
    if needed > available:
        raise UserError(
            f"the run needs at least {needed / 1e9:.3g} GB ({copies * state / 1e9:.3g} GB of "
            f"parameters and optimizer state, and {copies * largest / 1e9:.3g} GB for the largest "
            f"gradient or activation), but there are {available / 1e9:.3g} GB of memory; "
            f"{SMALLER}{', or use fewer processes' if num_processes > 1 else ''}"
        )


def least_bytes(
    experiment: Experiment,
    programs: assemble.Programs,
    test: Mapping[str, Any] | Reader,
    *,
    num_devices: int,
) -> tuple[int, int]:
    """Returns a lower bound of the memory of one device.

    Args:
      experiment: the experiment.
      programs: its programs.
      test: the split that is evaluated, in memory or on disk.
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
    split = (test,) if isinstance(test, Mapping) else _block(experiment, test)
    jaxpr = evaluate.trace(state, *split).jaxpr
    largest = max((_bytes(product) for product in _products(jaxpr.jaxpr)), default=0)
    return _bytes(state), max(_bytes(state.params), largest // num_devices)


def _block(experiment: Experiment, test: Reader) -> tuple[Any, ...]:
    """Returns the shapes of what the evaluation of a data set on disk takes beyond the state."""
    layouts: Any = {**test.layouts, "mask": ((), "bool")}
    metrics = jax.eval_shape(experiment.task.no_evaluation)
    block = blocks.shapes(layouts, 1, experiment.batches.eval_batch_size)
    return metrics, block, jax.ShapeDtypeStruct((), np.int32)


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
