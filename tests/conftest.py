"""Every test runs on eight virtual CPU devices, with silent rank promotion an error."""

import os
import tempfile

import chex
import jax

# Most of a test's time goes into compiling; code that runs for milliseconds need not be optimised.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
chex.set_n_cpu_devices(8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Keras is a peer of some tests, on the backend that is at hand. TensorFlow imports it too, so its
# backend is chosen before any test; and it would write that choice into the user's own config.
KERAS_HOME = tempfile.TemporaryDirectory()
os.environ["KERAS_BACKEND"] = "jax"
os.environ["KERAS_HOME"] = KERAS_HOME.name
