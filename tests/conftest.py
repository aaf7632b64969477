"""Every test runs on eight virtual CPU devices, with silent rank promotion an error."""

import os

# Most of a test's time goes into compiling; code that runs for milliseconds need not be optimised.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"

import chex
import jax

chex.set_n_cpu_devices(8)
jax.config.update("jax_numpy_rank_promotion", "raise")
