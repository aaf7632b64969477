"""Every test runs on eight virtual CPU devices, with silent rank promotion an error."""

import chex
import jax

chex.set_n_cpu_devices(8)
jax.config.update("jax_numpy_rank_promotion", "raise")
