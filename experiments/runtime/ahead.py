"""Compiles the training program in a thread, while the run prepares everything else.

XLA compiles without holding Python's lock. So on two cores, the initialization and the restoring of
a checkpoint take no time of their own.
"""

import ctypes
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from experiments.program.assemble import Programs
from experiments.program.state import key_data


def compile_training(
    programs: Programs, train: Mapping[str, jax.Array], replicated: jax.sharding.Sharding
) -> Callable[[], None]:
    """Starts to compile the training program.

    Several processes compile in one order, because their compilers may wait for each other. The
    programs of pmap cannot be compiled without running them.

    Args:
      programs: the compiled programs of a run; the first call of `train` finds this compilation.
      train: the training split, on the devices.
      replicated: the sharding of the state and the split.

    Returns:
      A function that waits until the program is compiled, and raises what the compiler raised.
    """
    if jax.process_count() > 1 or not hasattr(programs.train, "lower"):
        return lambda: None

    def shapes(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated),
            tree,
        )

    def compile_() -> None:
        state = jax.eval_shape(programs.init, key_data(0))
        order = jax.eval_shape(programs.order, state)
        count = jax.ShapeDtypeStruct((), np.int32)
        train_steps: Any = programs.train  # a jitted function
        train_steps.lower(*map(shapes, (state, dict(train), order, count))).compile()
        release_freed_memory()

    executor = ThreadPoolExecutor(1, "compile")
    compilation = executor.submit(compile_)
    executor.shutdown(wait=False)
    return compilation.result


def release_freed_memory() -> None:
    """Returns memory that was freed to the operating system.

    glibc keeps the small pieces that the compiler freed, about 430 MB for ResNet-18 on a CPU. The
    arrays of the program do not fit into them, so they would add to the peak of the run. Other C
    libraries are left alone.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
