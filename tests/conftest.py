"""Runs every test on eight virtual CPU devices, where silent rank promotion is an error."""

import os
import tempfile

import chex
import jax

# Compiling takes most of a test's time, and code that runs for milliseconds need not be optimized.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
chex.set_n_cpu_devices(8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Some tests compare with Keras, which TensorFlow imports too. So choose its backend before any
# test, and keep Keras from storing that choice in the user's own config.
KERAS_HOME = tempfile.TemporaryDirectory()
os.environ["KERAS_BACKEND"] = "jax"
os.environ["KERAS_HOME"] = KERAS_HOME.name
